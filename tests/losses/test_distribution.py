import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.losses import cafe_discrimination, maximum_mean_discrepancy, mean_feature_matching

discrepancy = jax.jit(maximum_mean_discrepancy, static_argnames="kernel")
feature_means = jax.jit(mean_feature_matching, static_argnames="weights")
discriminated = jax.jit(cafe_discrimination)


def normal(rng, *shape, dtype=np.float32):
    return rng.normal(size=shape).astype(dtype)


def wide_and_narrow(rng):
    """Two batches with the same mean, the second with a third of the spread."""
    x = np.array(rng.normal(size=(40, 6)), np.float32)
    return x, x.mean(0) + (x - x.mean(0)) / 3


def test_mean_features_equal_the_formula(rng):
    real, synthetic = normal(rng, 17, 4, 4, 3), normal(rng, 5, 4, 4, 3)
    expected = ((np.float64(real).mean(0) - np.float64(synthetic).mean(0)) ** 2).sum()
    np.testing.assert_allclose(feature_means(real, synthetic), expected, rtol=1e-5)


def test_layers_are_summed_by_weight(rng):
    real = (normal(rng, 9, 4, 4, 2), normal(rng, 9, 7))
    synthetic = (normal(rng, 2, 4, 4, 2), normal(rng, 2, 7))
    first, second = (float(feature_means(r, s)) for r, s in zip(real, synthetic, strict=True))
    np.testing.assert_allclose(feature_means(real, synthetic), first + second, rtol=1e-6)
    weighted = feature_means(real, synthetic, weights=(0.1, 1.0))
    np.testing.assert_allclose(weighted, 0.1 * first + second, rtol=1e-6)


def test_means_of_half_precision_are_taken_in_single(rng):
    real = normal(rng, 256, 8)
    rough = real.astype(jnp.bfloat16)
    exact = np.float64(rough).mean(0)
    np.testing.assert_allclose(feature_means(rough, np.zeros((1, 8), np.float32)), (exact**2).sum(), rtol=1e-5)


def test_means_are_blind_to_a_variance_that_kernels_see(rng):
    wide, narrow = wide_and_narrow(rng)
    assert feature_means(wide, narrow) < 1e-10
    assert discrepancy(wide, narrow, kernel="linear") < 1e-10
    assert discrepancy(wide, narrow) > 0.01
    assert discrepancy(wide, narrow, kernel="laplacian") > 0.01


def direct(real, synthetic, kernel, bandwidth):
    """The three means, pair by pair."""
    real, synthetic = (np.float64(x).reshape(len(x), -1) for x in (real, synthetic))
    if bandwidth is None:
        pool = np.concatenate([real, synthetic])
        bandwidth = np.median([np.linalg.norm(pool[i] - pool[j]) for i in range(len(pool)) for j in range(i)])
    kernels = {
        "linear": lambda x, y: x @ y,
        "gaussian": lambda x, y: np.exp(-((x - y) ** 2).sum() / (2 * bandwidth**2)),
        "laplacian": lambda x, y: np.exp(-np.linalg.norm(x - y) / bandwidth),
    }

    def mean(a, b):
        return np.mean([[kernels[kernel](x, y) for y in b] for x in a])

    return mean(real, real) + mean(synthetic, synthetic) - 2 * mean(real, synthetic)


# The median of an odd number of distances (10 choose 2), and that of an even one (8 choose 2).
@pytest.mark.parametrize("m", [3, 1])
@pytest.mark.parametrize(
    ("kernel", "bandwidth"),
    [("linear", None), ("gaussian", None), ("gaussian", 2.0), ("laplacian", None), ("laplacian", 0.7)],
)
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_discrepancy_equals_the_formula(rng, kernel, bandwidth, m, offset):
    real, synthetic = np.float32(offset) + normal(rng, 7, 2, 3), np.float32(offset + 0.5) + normal(rng, m, 2, 3)
    value = discrepancy(real, synthetic, kernel=kernel, bandwidth=bandwidth)
    np.testing.assert_allclose(value, direct(real, synthetic, kernel, bandwidth), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", ["linear", "gaussian", "laplacian"])
def test_discrepancy_vanishes_for_equal_batches_only(rng, kernel):
    real = normal(rng, 12, 5)
    assert abs(discrepancy(real, real[::-1], kernel=kernel)) < 1e-6
    assert discrepancy(real, real + np.float32(np.arange(12) == 0)[:, None], kernel=kernel) > 1e-3


def test_the_median_is_a_constant(rng):
    real, synthetic = normal(rng, 6, 3), normal(rng, 4, 3)
    pool = np.concatenate([real, synthetic])
    median = float(np.median([np.linalg.norm(pool[i] - pool[j]) for i in range(10) for j in range(i)]))
    slopes = jax.jit(jax.grad(maximum_mean_discrepancy, (0, 1)))
    heuristic, fixed = (slopes(real, synthetic, bandwidth=b) for b in (None, median))
    np.testing.assert_allclose(np.concatenate(heuristic), np.concatenate(fixed), atol=1e-6)


def discrimination(real, labels, synthetic):
    logits = np.float64(real) @ np.float64(synthetic).mean(1).T
    return (
        np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, np.asarray(labels)[..., None], -1)[..., 0]
    ).sum()


