"""Plain deep convolutional networks."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn

from jaxdd.models.zoo.layers import Normalised, conv, dense, max_pool, normalise
from jaxdd.types import Array


class VGG11(Normalised):
    """VGG-11 of Simonyan & Zisserman (2015) for small images: 9,231,114 parameters for ten classes.

    Eight 3x3 convolutions with normalisation, 2x2 max pooling after the first, the second, the fourth, sixth and eighth
    (as far as there are two pixels to pool), global average pooling, and one linear layer.

    Attributes:
      width: channels of the first convolution; then twice, four and eight times as many.
      norm: "batch", "instance", "group" (GroupNorm of 4 groups) or "none", see `normalise`.
      initializer: "torch", or "he", "xavier", "lecun".
      conv: implementation of the convolutions, see `conv2d`.
    """

    stages: ClassVar[tuple[tuple[int, ...], ...]] = ((1,), (2,), (4, 4), (8, 8), (8, 8))

    width: int = 64
    norm: str = "batch"
    initializer: str = "torch"
    conv: str = "auto"

    @nn.compact
    def layers(self, images: Array, train: bool = False) -> tuple[Array, ...]:
        """To the map of each ReLU before its pooling, the features, the logits."""
        maps, x = [], images
        for stage in self.stages:
            for times in stage:
                k = len(maps)
                x = conv(times * self.width, 3, 1, f"conv_{k}", x, self.conv, self.initializer)
                maps.append(nn.relu(normalise(self.norm, x, train, f"norm_{k}")))
                x = maps[-1]
            if min(x.shape[1:3]) > 1:
                x = max_pool(x, 2, 2, 0)
        features = x.mean((1, 2))
        return (*maps, features, dense(self.num_classes, "head", features, self.initializer))
