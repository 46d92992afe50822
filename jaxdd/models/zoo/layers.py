"""What the networks of the zoo are made of, with PyTorch's initialisation, pooling and normalisation."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdd.errors import JaxddError, unknown
from jaxdd.models.conv import conv2d
from jaxdd.models.dense import dot_general
from jaxdd.types import Array

NORMS = ("instance", "batch", "group", "none")
INITIALIZERS = ("torch", "xavier", "he", "lecun")


class Layered(nn.Module):
    """Features and logits are the last two layers; a compiled program computes no more than it is asked for."""

    num_classes: int

    def features(self, images: Array) -> Array:
        """`(n, h, w, c)` to `(n, d)`."""
        return self.layers(images)[-2]

    def __call__(self, images: Array) -> Array:
        """`(n, h, w, c)` to logits `(n, num_classes)`."""
        return self.layers(images)[-1]

    def layers(self, images: Array) -> tuple[Array, ...]:
        raise NotImplementedError


class Normalised(Layered):
    """The same of a network that may have batch normalisation; `train` normalises by the batch at hand."""

    def features(self, images: Array, train: bool = False) -> Array:
        """`(n, h, w, c)` to `(n, d)`."""
        return self.layers(images, train)[-2]

    def __call__(self, images: Array, train: bool = False) -> Array:
        """`(n, h, w, c)` to logits `(n, num_classes)`."""
        return self.layers(images, train)[-1]

    def layers(self, images: Array, train: bool = False) -> tuple[Array, ...]:
        raise NotImplementedError


def normalise(norm: str, x: Array, train: bool, name: str) -> Array:
    """A normalisation by its name, with PyTorch's epsilon, 1e-5, and scale and bias for each channel.

    "instance"; "batch", whose running statistics keep nine tenths of what they were (PyTorch's momentum 0.1 is flax's
    0.9) and take the biased variance of a batch (PyTorch: the unbiased one); "group", of 4 groups; "none".

    Raises:
      JaxddError: for another name, or channels that 4 groups do not divide.
    """
    if norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    if norm == "instance":
        return InstanceNorm(name=name)(x)
    if norm == "batch":
        return nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, use_fast_variance=False, name=name)(x)
    if norm == "group":
        if x.shape[-1] % 4:
            raise JaxddError(f"a group norm of 4 groups needs a width that 4 divides, got {x.shape[-1]}.")
        return nn.GroupNorm(4, epsilon=1e-5, use_fast_variance=False, name=name)(x)
    return x


def torch_uniform(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default for the weights and the biases of linear and convolutional layers: U(±1/√fan_in).

    PyTorch calls it `kaiming_uniform_(a=√5)`: gain √(2 / (1 + 5)) times √(3 / fan_in).
    """
    bound = fan_in**-0.5

    def init(key, shape, dtype=jnp.float32, out_sharding=None):
        return jax.random.uniform(key, shape, dtype, -bound, bound, out_sharding=out_sharding)

    return init


def dense(features: int, name: str, inputs: Array, initializer: str = "torch") -> Array:
    kernel, bias = initializers(initializer, inputs.shape[-1])
    return nn.Dense(features, kernel_init=kernel, bias_init=bias, dot_general=dot_general, name=name)(inputs)


def conv(
    features: int,
    size: int,
    pad: int,
    name: str,
    inputs: Array,
    impl: str,
    initializer: str = "torch",
    *,
    stride: int = 1,
    bias: bool = True,
) -> Array:
    kernel, bias_init = initializers(initializer, size * size * inputs.shape[-1])
    return nn.Conv(
        features,
        (size, size),
        strides=stride,
        padding=pad,
        use_bias=bias,
        kernel_init=kernel,
        bias_init=bias_init,
        conv_general_dilated=functools.partial(conv2d, impl=impl),
        name=name,
    )(inputs)


def initializers(name: str, fan_in: int) -> tuple[nn.initializers.Initializer, nn.initializers.Initializer]:
    """Of a layer's weights and biases.

    PyTorch's default; Glorot & Bengio (2010), normal, and zero; He et al. (2015), normal, and N(0, 0.1²), which the
    networks of kernels have (b_std = 0.1); flax's default, LeCun et al. (1998), truncated normal, and zero.
    """
    if name not in INITIALIZERS:
        raise unknown("initializer", name, INITIALIZERS)
    if name == "he":
        return nn.initializers.variance_scaling(2.0, "fan_in", "normal"), nn.initializers.normal(0.1)
    if name == "lecun":
        return nn.initializers.lecun_normal(), nn.initializers.zeros_init()
    if name == "xavier":  # flax's own xavier_normal is truncated, PyTorch's is not
        return nn.initializers.variance_scaling(1.0, "fan_avg", "normal"), nn.initializers.zeros_init()
    return torch_uniform(fan_in), torch_uniform(fan_in)


class InstanceNorm(nn.Module):
    """GroupNorm with a group for each channel and the same parameters, without its reshapes.

    They cost a meta-gradient of a ConvNet of width 128 a tenth of its time on CPU, and a fifth of its memory.
    """

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones_init(), x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros_init(), x.shape[-1:])
        # Bound to four axes by hand: strict rank promotion is somebody's setting.
        scale, bias = scale[None, None, None], bias[None, None, None]
        centred = x - jnp.mean(x, (1, 2), keepdims=True)
        variance = jnp.mean(centred * centred, (1, 2), keepdims=True)
        return centred * (jax.lax.rsqrt(variance + 1e-5) * scale) + bias


FORMS = ("small", "large")
"""Of networks: for images of 32 pixels or so, and ImageNet's, which begin with larger strides."""


def is_large(form: str) -> bool:
    """Raises JaxddError for another form than these two."""
    if form not in FORMS:
        raise unknown("form", form, FORMS)
    return form == "large"


def max_pool(x: Array, size: int, stride: int, pad: int) -> Array:
    """Maximum of shifted slices: differentiable to any order, in both modes, and fast inside loops.

    Where several entries of a window are equal their gradient is shared.
    """
    if min(x.shape[1:3]) + 2 * pad < size:
        raise JaxddError(f"a map of {x.shape[1]}x{x.shape[2]} is too small to be pooled: give larger images.")
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=-jnp.inf) if pad else x
    height, width = ((extent - size) // stride * stride + 1 for extent in x.shape[1:3])
    slices = [x[:, i : i + height : stride, j : j + width : stride] for i in range(size) for j in range(size)]
    return functools.reduce(jnp.maximum, slices)


def local_response_norm(x: Array, size: int = 4, alpha: float = 0.001 / 9, beta: float = 0.75) -> Array:
    """Krizhevsky et al. (2012) as PyTorch has it: `x / (1 + alpha * mean square of `size` channels)^beta`."""
    channels = x.shape[-1]
    squares = jnp.pad(x * x, ((0, 0), (0, 0), (0, 0), (size // 2, (size - 1) // 2)))
    mean = sum(squares[..., i : i + channels] for i in range(size)) / size
    return x / (1 + alpha * mean) ** beta


def average_pool(x: Array) -> Array:
    """Mean over 2x2 windows; an odd last row or column is left out, as in PyTorch."""
    h, w = x.shape[1:3]
    if min(h, w) < 2:
        raise JaxddError(f"the network is too deep for its images: a map of {h}x{w} cannot be halved; lower its depth.")
    # Four slices: reduce_window has a slow gradient on XLA:CPU, a reshape and a mean a slower forward pass.
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    return 0.25 * (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2])
