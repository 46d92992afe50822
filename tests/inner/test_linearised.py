"""Networks linearised around their parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import inner, models

NETWORKS = ["mlp(width=8, depth=2)", "convnet(width=4, depth=2)", "wide_convnet(width=4, depth=2)"]


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_the_first_order_of_the_body(name, x64):
    """By central differences; the head keeps its parameters."""
    network = models.build(name, (12, 12, 1), 10)
    start = jax.jit(network.init)(jax.random.key(0))
    with x64():
        # Off zero, where ReLU has a kink: there are the first map's borders, as long as the biases are zero.
        theta, stats = jax.tree.map(lambda leaf: leaf.astype("float64") + 0.01, start)
        images = jax.random.normal(jax.random.key(1), (5, 12, 12, 1), "float64")
        body = {part: leaf for part, leaf in theta.items() if part != "head"}
        change = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape), body)

        @jax.jit
        def moved(far):
            there = jax.tree.map(lambda leaf, d: leaf + far * d, body, change)
            return network.apply({**there, "head": theta["head"]}, images, stats)[0]

        @jax.jit
        def linear(change):
            origin, function = inner.linearised_body(network, (theta, stats), images)
            return origin, function(origin, images), function(jax.tree.leaves(change), images)

        origin, (here, none), (same, outputs) = linear(change)
        slope = (moved(1e-6) - moved(-1e-6)) / 2e-6
        expected = jax.jit(network.features)(theta, images, stats)[0]
    assert [leaf.shape for leaf in origin] == [leaf.shape for leaf in jax.tree.leaves(body)]
    np.testing.assert_array_equal(none, 0)
    for features in (here, same):
        np.testing.assert_allclose(features, expected, rtol=1e-12)
    np.testing.assert_allclose(outputs, slope, rtol=1e-5, atol=1e-7)


def test_the_minimum_of_a_quadratic(rng):
    factor, b = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((6, 6), (6,)))
    matrix = factor @ factor.T + jnp.eye(6)

    def loss(theta):
        x = jnp.concatenate([theta["a"], theta["b"].ravel()])
        return 0.5 * x @ matrix @ x - b @ x

    start = {"a": jnp.ones(2), "b": jnp.ones((2, 2))}
    found = jax.jit(lambda theta: inner.quadratic_minimum(loss, theta, steps=20))(start)
    exact = np.linalg.solve(matrix, b)
    np.testing.assert_allclose(np.concatenate([found["a"], found["b"].ravel()]), exact, rtol=1e-3, atol=1e-4)
