"""Feature kernels of random networks against the exact kernels, and their rate of convergence."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.kernels import conjugate_kernel, conv_nngp, feature_kernel, nngp

W_STD, B_STD = 1.3, 0.4
READOUT = {"w_std": W_STD, "b_std": B_STD}


def dense_features(key, x, width=16):
    """One hidden layer, drawn here."""
    key_w, key_b = jax.random.split(key)
    x = x.reshape(len(x), -1)
    w, b = jax.random.normal(key_w, (x.shape[1], width)), jax.random.normal(key_b, (1, width))
    return jax.nn.relu(W_STD / np.sqrt(x.shape[1]) * x @ w + B_STD * b)


def conv_features(key, x, width=16):
    """A convolution, ReLU, 2 x 2 average pooling, flattened."""
    key_w, key_b = jax.random.split(key)
    w = W_STD / np.sqrt(9 * x.shape[-1]) * jax.random.normal(key_w, (3, 3, x.shape[-1], width))
    h = jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    h = jax.nn.relu(h + B_STD * jax.random.normal(key_b, (1, 1, 1, width)))
    n, height, side, _ = h.shape
    return h.reshape(n, height // 2, 2, side // 2, 2, width).mean((2, 4)).reshape(n, -1)


def side_by_side(features, keys, x):
    """`(n, M d)`, the features of all networks."""
    return jnp.concatenate(jax.lax.map(lambda key: features(key, x), keys), axis=1)


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(1), (4, 6, 6, 2))


@pytest.mark.parametrize(
    ("features", "exact"), [(dense_features, nngp), (conv_features, conv_nngp)], ids=["dense", "conv"]
)
def test_error_falls_as_one_over_the_root_of_the_number_of_networks(images, features, exact):
    """With one hidden layer the mean is exact at any width, so that nothing but the Monte-Carlo error is left."""
    expected = exact(images, depth=1, **READOUT)
    keys = jax.random.split(jax.random.key(2), 768)
    each = jax.jit(lambda keys: jax.lax.map(lambda key: conjugate_kernel(features, key[None], **READOUT)(images), keys))
    off = np.asarray(each(keys) - expected[None])
    numbers = [1, 4, 16, 64]
    errors = [np.sqrt(np.mean(off.reshape(-1, number, 4, 4).mean(1) ** 2)) for number in numbers]
    slope = np.polyfit(np.log(numbers), np.log(errors), 1)[0]
    assert abs(slope + 0.5) < 0.12
    assert np.all(np.abs(off.mean(0)) < 4.5 * off.std(0) / np.sqrt(len(keys)))


def test_the_mean_kernel_is_that_of_features_side_by_side(images):
    """And that by hand; one after another or in batches that do not divide them."""
    keys = jax.random.split(jax.random.key(3), 5)
    by_hand = np.mean([np.asarray(f @ f.T) / f.shape[1] for f in (dense_features(key, images) for key in keys)], axis=0)
    by_hand = W_STD**2 * by_hand + B_STD**2
    for batch_size in (None, 2):

        @jax.jit
        def found(images, batch_size=batch_size):
            kernel = conjugate_kernel(dense_features, keys, batch_size=batch_size, **READOUT)
            f = side_by_side(dense_features, keys, images)
            square = kernel(images), feature_kernel(f, **READOUT)
            return square, (kernel(images, images[:2]), feature_kernel(f, f[:2], **READOUT))

        square, oblong = found(images)
        for k in square:
            np.testing.assert_allclose(k, by_hand, rtol=1e-5)
        for k in oblong:
            np.testing.assert_allclose(k, by_hand[:, :2], rtol=1e-5)


def test_networks_are_keys_or_stacked_parameters(images):
    x = images.reshape(4, -1)
    w = jax.random.normal(jax.random.key(4), (3, x.shape[1], 7))

    def features(theta, x):
        return jnp.tanh(x @ theta["w"])

    found = conjugate_kernel(features, {"w": w})(x)
    side = jnp.concatenate([jnp.tanh(x @ each) for each in w], axis=1)
    np.testing.assert_allclose(found, feature_kernel(side), rtol=1e-5)


def test_gradients_are_those_of_features_side_by_side(images):
    keys = jax.random.split(jax.random.key(5), 3)
    support, targets = images[:2], images[2:]

    def averaged(support):
        kernel = conjugate_kernel(dense_features, keys, **READOUT)
        return jnp.sum(jnp.sin(kernel(targets, support))) + jnp.sum(jnp.cos(kernel(support)))

    def by_features(support):
        f_s, f_t = (side_by_side(dense_features, keys, x) for x in (support, targets))
        return jnp.sum(jnp.sin(feature_kernel(f_t, f_s, **READOUT))) + jnp.sum(jnp.cos(feature_kernel(f_s, **READOUT)))

    one, other = jax.jit(lambda support: (jax.grad(averaged)(support), jax.grad(by_features)(support)))(support)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_memory_of_a_gradient_does_not_grow_with_the_number_of_networks(images):
    """That of the features side by side does."""
    x, features = jnp.tile(images, (16, 1, 1, 1)), functools.partial(dense_features, width=512)

    def temporary(make, number):
        keys = jax.random.split(jax.random.key(0), number)
        compiled = jax.jit(jax.grad(lambda x: jnp.sum(make(keys, x) ** 2))).lower(x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    def averaged(keys, x):
        return conjugate_kernel(features, keys)(x, x[:4])

    def of_all(keys, x):
        f = side_by_side(features, keys, x)
        return feature_kernel(f, f[:4])

    few, many = (temporary(averaged, number) for number in (4, 32))
    assert many < 1.5 * few
    few, many = (temporary(of_all, number) for number in (4, 32))
    assert many > 3 * few


def test_kernel_at_full_precision():
    x = jnp.ones((3, 4))
    jaxpr = str(jax.make_jaxpr(conjugate_kernel(lambda scale, x: scale * x, jnp.ones(2)))(x))
    assert jaxpr.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") == jaxpr.count("= dot_general[") == 1


def test_readout_of_constant_features():
    ones = jnp.ones((2, 5))
    for w_std, b_std in itertools.product((1.0, 2.0), (0.0, 0.5)):
        np.testing.assert_allclose(feature_kernel(ones, w_std=w_std, b_std=b_std), w_std**2 + b_std**2, rtol=1e-6)
