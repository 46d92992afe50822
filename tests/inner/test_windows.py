"""Windows of differentiable steps that follow how training goes."""

import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.errors import JaxddError
from jaxdd.inner import adaptive_windows, placed_windows

TOTAL, WINDOW, SPREAD = 9, 4, 2
NORMS = np.float32([1.0, 2.5, 0.5, 0.5, 2.0, 0.1, 1.5, 2.4, 2.2])
DRAWS = 4000


def adaptive(steps=1, **options):
    return adaptive_windows(steps, WINDOW, SPREAD, TOTAL, **{"patience": (2, 3), **options})


def expected(stage):
    """The probability of each window, by loops over steps."""
    weights = [np.exp(float(norm)) for norm in NORMS]
    changes = [0.0] + [abs(float(b) - float(a)) for a, b in itertools.pairwise(NORMS)]
    found = collections.Counter()
    if stage == 2:
        return {(start, WINDOW + SPREAD): 1 / 4 for start in range(4)}
    for s in range(TOTAL):
        if stage == 1:
            length = int(WINDOW - SPREAD + 2 * SPREAD * sorted(changes).index(changes[s]) / TOTAL)
            start = s if s + length <= TOTAL else TOTAL - length
        else:
            length = WINDOW - SPREAD
            start = max(TOTAL - s - length, 0)
        found[start, length] += weights[s] / sum(weights)
    return found


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_windows_are_as_likely_as_the_norms_say(stage):
    """In the first stage at large gradients, and longer where these change much; mirrored in the third."""
    windows = adaptive()
    kept = windows.init()._replace(stage=jnp.int32(stage))

    @jax.jit
    @jax.vmap
    def drawn(key):
        after = windows.begin(key, kept, lambda key: jnp.asarray(NORMS))
        return windows.place(key, after, TOTAL)

    found = collections.Counter(
        zip(*np.asarray(drawn(jax.random.split(jax.random.key(0), DRAWS))).tolist(), strict=True)
    )
    likely = expected(stage)
    assert set(found) <= set(likely)
    assert all(start >= 0 and start + length <= TOTAL and length <= windows.longest for start, length in found)
    for window, share in likely.items():
        assert abs(found[window] / DRAWS - share) < 4 * np.sqrt(share * (1 - share) / DRAWS), window


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_windows_in_double_precision(x64, stage):
    windows = adaptive()
    with x64():
        kept = windows.init()._replace(stage=jnp.int32(stage))
        found = jax.eval_shape(lambda key: windows.begin(key, kept, lambda key: jnp.asarray(NORMS)), jax.random.key(0))
    assert (found.prefix.dtype, found.length.dtype) == (jnp.int32, jnp.int32)


@pytest.mark.parametrize("smoothing", [0.0, 0.4])
def test_stages_end_when_accuracy_has_stopped_to_rise(smoothing):
    """Each window serves two updates; what counts is the mean over them, or its moving average."""
    windows = adaptive(steps=2, smoothing=smoothing)
    rng = np.random.default_rng(0)
    rises = [0.3, 0.02, 0.01, 0.02, 0.014, -0.1, 0.012, 0.009, 0.0, 0.011, 0.0, -0.01, 0.009, 0.5, 0.0, 0.0, 0.0]
    means = np.cumsum(rises)
    noise = rng.normal(size=len(means)) * 0.05
    seen = np.stack([means - noise, means + noise], 1)

    stages, stage, still, before = [], 1, 0, 0.0
    for mean in means:
        stages += [stage, stage]
        mean = mean if not before else smoothing * before + (1 - smoothing) * mean
        if stage < 3:
            still = still + 1 if mean - before < (0.015, 0.01)[stage - 1] else 0
            if still == (2, 3)[stage - 1]:
                stage, still = stage + 1, 0
        before = mean

    def step(kept, key_and_accuracy):
        key, accuracy = key_and_accuracy
        kept = windows.begin(key, kept, lambda key: jnp.asarray(NORMS))
        return windows.end(kept, accuracy), windows.facts(kept)

    keys = jax.random.split(jax.random.key(1), 2 * len(means))
    _, facts = jax.jit(lambda accuracies: jax.lax.scan(step, windows.init(), (keys, accuracies)))(
        jnp.float32(seen.ravel())
    )
    np.testing.assert_array_equal(facts["stage"], stages)
    assert set(stages) == {1, 2, 3}
    places = np.stack([facts["window_start"], facts["window_length"]], 1).reshape(-1, 2, 2)
    np.testing.assert_array_equal(places[:, 0], places[:, 1])  # the same for both updates
    assert len(np.unique(places[:, 0], axis=0)) > 4


@pytest.mark.parametrize(("window", "spread"), [(4, 4), (8, 2)])
def test_windows_that_do_not_fit(window, spread):
    with pytest.raises(JaxddError, match=f"windows of {window} - {spread} to {window} \\+ {spread} steps must have at"):
        adaptive_windows(1, window, spread, TOTAL, patience=(1, 1))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: adaptive_windows(0, 4, 1, 9, patience=(1, 1)), "steps of adaptive windows must be an integer of at l"),
        (lambda: adaptive_windows(1, 4.5, 1, 9, patience=(1, 1)), "window of adaptive windows must be an integer"),
        (lambda: adaptive_windows(1, 3, -1, 9, patience=(1, 1)), "spread of adaptive windows must be an integer of at"),
        (lambda: adaptive_windows(1, 4, 1, 9, patience=(0.15, 1)), "patience of adaptive windows must be an integer"),
        (lambda: adaptive_windows(1, 4, 1, 9, patience=(1, 1), smoothing=1.0), "smoothing of adaptive windows must be"),
        (lambda: placed_windows("rand", 4), "unknown place of a window 'rand'; did you mean 'random'"),
        (lambda: placed_windows("last", 0), "the steps of a window must be an integer of at least 1"),
    ],
)
def test_bad_windows_are_one_sentence(make, sentence):
    with pytest.raises(JaxddError, match=sentence):
        make()


def test_a_stage_may_have_any_patience():
    """More windows than an int32 counts."""
    windows = adaptive(patience=(10**12, 1))
    assert windows.end(windows.init(), jnp.float32(0)).still == 1


def test_placed_windows_carry_nothing():
    windows = placed_windows("fixed", 3, start=2)
    kept = windows.begin(jax.random.key(0), windows.init(), None)
    assert windows.place(jax.random.key(0), windows.end(kept, 0.5), 9) == (2, None)
    assert (windows.longest, kept, windows.facts(kept)) == (3, (), {})
