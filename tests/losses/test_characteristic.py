import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdd.losses import characteristic_function_matching, frequency_sampler, l2_normalize, mean_feature_matching

WEIGHTS = ((0.5, 0.5), (0.9, 0.1), (0.1, 0.9), (1.0, 0.0), (0.0, 1.0))


def weighted(weights):
    amplitude, phase = weights
    return functools.partial(characteristic_function_matching, amplitude_weight=amplitude, phase_weight=phase)


matching = jax.jit(characteristic_function_matching)
SLOPES = {weights: jax.jit(jax.value_and_grad(weighted(weights), (0, 1, 2))) for weights in WEIGHTS}


def normal(rng, *shape, dtype=np.float32):
    return rng.normal(size=shape).astype(dtype)


def formula(real, synthetic, frequencies, a, b):
    """As it is written, amplitudes and phases apart, in complex numbers."""
    p, q = (np.exp(1j * np.float64(frequencies) @ np.float64(f).T).mean(1) for f in (real, synthetic))
    amplitude = (np.abs(p) - np.abs(q)) ** 2
    phase = 2 * (np.abs(p) * np.abs(q) - (p * q.conj()).real)
    return np.sqrt(a * amplitude + b * np.maximum(phase, 1e-12)).mean()


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("near", [1.0, 1e-3])
def test_equals_the_formula(rng, weights, near):
    real, frequencies = normal(rng, 30, 8), normal(rng, 64, 8)
    synthetic = real[:10] + np.float32(near) * normal(rng, 10, 8)
    real = real if near == 1 else real[:10]
    value, _ = SLOPES[weights](real, synthetic, frequencies)
    # Near, the whole loss is 1e-3 of its terms, each of them 1.
    expected = formula(real, synthetic, frequencies, *weights)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=0 if near == 1 else 1e-6)


def test_vanishes_for_equal_batches_only(rng):
    real, frequencies = normal(rng, 12, 5), normal(rng, 128, 5)
    assert matching(real, real[::-1], frequencies) < 1e-6
    assert matching(real, real + np.float32(np.arange(12) == 0)[:, None], frequencies) > 1e-2


def test_sees_a_variance_that_means_do_not(rng):
    wide = normal(rng, 40, 6)
    narrow = wide.mean(0) + (wide - wide.mean(0)) / 3
    assert jax.jit(mean_feature_matching)(wide, narrow) < 1e-10
    assert matching(wide, narrow, normal(rng, 64, 6)) > 0.1


def test_a_shift_moves_phases_alone(rng):
    real, frequencies = normal(rng, 20, 4), normal(rng, 64, 4)
    shifted = real + np.float32(0.3)
    amplitude, phase = (SLOPES[weights](real, shifted, frequencies)[0] for weights in ((1.0, 0.0), (0.0, 1.0)))
    assert amplitude < 1e-5 and phase > 0.1


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("case", ["equal", "zero features", "zero frequencies", "characteristic function of zero"])
def test_gradients_are_finite(rng, weights, case):
    x, t = normal(rng, 6, 4), normal(rng, 8, 4)
    real, synthetic, frequencies = {
        "equal": (x, x, t),
        "zero features": (x, np.zeros_like(x), t),
        "zero frequencies": (x, x[::-1] + 1, t * np.float32(np.arange(8) >= 4)[:, None]),
        "characteristic function of zero": (
            np.zeros((1, 1), np.float32),
            np.float32([[np.pi / 2], [-np.pi / 2]]),
            np.ones((1, 1), np.float32),
        ),
    }[case]

    value, slopes = SLOPES[weights](real, synthetic, frequencies)
    assert np.isfinite(value)
    assert all(np.isfinite(slope).all() for slope in slopes)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.9, 0.1), (0.1, 0.9)])
def test_gradients_are_those_of_finite_differences(rng, x64, weights):
    with x64():
        arrays = [normal(rng, n, 4, dtype=np.float64) for n in (6, 3, 8)]
        along = [normal(rng, *each.shape, dtype=np.float64) for each in arrays]
        slopes = map(np.asarray, SLOPES[weights](*arrays)[1])
        up, down = (
            float(SLOPES[weights](*(x + h * d for x, d in zip(arrays, along, strict=True)))[0]) for h in (1e-6, -1e-6)
        )
        by_slopes = sum((slope * d).sum() for slope, d in zip(slopes, along, strict=True))
        np.testing.assert_allclose(by_slopes, (up - down) / 2e-6, rtol=1e-5)


