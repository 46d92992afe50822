"""Networks of convolutions by channel, by default for small images, with the strides that 32 pixels leave room for."""

from __future__ import annotations

import functools
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxdd.models.conv import conv2d
from jaxdd.models.zoo.layers import Normalised, conv, dense, initializers, is_large, max_pool, normalise
from jaxdd.types import Array


class _Mobile(Normalised):
    initializer: str = "torch"
    conv: str = "auto"
    form: str = "small"

    def normed(self, features: int, size: int, name: str, x: Array, train: bool, stride: int = 1) -> Array:
        """A convolution of all channels without biases, and its normalisation."""
        x = conv(features, size, size // 2, f"conv_{name}", x, self.conv, self.initializer, stride=stride, bias=False)
        return normalise("batch", x, train, f"norm_{name}")

    def by_channel(self, name: str, x: Array, train: bool, stride: int = 1) -> Array:
        """A 3x3 convolution of each channel by itself without biases, and its normalisation."""
        channels = x.shape[-1]
        x = nn.Conv(
            channels,
            (3, 3),
            strides=stride,
            padding=1,
            feature_group_count=channels,
            use_bias=False,
            kernel_init=initializers(self.initializer, 9)[0],
            conv_general_dilated=functools.partial(conv2d, impl=self.conv),
            name=f"conv_{name}",
        )(x)
        return normalise("batch", x, train, f"norm_{name}")


class MobileNetV2(_Mobile):
    """MobileNetV2 of Sandler et al. (2018) for small images: 2,236,682 parameters for ten classes.

    The stem and the second stage do not halve, so a map of 32 pixels ends with 4. Blocks widen by a 1x1 convolution,
    see each channel by itself, and narrow again; global average pooling, and one linear layer.

    Attributes:
      width: channels of the stem, 32; all others are in proportion, but for the last convolution's.
      last: channels of the last convolution.
      initializer: "torch", or "he", "xavier", "lecun".
      conv: implementation of the convolutions, see `conv2d`.
      form: "small", or "large" for ImageNet's, whose stem and second stage halve, torchvision's.
    """

    stages: ClassVar[tuple[tuple[int, int, int, int], ...]] = (
        (1, 16, 1, 1),
        (6, 24, 2, 1),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    """Times by which it widens, channels of 32 in the stem, blocks, stride of the first."""

    width: int = 32
    last: int = 1280

    @nn.compact
    def layers(self, images: Array, train: bool = False) -> tuple[Array, ...]:
        """To the map of each ReLU6, the features, the logits."""
        large = is_large(self.form)
        x = nn.relu6(self.normed(self.width, 3, "stem", images, train, 2 if large else 1))
        maps = [x]
        for stage, (wider, channels, blocks, stride) in enumerate(self.stages):
            stride = 2 if large and stage == 1 else stride
            for block in range(blocks):
                name, before = f"{stage}_{block}", x
                if wider > 1:
                    x = nn.relu6(self.normed(wider * x.shape[-1], 1, f"{name}_wide", x, train))
                    maps.append(x)
                x = nn.relu6(self.by_channel(f"{name}_each", x, train, stride if block == 0 else 1))
                maps.append(x)
                x = self.normed(max(1, channels * self.width // 32), 1, f"{name}_narrow", x, train)
                x = x + before if x.shape == before.shape else x
        maps.append(nn.relu6(self.normed(self.last, 1, "last", x, train)))
        features = maps[-1].mean((1, 2))
        return (*maps, features, dense(self.num_classes, "head", features, self.initializer))


class ShuffleNetV2(_Mobile):
    """ShuffleNetV2 of Ma et al. (2018) for small images: 1,263,854 parameters for ten classes; 352,042 with width=48.

    The stem does not halve and there is no max pooling, so a map of 32 pixels ends with 4. A block sees half of the
    channels, and then the halves are shuffled; the first of a stage sees all of them twice and halves the map.

    Attributes:
      width: channels of the first stage, 116 for 1.0x, 48 for 0.5x; then twice and four times as many. Even.
      stem, last: channels of the first and of the last convolution.
      initializer: "torch", or "he", "xavier", "lecun".
      conv: implementation of the convolutions, see `conv2d`.
      form: "small", or "large" for ImageNet's, whose stem halves and is pooled, torchvision's.
    """

    stages: ClassVar[tuple[int, ...]] = (4, 8, 4)
    """Blocks."""

    width: int = 116
    stem: int = 24
    last: int = 1024

    @nn.compact
    def layers(self, images: Array, train: bool = False) -> tuple[Array, ...]:
        """To the map of each ReLU, the features, the logits."""
        large = is_large(self.form)
        x = nn.relu(self.normed(self.stem, 3, "stem", images, train, 2 if large else 1))
        x = max_pool(x, 3, 2, 1) if large else x
        maps = [x]

        def rectified(x: Array) -> Array:
            maps.append(nn.relu(x))
            return maps[-1]

        for stage, blocks in enumerate(self.stages):
            half = self.width * 2**stage // 2
            for block in range(blocks):
                name, stride = f"{stage}_{block}", 2 if block == 0 else 1
                kept, seen = (x, x) if block == 0 else jnp.split(x, 2, axis=-1)
                if block == 0:
                    kept = self.by_channel(f"{name}_around_each", kept, train, stride)
                    kept = rectified(self.normed(half, 1, f"{name}_around", kept, train))
                seen = rectified(self.normed(half, 1, f"{name}_0", seen, train))
                seen = self.by_channel(f"{name}_each", seen, train, stride)
                seen = rectified(self.normed(half, 1, f"{name}_1", seen, train))
                x = jnp.stack([kept, seen], axis=-1).reshape(*kept.shape[:-1], -1)  # in turn of one and of the other
        x = rectified(self.normed(self.last, 1, "last", x, train))
        features = x.mean((1, 2))
        return (*maps, features, dense(self.num_classes, "head", features, self.initializer))
