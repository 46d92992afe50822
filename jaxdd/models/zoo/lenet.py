"""The networks that dataset distillation began with: LeNet-5 and a small AlexNet."""

from __future__ import annotations

import flax.linen as nn

from jaxdd.models.zoo.layers import Layered, conv, dense, local_response_norm, max_pool
from jaxdd.types import Array


class LeNet(Layered):
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
        first = nn.relu(conv(6, 5, pad, "conv_0", images, self.conv, self.initializer))
        second = nn.relu(conv(16, 5, 0, "conv_1", max_pool(first, 2, 2, 0), self.conv, self.initializer))
        return (first, second, *_perceptron(max_pool(second, 2, 2, 0), (120, 84), self))


class AlexCifarNet(Layered):
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
        first = nn.relu(conv(64, 5, 2, "conv_0", images, self.conv, self.initializer))
        x = local_response_norm(max_pool(first, 3, 2, 1))
        second = nn.relu(conv(64, 5, 2, "conv_1", x, self.conv, self.initializer))
        x = max_pool(local_response_norm(second), 3, 2, 1)
        return (first, second, *_perceptron(x, (384, 192), self))


def _perceptron(x: Array, widths: tuple[int, ...], network: LeNet | AlexCifarNet) -> tuple[Array, ...]:
    """Hidden layers on a flattened map, the last of them again as the features, and the logits."""
    hidden = [x.reshape(len(x), -1)]
    for i, width in enumerate(widths):
        hidden.append(nn.relu(dense(width, f"dense_{i}", hidden[-1], network.initializer)))
    return (*hidden[1:], hidden[-1], dense(network.num_classes, "head", hidden[-1], network.initializer))