def test_discrimination_equals_the_formula(rng):
    real, synthetic = normal(rng, 3, 8, 5), normal(rng, 3, 2, 5)
    labels = np.broadcast_to(np.arange(3)[:, None], (3, 8))
    expected = discrimination(real, labels, synthetic)
    np.testing.assert_allclose(discriminated(real, labels, synthetic), expected, rtol=1e-5)
    mixed = discriminated(real.reshape(24, 5), labels.reshape(24), synthetic)
    np.testing.assert_allclose(mixed, expected, rtol=1e-5)


def test_discrimination_falls_as_the_centres_part(rng):
    eye = np.eye(3, dtype=np.float32)[:, None]
    directions = eye + np.float32(0.1) * normal(rng, 3, 4, 3)
    labels = np.broadcast_to(np.arange(3)[:, None], (3, 4))
    apart, alike = (discriminated(directions, labels, centres) for centres in (10 * eye, np.ones_like(eye)))
    np.testing.assert_allclose(alike, 12 * np.log(3), rtol=1e-5)
    assert apart < 0.1 * alike
    assert discriminated(directions, labels, 10 * eye[::-1]) > alike


LOSSES = {
    "mean": mean_feature_matching,
    "gaussian": maximum_mean_discrepancy,
    "laplacian": lambda r, s: maximum_mean_discrepancy(r, s, kernel="laplacian"),
    "discrimination": lambda r, s: cafe_discrimination(r, np.arange(len(r)) % len(s), s[:, None]),
}
SLOPES = {name: jax.jit(jax.value_and_grad(loss, (0, 1))) for name, loss in LOSSES.items()}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("case", ["equal", "zero", "one point", "a row of the other", "huge", "one each"])
def test_gradients_are_finite(rng, name, case):
    x = normal(rng, 6, 4)
    real, synthetic = {
        "equal": (x, x),
        "zero": (x, np.zeros_like(x)),
        "one point": (np.ones_like(x), np.ones_like(x)),
        "a row of the other": (x, np.concatenate([x[:1], np.tile(x[:1], (5, 1))])),
        "huge": (np.float32(1e8) * x, x),
        "one each": (x[:1], x[:1]),
    }[case]
    value, slopes = SLOPES[name](real, synthetic)
    assert np.isfinite(value)
    assert all(np.isfinite(slope).all() for slope in slopes)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(rng, x64, name):
    with x64():
        real, synthetic = normal(rng, 6, 4, dtype=np.float64), normal(rng, 3, 4, dtype=np.float64)
        # The median heuristic is left out: it is a constant for the gradient, but not for a difference.
        loss = {
            "gaussian": lambda r, s: maximum_mean_discrepancy(r, s, bandwidth=1.5),
            "laplacian": lambda r, s: maximum_mean_discrepancy(r, s, kernel="laplacian", bandwidth=1.5),
        }.get(name, LOSSES[name])
        both = jax.jit(jax.value_and_grad(loss, (0, 1)))
        along = [normal(rng, *x.shape, dtype=np.float64) for x in (real, synthetic)]
        slopes = map(np.asarray, both(real, synthetic)[1])
        up, down = (float(both(real + h * along[0], synthetic + h * along[1])[0]) for h in (1e-6, -1e-6))
        by_slopes = sum((slope * d).sum() for slope, d in zip(slopes, along, strict=True))
        np.testing.assert_allclose(by_slopes, (up - down) / 2e-6, rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_vmap_over_classes_is_a_loop(rng, name):
    real, synthetic = normal(rng, 3, 6, 4), normal(rng, 3, 2, 4)
    loss = jax.jit(LOSSES[name])
    loop = [loss(r, s) for r, s in zip(real, synthetic, strict=True)]
    np.testing.assert_allclose(jax.jit(jax.vmap(loss))(real, synthetic), loop, rtol=1e-5, atol=1e-7)


X = jnp.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_feature_matching(X, jnp.ones((2, 4))), "examples of the same shape"),
        (lambda: mean_feature_matching(X, jnp.ones((0, 3))), "non-empty"),
        (lambda: mean_feature_matching(X, jnp.float32(1)), "non-empty"),
        (lambda: mean_feature_matching((), ()), "the same structure"),
        (lambda: mean_feature_matching((X, X), (X,)), "the same structure"),
        (lambda: mean_feature_matching((X, X), (X, X), weights=(1.0,)), "the same structure"),
        (lambda: maximum_mean_discrepancy(X, jnp.ones((2, 4))), "examples of the same shape"),
        (lambda: maximum_mean_discrepancy(X, X, kernel="rbf"), "unknown kernel 'rbf'; known: linear, gaussian, lapl"),
        (lambda: maximum_mean_discrepancy(X, X, kernel="linear", bandwidth=1.0), "no bandwidth"),
        (lambda: maximum_mean_discrepancy(X, X, bandwidth=0.0), "bandwidth must be positive"),
        (lambda: cafe_discrimination(X, jnp.zeros(2, int), X), r"must be of shape \(classes, ipc, d\)"),
        (lambda: cafe_discrimination(X, jnp.zeros(2, int), jnp.ones((2, 1, 4))), "must be of shape"),
        (lambda: cafe_discrimination(X, jnp.zeros(3, int), jnp.ones((2, 1, 3))), "labels must be integers"),
        (lambda: cafe_discrimination(X, jnp.zeros(2), jnp.ones((2, 1, 3))), "labels must be integers"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
