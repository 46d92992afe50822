import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxdd.errors import JaxddError
from jaxdd.models import conv2d

NHWC = ("NHWC", "HWIO", "NHWC")


@pytest.fixture(scope="module")
def operands():
    key_x, key_w = jax.random.split(jax.random.key(0))
    return jax.random.normal(key_x, (2, 7, 6, 3)), jax.random.normal(key_w, (3, 3, 3, 4)) / 5


def native(x, w, strides=(1, 1), padding="SAME", rhs_dilation=(1, 1)):
    return lax.conv_general_dilated(x, w, strides, padding, rhs_dilation=rhs_dilation, dimension_numbers=NHWC)


@pytest.mark.parametrize("impl", ["auto", "im2col", "xla"])
@pytest.mark.parametrize(
    ("strides", "padding", "dilation"),
    [
        ((1, 1), "SAME", (1, 1)),
        ((2, 1), "VALID", (1, 1)),
        ((1, 1), ((3, 3), (3, 3)), (1, 1)),
        ((2, 2), "SAME", (2, 1)),
        ((1, 2), ((0, 2), (1, 0)), (1, 2)),
    ],
)
def test_value_and_gradients_are_lax_conv(operands, impl, strides, padding, dilation):
    def loss(convolve):
        return lambda x, w: jnp.sum(jnp.tanh(convolve(x, w, strides, padding, rhs_dilation=dilation)) ** 2)

    ours = loss(functools.partial(conv2d, impl=impl))
    for function in (lambda f: f, lambda f: jax.grad(f, (0, 1))):
        got, expected = function(ours)(*operands), function(loss(native))(*operands)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), got, expected)


def curvature(convolve, x, w):
    """Second derivatives three ways: reverse over reverse, forward over reverse, and through an unrolled scan."""

    def loss(w, x):
        return jnp.mean(jnp.tanh(convolve(x, w)) ** 2)

    def trained(x):
        return lax.scan(lambda w, _: (w - 0.5 * jax.grad(loss)(w, x), None), w, None, length=3)[0]

    ones = jnp.ones_like(w)
    return {
        "reverse over reverse": jax.grad(lambda w: jnp.sum(jax.grad(loss)(w, x) ** 2))(w),
        "forward over reverse": jax.jvp(lambda w: jax.grad(loss)(w, x), (w,), (ones,))[1],
        "unrolled": jax.grad(lambda x: loss(trained(x), x))(x),
        "third": jax.jvp(lambda w: jax.jvp(jax.grad(loss), (w, x), (ones, jnp.zeros_like(x)))[1], (w,), (ones,))[1],
        "mapped": lax.map(lambda s: jax.grad(loss)(s * w, x), jnp.arange(1.0, 3.0)),
        "vmapped": jax.vmap(lambda s: jax.grad(loss)(s * w, x))(jnp.arange(1.0, 3.0)),
        "checkpointed": jax.grad(lambda x: loss(jax.checkpoint(trained)(x), x))(x),
    }


def test_every_order_and_transformation_agrees(operands):
    got = jax.jit(functools.partial(curvature, conv2d))(*operands)
    expected = jax.jit(functools.partial(curvature, native))(*operands)
    for name in expected:
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(got[name], expected[name], atol=2e-5 * scale, err_msg=name)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the choice for CPUs")
def test_auto_on_a_cpu_is_native_forward_and_im2col_differentiated(operands):
    def convolutions(function):
        return str(jax.make_jaxpr(function)(*operands)).count("conv_general_dilated")

    value = jax.jit(conv2d).lower(*operands).as_text()
    gradient = jax.jit(jax.grad(lambda x, w: conv2d(x, w).sum(), 1)).lower(*operands).as_text()
    assert "stablehlo.convolution" in value
    assert "stablehlo.convolution" not in gradient
    assert convolutions(lambda x, w: conv2d(x, w, impl="im2col")) == 0


@pytest.mark.parametrize("options", [{"feature_group_count": 3}, {"padding": "CIRCULAR"}, {"strides": 2}])
def test_drops_into_linen_conv(operands, options):
    x, _ = operands
    ours = nn.Conv(6, (3, 3), conv_general_dilated=conv2d, **options)
    theirs = nn.Conv(6, (3, 3), **options)
    variables = theirs.init(jax.random.key(0), x)
    np.testing.assert_allclose(ours.apply(variables, x), theirs.apply(variables, x), rtol=1e-5, atol=1e-6)


def test_drops_into_one_dimensional_dilated_convolutions():
    x = jnp.linspace(-1, 1, 40).reshape(2, 10, 2)
    ours, theirs = (nn.Conv(3, (3,), kernel_dilation=2, conv_general_dilated=c) for c in (conv2d, None))
    variables = theirs.init(jax.random.key(0), x)
    np.testing.assert_allclose(ours.apply(variables, x), theirs.apply(variables, x), rtol=1e-6)


def test_unknown_implementation_suggests_the_nearest(operands):
    with pytest.raises(JaxddError, match="unknown convolution 'im2cool'; did you mean 'im2col'"):
        conv2d(*operands, impl="im2cool")