def test_vmap_over_classes_is_a_loop(rng):
    real, synthetic, frequencies = normal(rng, 3, 6, 4), normal(rng, 3, 2, 4), normal(rng, 16, 4)
    loop = [matching(r, s, frequencies) for r, s in zip(real, synthetic, strict=True)]
    np.testing.assert_allclose(jax.jit(jax.vmap(matching, (0, 0, None)))(real, synthetic, frequencies), loop, rtol=1e-5)


def test_frequencies_equal_a_network_written_out(key):
    sampler = frequency_sampler(scale=2.0)
    params, x = jax.jit(lambda key, other: (sampler.init(key, 5), jax.random.normal(other, (50, 5))))(
        key, jax.random.key(1)
    )
    scale, bias = np.arange(1, 6, dtype=np.float32), np.arange(5, dtype=np.float32)
    params["dense_1"] = {**params["dense_1"], "scale": scale, "bias": bias}
    x = np.float64(x)
    for i, activation in enumerate([lambda x: np.maximum(x, 0.2 * x)] * 2 + [lambda x: 2 * np.tanh(x)]):
        layer = params[f"dense_{i}"]
        x = x @ np.float64(layer["kernel"])
        x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * np.float64(layer["scale"]) + np.float64(layer["bias"])
        x = activation(x)
    drawn = jax.jit(sampler.sample, static_argnums=2)(params, jax.random.key(1), 50)
    np.testing.assert_allclose(drawn, x, atol=2e-5)


def test_frequencies_are_bounded_and_follow_the_key(key):
    sampler = frequency_sampler(scale=3.0)
    params = jax.jit(sampler.init, static_argnums=1)(key, 6)
    sample = jax.jit(lambda key: sampler.sample(params, key, 200))
    drawn = np.asarray(sample(key))
    assert drawn.shape == (200, 6) and 2 < abs(drawn).max() <= 3
    np.testing.assert_array_equal(drawn, sample(key))
    assert np.abs(drawn - sample(jax.random.key(1))).max() > 1


def test_ascent_finds_frequencies_that_tell_more(rng, key):
    """On frequencies not trained on; the batches differ in the spread of one feature out of eight."""
    real = normal(rng, 128, 8)
    synthetic = real * np.float32([0.2] + 7 * [1])[None]
    real, synthetic = map(jax.jit(l2_normalize), (real, synthetic))
    sampler = frequency_sampler(scale=3.0)
    optimizer = optax.adam(0.01)

    @jax.jit
    def loss(params, key):
        return characteristic_function_matching(real, synthetic, sampler.sample(params, key, 256))

    def ascend(state, key):
        params, moments = state
        slope = jax.grad(lambda params: -loss(params, key))(params)
        updates, moments = optimizer.update(slope, moments)
        return (optax.apply_updates(params, updates), moments), None

    @jax.jit
    def both(key):
        params = sampler.init(key, 8)
        (trained, _), _ = jax.lax.scan(ascend, (params, optimizer.init(params)), jax.random.split(key, 60))
        return params, trained

    params, trained = both(key)
    held_out = jax.random.key(7)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained))
    assert loss(trained, held_out) > 1.3 * loss(params, held_out)


X = jnp.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: characteristic_function_matching(X, X, jnp.ones((5, 4))), r"must be \(b, d\), \(m, d\) and \(k, d\)"),
        (lambda: characteristic_function_matching(X, jnp.ones((2, 4)), X), "with one d"),
        (lambda: characteristic_function_matching(X, X[0], X), "with one d"),
        (lambda: characteristic_function_matching(X, X[:0], X), "not empty"),
        (lambda: characteristic_function_matching(X, X, X, phase_weight=-1), "must not be negative"),
        (lambda: frequency_sampler(scale=0), "scale must be positive"),
        (lambda: frequency_sampler().sample({}, None, 1), "count must be at least 2"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
