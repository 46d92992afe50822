"""The field's standard networks, in flax.linen, with PyTorch's initialisation.

Every module has `__call__(images)` for logits and `features(images)` for what its linear head sees.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdd.errors import JaxddError, unknown
from jaxdd.models.conv import conv2d
from jaxdd.types import Array

NORMS = ("instance", "group", "none")


def torch_uniform(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default for the weights and the biases of linear and convolutional layers: U(±1/√fan_in).

    PyTorch calls it `kaiming_uniform_(a=√5)`: gain √(2 / (1 + 5)) times √(3 / fan_in).
    """
    bound = fan_in**-0.5

    def init(key, shape, dtype=jnp.float32, out_sharding=None):
        return jax.random.uniform(key, shape, dtype, -bound, bound, out_sharding=out_sharding)

    return init


def _dense(features: int, name: str, inputs: Array) -> Array:
    init = torch_uniform(inputs.shape[-1])
    return nn.Dense(features, kernel_init=init, bias_init=init, name=name)(inputs)


class MLP(nn.Module):
    """Flatten, `depth` ReLU layers of `width`, linear head: the MLP of Zhao, Mopuri & Bilen (2021)."""

    num_classes: int
    width: int = 128
    depth: int = 2

    @nn.compact
    def features(self, images: Array) -> Array:
        """`(n, h, w, c)` to `(n, width)`."""
        hidden = images.reshape(len(images), -1)
        for i in range(self.depth):
            hidden = nn.relu(_dense(self.width, f"dense_{i}", hidden))
        return hidden

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """`(n, h, w, c)` to logits `(n, num_classes)`."""
        return _dense(self.num_classes, "head", self.features(images))


class ConvNet(nn.Module):
    """ConvNet-D of Gidaris & Komodakis (2018) as dataset distillation uses it (Zhao, Mopuri & Bilen 2021).

    `depth` blocks of 3x3 convolution (padding 1), normalisation, ReLU and 2x2 average pooling, then a linear head.
    As in the authors' code the first convolution of a one-channel network has padding 3, so that 28x28 behaves as
    32x32. The head sees the map flattened as (h, w, c), a permutation of PyTorch's (c, h, w).

    Attributes:
      norm: "instance" (GroupNorm with a group for each channel, affine), "group" (4 groups) or "none".
      conv: implementation of the convolutions, see `conv2d`.
    """

    num_classes: int
    depth: int = 3
    width: int = 128
    norm: str = "instance"
    conv: str = "auto"

    @nn.compact
    def features(self, images: Array) -> Array:
        """`(n, h, w, c)` to `(n, h' * w' * width)`."""
        if self.norm not in NORMS:
            raise unknown("norm", self.norm, NORMS)
        x = images
        for i in range(self.depth):
            pad = 3 if i == 0 and images.shape[-1] == 1 else 1
            init = torch_uniform(9 * x.shape[-1])
            x = nn.Conv(
                self.width,
                (3, 3),
                padding=pad,
                kernel_init=init,
                bias_init=init,
                conv_general_dilated=functools.partial(conv2d, impl=self.conv),
                name=f"conv_{i}",
            )(x)
            if self.norm != "none":
                groups = self.width if self.norm == "instance" else 4
                x = nn.GroupNorm(groups, epsilon=1e-5, use_fast_variance=False, name=f"norm_{i}")(x)
            x = _average_pool(nn.relu(x))
        return x.reshape(len(x), -1)

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """`(n, h, w, c)` to logits `(n, num_classes)`."""
        return _dense(self.num_classes, "head", self.features(images))


def _average_pool(x: Array) -> Array:
    """Mean over 2x2 windows; an odd last row or column is left out, as in PyTorch."""
    h, w = x.shape[1:3]
    if min(h, w) < 2:
        raise JaxddError(f"the network is too deep for its images: a map of {h}x{w} cannot be halved; lower its depth.")
    # Four slices: reduce_window has a slow gradient on XLA:CPU, a reshape and a mean a slower forward pass.
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    return 0.25 * (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2])
