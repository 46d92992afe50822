"""The field's standard networks, in flax.linen, with PyTorch's initialisation.

Every module has `__call__(images)` for logits, `features(images)` for what its linear head sees, and `layers(images)`
for what every ReLU gives, the features and the logits.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdd.errors import JaxddError, unknown
from jaxdd.models.conv import conv2d
from jaxdd.models.dense import dot_general
from jaxdd.types import Array

NORMS = ("instance", "group", "none")
INITIALIZERS = ("torch", "xavier", "he", "lecun")


def torch_uniform(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default for the weights and the biases of linear and convolutional layers: U(±1/√fan_in).

    PyTorch calls it `kaiming_uniform_(a=√5)`: gain √(2 / (1 + 5)) times √(3 / fan_in).
    """
    bound = fan_in**-0.5

    def init(key, shape, dtype=jnp.float32, out_sharding=None):
        return jax.random.uniform(key, shape, dtype, -bound, bound, out_sharding=out_sharding)

    return init


def _dense(features: int, name: str, inputs: Array, initializer: str = "torch") -> Array:
    kernel, bias = _initializers(initializer, inputs.shape[-1])
    return nn.Dense(features, kernel_init=kernel, bias_init=bias, dot_general=dot_general, name=name)(inputs)


def _conv(features: int, size: int, pad: int, name: str, inputs: Array, conv: str, initializer: str = "torch") -> Array:
    kernel, bias = _initializers(initializer, size * size * inputs.shape[-1])
    return nn.Conv(
        features,
        (size, size),
        padding=pad,
        kernel_init=kernel,
        bias_init=bias,
        conv_general_dilated=functools.partial(conv2d, impl=conv),
        name=name,
    )(inputs)


def _initializers(name: str, fan_in: int) -> tuple[nn.initializers.Initializer, nn.initializers.Initializer]:
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


class _Layered(nn.Module):
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


class MLP(_Layered):
    """Flatten, `depth` ReLU layers of `width`, linear head: the MLP of Zhao, Mopuri & Bilen (2021)."""

    width: int = 128
    depth: int = 2

    @nn.compact
    def layers(self, images: Array) -> tuple[Array, ...]:
        """`(n, h, w, c)` to `depth` times `(n, width)`, the features (the last of them again), the logits."""
        hidden = [images.reshape(len(images), -1)]
        for i in range(self.depth):
            hidden.append(nn.relu(_dense(self.width, f"dense_{i}", hidden[-1])))
        return (*hidden[1:], hidden[-1], _dense(self.num_classes, "head", hidden[-1]))


class ConvNet(_Layered):
    """ConvNet-D of Gidaris & Komodakis (2018) as dataset distillation uses it (Zhao, Mopuri & Bilen 2021).

    `depth` blocks of 3x3 convolution (padding 1), normalisation, ReLU and 2x2 average pooling, then a linear head.
    As in the authors' code the first convolution of a one-channel network has padding 3, so that 28x28 behaves as
    32x32. The head sees the map flattened as (h, w, c), a permutation of PyTorch's (c, h, w).

    Attributes:
      norm: "instance" (affine), "group" (GroupNorm of 4 groups) or "none".
      initializer: "torch"; or "he", for random features (Loo et al. 2022), "xavier", "lecun".
      conv: implementation of the convolutions, see `conv2d`.
    """

    depth: int = 3
    width: int = 128
    norm: str = "instance"
    initializer: str = "torch"
    conv: str = "auto"

    @nn.compact
    def layers(self, images: Array) -> tuple[Array, ...]:
        """`(n, h, w, c)` to `depth` maps before their pooling, the features `(n, h' * w' * width)`, the logits."""
        if self.norm not in NORMS:
            raise unknown("norm", self.norm, NORMS)
        if self.norm == "group" and self.width % 4:
            raise JaxddError(f"a group norm of 4 groups needs a width that 4 divides, got {self.width}.")
        x, maps = images, []
        for i in range(self.depth):
            pad = 3 if i == 0 and images.shape[-1] == 1 else 1
            x = _conv(self.width, 3, pad, f"conv_{i}", x, self.conv, self.initializer)
            if self.norm == "instance":
                x = _InstanceNorm(name=f"norm_{i}")(x)
            elif self.norm == "group":
                x = nn.GroupNorm(4, epsilon=1e-5, use_fast_variance=False, name=f"norm_{i}")(x)
            maps.append(nn.relu(x))
            x = _average_pool(maps[-1])
        x = x.reshape(len(x), -1)
        return (*maps, x, _dense(self.num_classes, "head", x, self.initializer))


class WideConvNet(_Layered):
    """ConvNet whose width doubles with every block, 128-256-512, as FRePo uses it (Zhou, Nezhadarya & Ba 2022).

    `depth` blocks of normalisation (not in the first), 3x3 convolution, ReLU and 2x2 average pooling, then a linear
    head; initialised as flax does by default. The first convolution of a one-channel network has padding 3.

    Attributes:
      width: of the first block.
      norm: "batch" (the running statistics move by nine tenths with each step, as in the authors' code) or "none",
        with which they train networks on the distilled set.
      conv: implementation of the convolutions, see `conv2d`.
    """

    depth: int = 3
    width: int = 128
    norm: str = "batch"
    conv: str = "auto"

    @nn.compact
    def layers(self, images: Array, train: bool = False) -> tuple[Array, ...]:
        """To `depth` maps before their pooling, the features `(n, h' * w' * width * 2**(depth - 1))`, the logits."""
        if self.norm not in ("batch", "none"):
            raise unknown("norm", self.norm, ("batch", "none"))
        x, maps = images, []
        for i in range(self.depth):
            if i and self.norm == "batch":
                x = nn.BatchNorm(use_running_average=not train, momentum=0.1, name=f"norm_{i}")(x)
            pad = 3 if i == 0 and images.shape[-1] == 1 else 1
            maps.append(nn.relu(_conv(self.width * 2**i, 3, pad, f"conv_{i}", x, self.conv, "lecun")))
            x = _average_pool(maps[-1])
        x = x.reshape(len(x), -1)
        return (*maps, x, _dense(self.num_classes, "head", x, "lecun"))

    def features(self, images: Array, train: bool = False) -> Array:
        """`(n, h, w, c)` to `(n, d)`."""
        return self.layers(images, train)[-2]

    def __call__(self, images: Array, train: bool = False) -> Array:
        """`(n, h, w, c)` to logits `(n, num_classes)`."""
        return self.layers(images, train)[-1]


