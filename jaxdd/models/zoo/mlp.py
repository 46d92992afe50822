"""Multi-layer perceptrons."""

from __future__ import annotations

import flax.linen as nn

from jaxdd.models.zoo.layers import Layered, dense
from jaxdd.types import Array


class MLP(Layered):
    """Flatten, `depth` ReLU layers of `width`, linear head: the MLP of Zhao, Mopuri & Bilen (2021)."""

    width: int = 128
    depth: int = 2

    @nn.compact
    def layers(self, images: Array) -> tuple[Array, ...]:
        """`(n, h, w, c)` to `depth` times `(n, width)`, the features (the last of them again), the logits."""
        hidden = [images.reshape(len(images), -1)]
        for i in range(self.depth):
            hidden.append(nn.relu(dense(self.width, f"dense_{i}", hidden[-1])))
        return (*hidden[1:], hidden[-1], dense(self.num_classes, "head", hidden[-1]))
