"""Convolution, normalisation, ReLU and pooling in turn: the networks of the field."""

from __future__ import annotations

import flax.linen as nn

from jaxdd.errors import unknown
from jaxdd.models.zoo.layers import Normalised, average_pool, conv, dense, normalise
from jaxdd.types import Array


class ConvNet(Normalised):
    """ConvNet-D of Gidaris & Komodakis (2018) as dataset distillation uses it (Zhao, Mopuri & Bilen 2021).

    `depth` blocks of 3x3 convolution (padding 1), normalisation, ReLU and 2x2 average pooling, then a linear head.
    As in the authors' code the first convolution of a one-channel network has padding 3, so that 28x28 behaves as
    32x32. The head sees the map flattened as (h, w, c), a permutation of PyTorch's (c, h, w).

    Attributes:
      norm: "instance" (affine), "batch", "group" (GroupNorm of 4 groups) or "none", see `normalise`.
      initializer: "torch"; or "he", for random features (Loo et al. 2022), "xavier", "lecun".
      conv: implementation of the convolutions, see `conv2d`.
    """

    depth: int = 3
    width: int = 128
    norm: str = "instance"
    initializer: str = "torch"
    conv: str = "auto"

    @nn.compact
    def layers(self, images: Array, train: bool = False) -> tuple[Array, ...]:
        """`(n, h, w, c)` to `depth` maps before their pooling, the features `(n, h' * w' * width)`, the logits."""
        x, maps = images, []
        for i in range(self.depth):
            pad = 3 if i == 0 and images.shape[-1] == 1 else 1
            x = conv(self.width, 3, pad, f"conv_{i}", x, self.conv, self.initializer)
            maps.append(nn.relu(normalise(self.norm, x, train, f"norm_{i}")))
            x = average_pool(maps[-1])
        x = x.reshape(len(x), -1)
        return (*maps, x, dense(self.num_classes, "head", x, self.initializer))


class WideConvNet(Normalised):
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
            maps.append(nn.relu(conv(self.width * 2**i, 3, pad, f"conv_{i}", x, self.conv, "lecun")))
            x = average_pool(maps[-1])
        x = x.reshape(len(x), -1)
        return (*maps, x, dense(self.num_classes, "head", x, "lecun"))
