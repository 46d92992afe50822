"""The convolutional kernels against stored values, finite networks, the dense kernels and finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.kernels import build, conv_nngp, conv_nngp_and_ntk, conv_ntk, empirical_ntk, nngp_and_ntk

OPTIONS = {"w_std": 1.3, "b_std": 0.4}


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


# Upper triangles for x = sin(0..239) as three images 8 x 5 x 2, w_std 1.3, b_std 0.4, with a stem and two blocks, by
# global average pooling or not, printed by the stax of neural-tangents 0.6.5 (float64).
NEURAL_TANGENTS = {
    False: (
        [0.448257816472, 0.447089830024, 0.446821001228, 0.448590817702, 0.447066700617, 0.448220663871],
        [0.788060268272, 0.767865623277, 0.767631296163, 0.788517960357, 0.767789301064, 0.78800705887],
    ),
    True: (
        [0.438175172662, 0.438148696236, 0.437727791427, 0.438780970532, 0.438113267566, 0.438108907244],
        [0.740942928602, 0.734154841745, 0.732706927506, 0.742483454722, 0.734046781742, 0.740775605807],
    ),
}


@pytest.mark.parametrize("pooling", [False, True])
def test_equals_neural_tangents(pooling):
    x = np.sin(np.arange(240.0)).reshape(3, 8, 5, 2).astype(np.float32)
    options = {**OPTIONS, "depth": 2, "stem": True, "global_average_pooling": pooling}
    both = jax.jit(functools.partial(conv_nngp_and_ntk, **options, block=2))(x)
    upper = np.triu_indices(3)
    for kernel, expected in zip(map(np.asarray, both), NEURAL_TANGENTS[pooling], strict=True):
        np.testing.assert_allclose(kernel[upper], expected, rtol=1e-5)
        np.testing.assert_array_equal(kernel, kernel.T)
        assert np.linalg.eigvalsh(np.asarray(kernel, np.float64)).min() > 0


def convnet(width, classes=1):
    """A finite network in the NTK parameterisation, with a stem and one block, for checking."""

    def draw(key, x):
        sizes = [(3, 3, x.shape[-1], width), (3, 3, width, width), (x[0, ..., 0].size // 4 * width, classes)]
        keys = jax.random.split(key, 6)
        return [
            (jax.random.normal(a, size), jax.random.normal(b, size[-1:]))
            for a, b, size in zip(keys[:3], keys[3:], sizes, strict=True)
        ]

    def apply(theta, x):
        for w, b in theta[:-1]:
            dimensions = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=dimensions)
            x = jax.nn.relu(1.3 / np.sqrt(9 * w.shape[2]) * x + 0.4 * b[None, None, None])
        n, height, side, channels = x.shape
        x = x.reshape(n, height // 2, 2, side // 2, 2, channels).mean((2, 4)).reshape(n, -1)
        w, b = theta[-1]
        return 1.3 / np.sqrt(len(w)) * x @ w + 0.4 * b[None], 1.69 * (x @ x.T) / len(w) + 0.16

    return draw, apply


@pytest.mark.endurance
def test_wide_networks_tend_to_both_kernels():
    x = jax.random.normal(jax.random.key(0), (3, 4, 6, 2))
    draw, apply = convnet(64)

    def one(key):
        theta = draw(key, x)
        return apply(theta, x)[1], empirical_ntk(lambda theta, x: apply(theta, x)[0], theta, x)

    found = jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(jax.random.key(1), 48))
    expected = jax.jit(functools.partial(conv_nngp_and_ntk, depth=1, stem=True, **OPTIONS))(x)
    for sample, kernel in zip(found, expected, strict=True):
        error = sample.std(0) / np.sqrt(len(sample))
        assert np.all(np.abs(sample.mean(0) - kernel) < 4.5 * error + 0.01 * kernel)
        assert error.max() < 0.03 * kernel.max()


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_one_pixel_is_the_fully_connected_kernel(activation):
    """Eight of nine weights see zeros."""
    x, y = normal(2, 3, 1, 1, 5)
    options = {**OPTIONS, "activation": activation}

    @jax.jit
    def both(x, *second):
        dense = nngp_and_ntk(x / 3, *(y / 3 for y in second), depth=1, **options)
        return conv_nngp_and_ntk(x, *second, depth=0, stem=True, **options), dense

    for sets in ((x, y), (x,)):
        for k, e in zip(*both(*sets), strict=True):
            np.testing.assert_allclose(k, e, rtol=1e-4)


def test_without_layers_it_is_the_linear_kernel():
    x = normal(3, 2, 2, 5)
    both = jax.jit(lambda x: (conv_nngp_and_ntk(x, depth=0), nngp_and_ntk(x, depth=0)))
    for k, e in zip(*both(x), strict=True):
        np.testing.assert_allclose(k, e, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", [False, True])
def test_gradients_equal_finite_differences(x64, pooling):
    """Of a set with itself, its diagonal too, and with another; in several blocks."""
    options = {"depth": 1, "stem": not pooling, "global_average_pooling": pooling, "block": 2}
    with x64():
        rng = np.random.default_rng(3)
        x, y, weights = (rng.normal(size=shape) for shape in ((3, 4, 4, 1), (2, 4, 4, 1), (3, 3)))

        @jax.jit
        @jax.value_and_grad
        def loss(x):
            both = conv_nngp_and_ntk(x, None if pooling else y, **options)
            return sum(jnp.sum(weights[:, : k.shape[1]] * k) for k in both)

        grad, step = np.asarray(loss(x)[1]), 1e-6
        for at in [(0, 0, 0, 0), (1, 3, 2, 0), (2, 1, 1, 0)]:
            e = np.zeros_like(x)
            e[at] = step
            up, down = (float(loss(moved)[0]) for moved in (x + e, x - e))
            np.testing.assert_allclose(grad[at], (up - down) / (2 * step), rtol=1e-6, atol=1e-8)


def test_gradients_are_finite_where_images_or_pixels_coincide():
    """A black image, a black border, an image twice, two sets that are the same."""
    x = normal(2, 4, 4, 1)
    x[0, :2] = 0
    x = np.concatenate([x, x[:1], np.zeros((1, 4, 4, 1), np.float32)])
    grad = jax.jit(jax.grad(lambda x, b_std: jnp.sum(jnp.sin(conv_ntk(x, x, depth=2, b_std=b_std, block=2)))))
    same = jax.jit(jax.grad(lambda x, b_std: jnp.sum(jnp.sin(conv_ntk(x, depth=1, b_std=b_std)))))
    for function in (grad, same):
        for b_std in (0.0, 0.1):
            found = np.asarray(function(x, b_std))
            assert np.isfinite(found).all()
            assert np.abs(found[1]).min() > 0


def test_blocks_change_nothing_but_memory():
    x = normal(7, 4, 4, 1)
    one, other = (jax.jit(functools.partial(conv_ntk, depth=1, block=block)) for block in (3, 8))
    np.testing.assert_allclose(one(x), other(x), rtol=1e-5)

    def temporary(n):
        images = jnp.zeros((n, 4, 4, 1))
        compiled = jax.jit(jax.grad(lambda x: jnp.sum(conv_ntk(x, depth=1, block=2)))).lower(images).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # Sixteen times the pairs; what grows is a few numbers a pair, not covariances.
    assert temporary(32) < 4 * temporary(8) + 20 * 4 * 32 * 32


def test_a_batch_of_sets_goes_through_vmap():
    sets = normal(2, 3, 2, 2, 1)
    find = functools.partial(conv_ntk, depth=1)
    np.testing.assert_allclose(*jax.jit(lambda sets: (jax.vmap(find)(sets)[1], find(sets[1])))(sets), rtol=1e-5)


def test_build_by_name():
    x, options = normal(2, 2, 2, 1), {"depth": 0, "stem": True, "b_std": 0.3}

    @jax.jit
    def found(x):
        named = (build("conv_nngp", **options)(x), build("conv_ntk", **options)(x), conv_nngp(x, **options))
        return *named, conv_nngp_and_ntk(x, **options)

    nngp, ntk, same, both = found(x)
    np.testing.assert_allclose(nngp, both.nngp, rtol=1e-6)
    np.testing.assert_allclose(ntk, both.ntk, rtol=1e-6)
    np.testing.assert_array_equal(same, nngp)
    with pytest.raises(ValueError, match=r"unknown option of the kernel 'conv_ntk': 'dept'; did you mean 'depth'"):
        build("conv_ntk", dept=1)
    with pytest.raises(ValueError, match=r"unknown option of the kernel 'ntk': 'stem'"):
        build("ntk", stem=True)


@pytest.mark.parametrize(
    ("shapes", "options", "sentence"),
    [
        ([(2, 16)], {}, r"need images \(n, h, w, c\) of one shape, got \(2, 16\)"),
        ([(2, 8, 8, 1), (2, 8, 8, 3)], {}, r"got \(2, 8, 8, 1\) and \(2, 8, 8, 3\)"),
        ([(2, 7, 9, 1)], {"depth": 3}, "images of 7 x 9 pixels are too small for 3 poolings by two"),
        ([(2, 8, 8, 1)], {"depth": -1}, "depth must be at least 0, got -1"),
        ([(2, 8, 8, 1)], {"block": 0}, "block must be at least 1, got 0"),
        ([(2, 8, 8, 1)], {"activation": "tanh"}, "unknown activation 'tanh'"),
    ],
)
def test_bad_arguments(shapes, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        conv_ntk(*map(jnp.zeros, shapes), **options)
