import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.losses import attention_map, attention_matching, l2_normalize, mean_feature_matching

EXPONENTS = (0.5, 1, 1.5, 4.0)
attend = jax.jit(attention_map, static_argnums=1)
matching = jax.jit(attention_matching, static_argnums=2)
SLOPES = jax.jit(jax.value_and_grad(attention_matching, (0, 1)), static_argnums=2)


def maps(rng, *shape, dtype=np.float32):
    return rng.normal(size=shape).astype(dtype)


def formula(features, exponent):
    attention = (np.abs(np.float64(features)) ** exponent).sum(-1).reshape(len(features), -1)
    return attention / np.linalg.norm(attention, axis=1, keepdims=True)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_maps_and_loss_equal_the_formula(rng, exponent):
    real, synthetic = maps(rng, 7, 4, 3, 5), maps(rng, 2, 4, 3, 5)
    attention = attend(real, exponent)
    assert attention.shape == (7, 12)
    if exponent == 4:  # the paper's, by default
        np.testing.assert_array_equal(attend(real), attention)
    np.testing.assert_allclose(attention, formula(real, exponent), rtol=1e-5)
    expected = ((formula(real, exponent).mean(0) - formula(synthetic, exponent).mean(0)) ** 2).sum()
    np.testing.assert_allclose(matching(real, synthetic, exponent), expected, rtol=1e-5)
    if exponent == 4:
        np.testing.assert_allclose(matching(real, synthetic), expected, rtol=1e-5)


def test_layers_are_summed(rng):
    real, synthetic = ((maps(rng, n, 4, 4, 3), maps(rng, n, 2, 2, 6)) for n in (5, 2))
    each = [matching(r, s, 1) for r, s in zip(real, synthetic, strict=True)]
    np.testing.assert_allclose(matching(real, synthetic, 1), sum(each), rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("exponent", [1, 4])
def test_attention_does_not_see_the_scale_of_an_image(rng, scale, exponent):
    """Also where the square of a fourth power leaves float32."""
    features = maps(rng, 3, 4, 4, 2)
    scaled = features * np.float32([1, scale, -scale])[:, None, None, None]
    np.testing.assert_allclose(attend(scaled, exponent), attend(features, exponent), rtol=1e-4)


def test_attention_sees_where_and_not_which_channel(rng):
    features = np.abs(maps(rng, 6, 4, 4, 3))
    assert matching(features, features[..., ::-1]) < 1e-12
    assert matching(features, features[:, ::-1]) > 1e-3


def test_attention_sees_a_spread_that_means_do_not(rng):
    mean = np.abs(maps(rng, 1, 4, 4, 3))
    noise = maps(rng, 1, 4, 4, 3)
    wide, narrow = (np.concatenate([mean + s * noise, mean - s * noise]) for s in np.float32([2, 0.1]))
    assert jax.jit(mean_feature_matching)(wide, narrow) < 1e-10
    assert matching(wide, narrow) > 0.01


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("case", ["equal", "zero", "sparse", "tiny"])
def test_gradients_are_finite(rng, exponent, case):
    real = maps(rng, 3, 4, 4, 2)
    synthetic = {
        "equal": real,
        "zero": np.zeros_like(real),
        "sparse": np.maximum(real, 0) * np.float32([0, 1, 1])[:, None, None, None],
        "tiny": np.float32(1e-30) * real,
    }[case]
    value, slopes = SLOPES(real, synthetic, exponent)
    assert np.isfinite(value)
    assert all(np.isfinite(slope).all() for slope in slopes)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_gradients_are_those_of_finite_differences(rng, x64, exponent):
    with x64():
        real, synthetic = maps(rng, 4, 3, 3, 2, dtype=np.float64), maps(rng, 2, 3, 3, 2, dtype=np.float64)
        along = [maps(rng, *x.shape, dtype=np.float64) for x in (real, synthetic)]
        _, slopes = SLOPES(real, synthetic, exponent)
        up, down = (SLOPES(real + h * along[0], synthetic + h * along[1], exponent)[0] for h in (1e-6, -1e-6))
        by_slopes = sum(np.sum(slope * d) for slope, d in zip(map(np.asarray, slopes), along, strict=True))
        np.testing.assert_allclose(by_slopes, (float(up) - float(down)) / 2e-6, rtol=1e-4)


def test_vmap_over_classes_is_a_loop(rng):
    real, synthetic = maps(rng, 3, 6, 4, 4, 2), maps(rng, 3, 2, 4, 4, 2)
    loop = [matching(r, s, 4.0) for r, s in zip(real, synthetic, strict=True)]
    np.testing.assert_allclose(jax.jit(jax.vmap(matching))(real, synthetic), loop, rtol=1e-5)


def test_l2_normalize(rng):
    x = maps(rng, 4, 6)
    x[1] = x[2, 3] = 0
    unit = np.float64(x) / np.maximum(np.linalg.norm(np.float64(x), axis=1, keepdims=True), 1e-12)
    for scale in np.float32([1e-30, 1, 1e30]):
        np.testing.assert_allclose(jax.jit(l2_normalize)(scale * x), unit, rtol=1e-5)
    weights = maps(rng, 4, 6)
    slope = np.asarray(jax.jit(jax.grad(lambda x: jnp.sum(weights * l2_normalize(x))))(x))
    assert np.isfinite(slope).all() and not slope[1].any() and slope[0].any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attention_map(jnp.ones((2, 3))), "must be maps of shape"),
        (lambda: attention_map(jnp.ones((2, 3, 3, 1)), 0), "exponent must be positive"),
        (lambda: attention_matching(jnp.ones((2, 3, 3, 1)), jnp.ones((2, 3, 4, 1))), "same spatial shape"),
        # As many positions, differently arranged.
        (lambda: attention_matching(jnp.ones((2, 2, 8, 1)), jnp.ones((2, 4, 4, 1))), "same spatial shape"),
        (lambda: attention_matching((jnp.ones((2, 3, 3, 1)),), (jnp.ones((2, 3, 3, 1)),) * 2), "the same layers"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
