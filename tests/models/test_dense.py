"""The product of dense layers under the policies of precision, and what these policies leave alone."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxdd import models
from jaxdd.models import dot_general, matmul_precision

LAYER = (((1,), (0,)), ((), ()))


@pytest.fixture(scope="module")
def operands():
    keys = jax.random.split(jax.random.key(0), 3)
    return [jax.random.normal(key, shape) for key, shape in zip(keys, [(5, 7), (7, 3), (5, 3)], strict=True)]


def product_and_gradients(dot, x, w, g):
    value, transpose = jax.vjp(lambda x, w: dot(x, w, LAYER), x, w)
    return (value, *transpose(g))


def test_bfloat16_rounds_the_operands_and_nothing_else(operands):
    """Also those of the gradients; under jit and outside of it."""
    rounded = [a.astype(jnp.bfloat16).astype(a.dtype) for a in operands]
    plain = jax.jit(functools.partial(product_and_gradients, lax.dot_general))
    expected, exact = plain(*rounded), plain(*operands)
    with matmul_precision("bfloat16"):
        found = product_and_gradients(dot_general, *operands)
        jitted = jax.jit(lambda *operands: product_and_gradients(dot_general, *operands))(*operands)
    for value, compiled, e, off in zip(found, jitted, expected, exact, strict=True):
        np.testing.assert_allclose(value, e, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(compiled, e, rtol=1e-5, atol=1e-5)
        assert np.abs(value - off).max() > 1e-4


def test_second_derivatives_of_many_networks_round_too(operands):
    x, w, _ = operands
    slope = jax.grad(lambda w, x: jnp.sum(jnp.tanh(dot_general(x, w, LAYER))))
    second = jax.grad(lambda x: jnp.sum(jax.vmap(lambda w: slope(w, x))(jnp.stack([w, 2 * w])) ** 2))
    exact = jax.jit(second)(x)
    with matmul_precision("bfloat16"):
        jaxpr, rounded = str(jax.make_jaxpr(second)(x)), jax.jit(second)(x)
    assert "dot_general[" not in jaxpr  # every product is ours
    assert 1e-4 < np.abs(rounded - exact).max() / np.abs(exact).max() < 5e-2


def test_otherwise_it_is_jaxs_own(operands):
    x, w, _ = operands
    for name in ("default", "float32"):
        with matmul_precision(name):
            assert "jaxdd" not in str(jax.make_jaxpr(lambda x, w: dot_general(x, w, LAYER))(x, w))
    with matmul_precision("bfloat16"):
        assert dot_general(x[None], w, (((2,), (0,)), ((), ()))).shape == (1, 5, 3)
        assert dot_general(x.astype(jnp.float16), w.astype(jnp.float16), LAYER).dtype == jnp.float16
        exact = dot_general(x, w, LAYER, precision="highest")
    np.testing.assert_array_equal(exact, lax.dot_general(x, w, LAYER, precision="highest"))


@pytest.mark.parametrize("name", ["mlp(width=8)", "convnet(width=4, depth=2)", "lenet"])
def test_every_product_of_the_zoo_follows_the_policy(name):
    network = models.build(name, (28, 28, 1), 3)
    theta, stats = jax.eval_shape(network.init, jax.random.key(0))
    images = jnp.zeros((2, 28, 28, 1))

    def loss(theta):
        return jnp.sum(network.apply(theta, images, stats)[0] ** 2)

    with matmul_precision("bfloat16"):
        second = jax.grad(lambda theta: jnp.sum(jax.grad(loss)(theta)["head"]["kernel"] ** 2))
        jaxpr = str(jax.make_jaxpr(second)(theta))
    assert not re.search(r"(dot_general|conv_general_dilated)\[", jaxpr) and "precision='bfloat16'" in jaxpr


def test_drops_into_linen_dense(operands):
    x, _, _ = operands
    ours, own = nn.Dense(3, dot_general=dot_general), nn.Dense(3)
    theta = own.init(jax.random.key(0), x)
    np.testing.assert_array_equal(ours.apply(theta, x), own.apply(theta, x))
    with matmul_precision("bfloat16"):
        rounded, exact = np.asarray(ours.apply(theta, x)), np.asarray(own.apply(theta, x))
    assert 1e-4 < np.abs(rounded - exact).max() < 1e-1
