"""AT-BPTT: windows of a long inner training by Adam, where its gradients say."""

import by_hand
import jax
import numpy as np
import pytest
import toys

from jaxdd import inner, methods, models
from jaxdd.errors import JaxddError

MLP = "mlp(width=8, depth=1)"
OPTIONS = {
    "model": MLP, "ipc": 2, "steps": 6, "window": 3, "spread": 2, "every": 2, "per_class": 1, "augmentation": "none",
    "inner_learning_rate": 0.02, "target_batch": 20, "block": 10, "learning_rate": 0.03,
}  # fmt: skip


def in_training(params, key_network, key_plan, window, batch):
    """The loss after the steps up to the window's end, and the norm of each step's gradient up to there."""
    network = models.build(MLP, (14, 14, 1), 4)
    plan = inner.balanced_plan(key_plan, 4, 2, 1, steps=6)
    real = batch.images, jax.nn.one_hot(batch.labels, 4)
    theta, _ = network.init(key_network)
    return by_hand.through_a_window(network, params, plan, window, theta, real, 0.02)


@jax.jit
def place(params, key, batch):
    """Which step is drawn, and the norms, of the update that chooses a window."""
    key_norms, key_place = jax.random.split(jax.random.fold_in(key, 1))
    key_network, key_plan, _ = jax.random.split(key_norms, 3)
    _, norms = in_training(params, key_network, key_plan, (0, 6), batch)
    return jax.random.categorical(key_place, norms), norms


@jax.jit
@jax.value_and_grad
def plainly(params, key, window, batch):
    key_network, key_train = jax.random.split(jax.random.split(key, 1)[0])
    return in_training(params, key_network, jax.random.split(key_train)[0], window, batch)[0]


def test_updates_are_those_of_the_formula(digits):
    """A window of 1 + floor(4 r / 6) steps from a step that is drawn by the norms, for two updates each."""
    done = toys.updates(toys.build("at_bptt", **OPTIONS), digits, count=3, seed=6)
    adam, lengths = {"images": by_hand.Adam()}, []
    for step, update in enumerate(done):
        if step % 2 == 0:
            start, norms = jax.device_get(place(update.before.params, update.key, update.batch))
            change = np.abs(np.diff(np.float32(norms), prepend=norms[0]))
            length = 1 + 4 * int(np.sum(change < change[start])) // 6
            window = int(min(start, 6 - length)), int(length)
            lengths.append(length)
        assert (update.metrics["window_start"], update.metrics["window_length"]) == window
        loss, slopes = plainly(update.before.params, update.key, window, update.batch)
        assert float(update.metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
        by_hand.assert_stepped(update, {"images": slopes["images"]}, adam, {"images": 0.03})
        kept = update.after.windows
        assert (kept.stage, kept.updates) == (1, (step + 1) % 2)
    accuracies = [float(update.metrics["batch_accuracy"]) for update in done]
    assert float(kept.before) == pytest.approx(np.mean(accuracies[:2]), abs=1e-6)
    assert float(kept.accuracy) == pytest.approx(accuracies[2], abs=1e-6)
    assert len(set(lengths)) == 2, "two lengths, so that they are seen to matter"


def test_what_is_carried_goes_on_after_a_stop(digits, tmp_path):
    """In the middle of a window, of the second stage."""
    method = toys.build("at_bptt", **OPTIONS, rises=(0.9, 0.9), patience=(0.1, 1.0))
    whole = toys.run(method, digits, steps=5)
    toys.run(method, digits, steps=3, workdir=tmp_path)
    resumed = toys.run(method, digits, steps=5, workdir=tmp_path, resume=True)
    assert resumed.resumed_from == 3
    toys.assert_same(resumed.state, whole.state)
    assert whole.state.windows.stage == 2 and whole.state.windows.updates == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"window": 195}, "window of ATBPTT must be from 1 to steps - spread, 190"),
        ({"spread": 40}, "spread of ATBPTT must be below window, 40"),
        ({"every": 0}, "every of ATBPTT must be at least 1"),
        ({"rises": (0.1, -0.1)}, "rises of ATBPTT must be at least 0 and under 1 in every element"),
        ({"patience": (0.1, 0.0)}, "patience of ATBPTT must be more than 0"),
    ],
)
def test_bad_hyper_parameters_say_what_would_be_right(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build("at_bptt", **options)


def test_a_patience_that_is_whole_is_not_rounded_up(monkeypatch):
    """0.07 * 100 is 7.000000000000001 in floats."""
    seen, made = [], inner.adaptive_windows
    monkeypatch.setattr(inner, "adaptive_windows", lambda *args, **kw: seen.append(kw["patience"]) or made(*args, **kw))
    methods.build("at_bptt", steps=100, patience=(0.07, 0.125))
    assert seen == [(7, 13)]
