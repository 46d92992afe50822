"""The empirical NTK against explicit Jacobians and the kernel of the infinitely wide network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.kernels import empirical_ntk, ntk
from jaxdd.kernels.blocked import blocked


def apply(theta, x):
    """A convolution and a dense layer, with three outputs."""
    dimensions = ("NHWC", "HWIO", "NHWC")
    h = jax.lax.conv_general_dilated(x, theta["conv"], (1, 1), "SAME", dimension_numbers=dimensions)
    return jnp.tanh(h).reshape(len(x), -1) @ theta["dense"] + theta["bias"][None]


@pytest.fixture(scope="module")
def problem():
    keys = jax.random.split(jax.random.key(0), 5)
    theta = {
        "conv": jax.random.normal(keys[0], (3, 3, 2, 4)),
        "dense": jax.random.normal(keys[1], (36, 3)) / 6,
        "bias": jax.random.normal(keys[2], (3,)),
    }
    return theta, jax.random.normal(keys[3], (5, 3, 3, 2)), jax.random.normal(keys[4], (3, 3, 3, 2))


@jax.jit
def explicit(theta, x, y):
    def rows(x):
        leaves = jax.tree.leaves(jax.jacobian(apply)(theta, x))
        return jnp.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in leaves], axis=2)

    return jnp.einsum("iap,jbp->ijab", rows(x), rows(y))


@pytest.mark.parametrize("block", [2, 8])
def test_equals_the_contraction_of_explicit_jacobians(problem, block):
    theta, x, y = problem
    both, alone = explicit(theta, x, y), explicit(theta, x, x)
    find = jax.jit(functools.partial(empirical_ntk, apply, block=block), static_argnames="outputs")
    np.testing.assert_allclose(find(theta, x, y, outputs="full"), both, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(find(theta, x, y, outputs="sum"), jnp.einsum("ijaa->ij", both), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(find(theta, x), jnp.einsum("ijaa->ij", alone) / 3, rtol=1e-4, atol=1e-4)
    full = find(theta, x, outputs="full")
    np.testing.assert_allclose(full, alone, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(full, full.transpose(1, 0, 3, 2))
    np.testing.assert_array_equal(find(theta, x), find(theta, x).T)


def test_gradient_equals_that_of_the_explicit_contraction(problem):
    theta, x, y = problem
    for second in (y, None):

        def found(x, second=second):
            return jnp.sum(jnp.sin(empirical_ntk(apply, theta, x, second, block=2)))

        def expected(x, second=second):
            return jnp.sum(jnp.sin(jnp.einsum("ijaa->ij", explicit(theta, x, x if second is None else second)) / 3))

        np.testing.assert_allclose(jax.jit(jax.grad(found))(x), jax.jit(jax.grad(expected))(x), rtol=2e-3, atol=2e-3)


def test_wide_network_tends_to_the_ntk():
    """In the NTK parameterisation; the off-diagonal pairs of outputs vanish."""
    width, inputs, classes = 1024, 6, 2

    def draw(key):
        a, b, c, d = jax.random.split(key, 4)
        return (
            jax.random.normal(a, (inputs, width)),
            jax.random.normal(b, (width,)),
            jax.random.normal(c, (width, classes)),
            jax.random.normal(d, (classes,)),
        )

    def wide(theta, x):
        w1, b1, w2, b2 = theta
        h = jax.nn.relu(1.3 / np.sqrt(inputs) * x @ w1 + 0.4 * b1[None])
        return 1.3 / np.sqrt(width) * h @ w2 + 0.4 * b2[None]

    x = jax.random.normal(jax.random.key(1), (4, inputs))
    find = jax.jit(lambda key: empirical_ntk(wide, draw(key), x, outputs="full"))
    mean = np.mean([find(key) for key in jax.random.split(jax.random.key(2), 24)], axis=0)
    expected = np.asarray(jax.jit(functools.partial(ntk, w_std=1.3, b_std=0.4))(x))
    for output in range(classes):
        np.testing.assert_allclose(mean[:, :, output, output], expected, atol=0.03 * float(expected.max()))
    assert np.abs(mean[:, :, 0, 1]).max() < 0.03 * expected.max()


@pytest.mark.parametrize("block", [3, 9])
def test_blocks_cover_every_pair_once(block):
    x, y = jnp.arange(1.0, 8.0), jnp.arange(1.0, 6.0)
    sizes = []

    def outer(a, b):
        sizes.append((len(a), len(b)))
        return a[:, None] * b[None]

    both, alone = jax.jit(lambda x, y: (blocked(outer, x, y, block=block), blocked(outer, x, block=block)))(x, y)
    np.testing.assert_array_equal(both, np.outer(x, y))
    np.testing.assert_array_equal(alone, np.outer(x, x))
    assert max(max(size) for size in sizes) <= block
    grad = jax.jit(jax.grad(lambda x: jnp.sum(blocked(outer, x, block=block) ** 2)))(x)
    np.testing.assert_allclose(grad, 4 * np.sum(np.square(x)) * x, rtol=1e-5)


def test_an_iteration_differentiates_one_example_and_one_block(problem):
    """The largest array of the program is one example's directions or one block's pass, however many there are."""
    theta, x, _ = problem

    def largest(n):
        inputs = jnp.zeros((n, *x.shape[1:]))
        compiled = jax.jit(lambda x: empirical_ntk(apply, theta, x, block=4)).lower(inputs).compile()
        return compiled.memory_analysis().temp_size_in_bytes - 8 * n * n - 2 * inputs.nbytes

    assert largest(64) < 2 * largest(16) + 100_000


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"outputs": "means"}, "unknown outputs 'means'; did you mean 'mean'"),
        ({"block": 0}, "block must be at least 1, got 0"),
        ({"apply": lambda theta, x: apply(theta, x)[:, 0]}, r"must return \(n, outputs\), got \(1,\)"),
    ],
)
def test_bad_arguments(problem, options, sentence):
    theta, x, _ = problem
    options = {"apply": apply, **options}
    with pytest.raises(ValueError, match=sentence):
        empirical_ntk(options.pop("apply"), theta, x, **options)