class _InstanceNorm(nn.Module):
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


class LeNet(_Layered):
    """LeNet-5 with ReLU and max pooling, as Wang et al. (2018) distil MNIST with it: 61,706 parameters.

    Two 5x5 convolutions of 6 and 16 channels, each followed by 2x2 max pooling, then 120, 84 and `num_classes` units.
    The first convolution has padding 2 on 28x28 images, so that both MNIST and 32x32 images end in a 5x5 map.

    Attributes:
      initializer: "xavier" (theirs: normal weights, zero biases) or "torch".
      conv: implementation of the convolutions, see `conv2d`.
    """

    initializer: str = "xavier"
    conv: str = "auto"

    @nn.compact
    def layers(self, images: Array) -> tuple[Array, ...]:
        """To two maps before their pooling, `(n, 120)`, `(n, 84)`, the features (the same again), the logits."""
        pad = 2 if images.shape[1] == 28 else 0
        first = nn.relu(_conv(6, 5, pad, "conv_0", images, self.conv, self.initializer))
        second = nn.relu(_conv(16, 5, 0, "conv_1", _max_pool(first, 2, 2, 0), self.conv, self.initializer))
        return (first, second, *_perceptron(_max_pool(second, 2, 2, 0), (120, 84), self))


class AlexCifarNet(_Layered):
    """The small AlexNet of TensorFlow's CIFAR-10 tutorial, as Wang et al. (2018) distil CIFAR-10 with it.

    Two 5x5 convolutions of 64 channels with 3x3 max pooling by 2 and local response normalisation, then 384, 192 and
    `num_classes` units.

    Attributes:
      initializer: "xavier" (theirs: normal weights, zero biases) or "torch".
      conv: implementation of the convolutions, see `conv2d`.
    """

    initializer: str = "xavier"
    conv: str = "auto"

    @nn.compact
    def layers(self, images: Array) -> tuple[Array, ...]:
        """To two maps before their pooling, `(n, 384)`, `(n, 192)`, the features (the same again), the logits."""
        first = nn.relu(_conv(64, 5, 2, "conv_0", images, self.conv, self.initializer))
        x = _local_response_norm(_max_pool(first, 3, 2, 1))
        second = nn.relu(_conv(64, 5, 2, "conv_1", x, self.conv, self.initializer))
        x = _max_pool(_local_response_norm(second), 3, 2, 1)
        return (first, second, *_perceptron(x, (384, 192), self))


def _perceptron(x: Array, widths: tuple[int, ...], network: LeNet | AlexCifarNet) -> tuple[Array, ...]:
    """Hidden layers on a flattened map, the last of them again as the features, and the logits."""
    hidden = [x.reshape(len(x), -1)]
    for i, width in enumerate(widths):
        hidden.append(nn.relu(_dense(width, f"dense_{i}", hidden[-1], network.initializer)))
    return (*hidden[1:], hidden[-1], _dense(network.num_classes, "head", hidden[-1], network.initializer))


def _max_pool(x: Array, size: int, stride: int, pad: int) -> Array:
    """Maximum of shifted slices: differentiable to any order, in both modes, and fast inside loops.

    Where several entries of a window are equal their gradient is shared.
    """
    if min(x.shape[1:3]) + 2 * pad < size:
        raise JaxddError(f"a map of {x.shape[1]}x{x.shape[2]} is too small to be pooled: give larger images.")
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=-jnp.inf) if pad else x
    height, width = ((extent - size) // stride * stride + 1 for extent in x.shape[1:3])
    slices = [x[:, i : i + height : stride, j : j + width : stride] for i in range(size) for j in range(size)]
    return functools.reduce(jnp.maximum, slices)


def _local_response_norm(x: Array, size: int = 4, alpha: float = 0.001 / 9, beta: float = 0.75) -> Array:
    """Krizhevsky et al. (2012) as PyTorch has it: `x / (1 + alpha * mean square of `size` channels)^beta`."""
    channels = x.shape[-1]
    squares = jnp.pad(x * x, ((0, 0), (0, 0), (0, 0), (size // 2, (size - 1) // 2)))
    mean = sum(squares[..., i : i + channels] for i in range(size)) / size
    return x / (1 + alpha * mean) ** beta


def _average_pool(x: Array) -> Array:
    """Mean over 2x2 windows; an odd last row or column is left out, as in PyTorch."""
    h, w = x.shape[1:3]
    if min(h, w) < 2:
        raise JaxddError(f"the network is too deep for its images: a map of {h}x{w} cannot be halved; lower its depth.")
    # Four slices: reduce_window has a slow gradient on XLA:CPU, a reshape and a mean a slower forward pass.
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    return 0.25 * (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2])
