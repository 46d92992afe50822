"""Residual networks."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxdd.models.zoo.layers import Normalised, conv, dense, is_large, max_pool, normalise
from jaxdd.types import Array


class ResNet(Normalised):
    """Blocks of He et al. (2016), by default with the stem for small images: a 3x3 convolution, no max pooling.

    Stages of `width * 2**k` channels, each but the first halving its map with a strided convolution (and a strided 1x1
    convolution with normalisation on the way around), global average pooling, a linear head. Convolutions have no
    biases. Parameters and order of normalisations are those of torchvision's networks: those of a block, then the one
    on the way around.

    The features are the mean of the last map, and the head is linear, so class activation maps (Zhou et al. 2016) are

        layers, _ = network.layers(theta, images, stats)
        maps = layers[-3] @ theta["head"]["kernel"]  # (n, h', w', classes); their mean, plus the bias, is the logits

    Attributes:
      width: channels of the first stage.
      norm: "batch", "instance", "group" (GroupNorm of 4 groups) or "none", see `normalise`.
      initializer: "torch", or "he", "xavier", "lecun".
      conv: implementation of the convolutions, see `conv2d`.
      form: "small", or "large" for ImageNet's stem: a 7x7 convolution and max pooling, of two pixels' stride each, so
        that ResNet-18 and 50 are torchvision's.
    """

    blocks: ClassVar[tuple[int, ...]]
    bottleneck: ClassVar[bool] = False
    """Whether a block is 1x1, 3x3 and 1x1 to four times as many channels, in place of two 3x3."""
    padded: ClassVar[bool] = False
    """Whether the way around skips pixels and pads channels with zeros, without parameters (option A)."""

    width: int = 64
    norm: str = "batch"
    initializer: str = "torch"
    conv: str = "auto"
    form: str = "small"

    @nn.compact
    def layers(self, images: Array, train: bool = False) -> tuple[Array, ...]:
        """To the map of each ReLU, the stem's (as it is pooled) and those of the blocks, the features, the logits."""

        def normed(features: int, size: int, name: str, x: Array, stride: int = 1) -> Array:
            pad = size // 2
            x = conv(features, size, pad, f"conv_{name}", x, self.conv, self.initializer, stride=stride, bias=False)
            return normalise(self.norm, x, train, f"norm_{name}")

        if is_large(self.form):
            maps = [max_pool(nn.relu(normed(self.width, 7, "stem", images, 2)), 3, 2, 1)]
        else:
            maps = [nn.relu(normed(self.width, 3, "stem", images))]
        for stage, blocks in enumerate(self.blocks):
            channels = self.width * 2**stage
            for block in range(blocks):
                name, x = f"{stage}_{block}", maps[-1]
                stride = 2 if stage and not block else 1
                if self.bottleneck:
                    maps.append(nn.relu(normed(channels, 1, f"{name}_0", x)))
                    maps.append(nn.relu(normed(channels, 3, f"{name}_1", maps[-1], stride)))
                    out = normed(4 * channels, 1, f"{name}_2", maps[-1])
                else:
                    maps.append(nn.relu(normed(channels, 3, f"{name}_0", x, stride)))
                    out = normed(channels, 3, f"{name}_1", maps[-1])
                if x.shape == out.shape:
                    around = x
                elif self.padded:
                    more = out.shape[-1] - x.shape[-1]
                    rest = (more // 2, more - more // 2)
                    around = jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), rest))
                else:
                    around = normed(out.shape[-1], 1, f"{name}_around", x, stride)
                maps.append(nn.relu(out + around))
        features = maps[-1].mean((1, 2))
        return (*maps, features, dense(self.num_classes, "head", features, self.initializer))


class ResNet10(ResNet):
    """ResNet-10: one basic block a stage, 4,903,242 parameters for ten classes."""

    blocks: ClassVar[tuple[int, ...]] = (1, 1, 1, 1)


class ResNet18(ResNet):
    """ResNet-18: two basic blocks a stage, 11,173,962 parameters for ten classes."""

    blocks: ClassVar[tuple[int, ...]] = (2, 2, 2, 2)


class ResNet50(ResNet):
    """ResNet-50: bottlenecks, 23,520,842 parameters for ten classes."""

    blocks: ClassVar[tuple[int, ...]] = (3, 4, 6, 3)
    bottleneck: ClassVar[bool] = True


class ResNet8(ResNet):
    """ResNet-8 of He et al. (2016) for CIFAR: three stages of one block, 75,290 parameters for ten classes."""

    blocks: ClassVar[tuple[int, ...]] = (1, 1, 1)
    padded: ClassVar[bool] = True

    width: int = 16


class ResNet20(ResNet8):
    """ResNet-20 of He et al. (2016) for CIFAR: three stages of three blocks, 269,722 parameters for ten classes."""

    blocks: ClassVar[tuple[int, ...]] = (3, 3, 3)


class ResNet56(ResNet8):
    """ResNet-56 of He et al. (2016) for CIFAR: three stages of nine blocks, 853,018 parameters for ten classes."""

    blocks: ClassVar[tuple[int, ...]] = (9, 9, 9)
