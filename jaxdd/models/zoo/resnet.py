"""Residual networks for small images."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn

from jaxdd.models.zoo.layers import Normalised, conv, dense, normalise
from jaxdd.types import Array


class ResNet(Normalised):
    """Basic blocks of He et al. (2016) with the stem for small images: a 3x3 convolution, no max pooling.

    Four stages of `width * 2**k` channels, each but the first halving its map with a strided convolution (and a strided
    1x1 convolution with normalisation on the way around), global average pooling, a linear head. Convolutions have no
    biases. Parameters and order of normalisations are those of torchvision's networks: both of a block, then the one on
    the way around.

    The features are the mean of the last map, and the head is linear, so class activation maps (Zhou et al. 2016) are

        layers, _ = network.layers(theta, images, stats)
        maps = layers[-3] @ theta["head"]["kernel"]  # (n, h', w', classes); their mean, plus the bias, is the logits

    Attributes:
      width: channels of the first stage.
      norm: "batch", "instance", "group" (GroupNorm of 4 groups) or "none", see `normalise`.
      initializer: "torch", or "he", "xavier", "lecun".
      conv: implementation of the convolutions, see `conv2d`.
    """

    blocks: ClassVar[tuple[int, ...]]

    width: int = 64
    norm: str = "batch"
    initializer: str = "torch"
    conv: str = "auto"

    @nn.compact
    def layers(self, images: Array, train: bool = False) -> tuple[Array, ...]:
        """To the map of each ReLU, two a block after the stem's, the features `(n, 8 * width)`, the logits."""

        def normed(features: int, size: int, name: str, x: Array, stride: int = 1) -> Array:
            pad = size // 2
            x = conv(features, size, pad, f"conv_{name}", x, self.conv, self.initializer, stride=stride, bias=False)
            return normalise(self.norm, x, train, f"norm_{name}")

        maps = [nn.relu(normed(self.width, 3, "stem", images))]
        for stage, blocks in enumerate(self.blocks):
            channels = self.width * 2**stage
            for block in range(blocks):
                name, x = f"{stage}_{block}", maps[-1]
                stride = 2 if stage and not block else 1
                maps.append(nn.relu(normed(channels, 3, f"{name}_0", x, stride)))
                out = normed(channels, 3, f"{name}_1", maps[-1])
                around = x if x.shape == out.shape else normed(channels, 1, f"{name}_around", x, stride)
                maps.append(nn.relu(out + around))
        features = maps[-1].mean((1, 2))
        return (*maps, features, dense(self.num_classes, "head", features, self.initializer))


class ResNet10(ResNet):
    """ResNet-10 for small images: one basic block a stage, 4,903,242 parameters for ten classes."""

    blocks: ClassVar[tuple[int, ...]] = (1, 1, 1, 1)


class ResNet18(ResNet):
    """ResNet-18 for small images: two basic blocks a stage, 11,173,962 parameters for ten classes."""

    blocks: ClassVar[tuple[int, ...]] = (2, 2, 2, 2)
