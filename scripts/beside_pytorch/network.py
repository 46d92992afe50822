"""What the suites show: a ConvNet, synthetic images, real ones."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from measuring import real_images

from jaxdd import inner, models
from jaxdd.types import Array, PyTree

IMAGE, CLASSES = (28, 28, 1), 10


def convnet(width: int) -> tuple[Callable[[PyTree, tuple], Array], PyTree, int]:
    """ConvNet-3: its mean loss on a batch, its first weights, and the FLOP of one image forwards."""
    network = models.build("convnet", IMAGE, CLASSES, width=width, depth=3)
    theta, stats = network.init(jax.random.key(0))
    # The first convolution pads 28x28 so that it behaves as 32x32.
    flops = 2 * (32**2 * 9 * width + (16**2 + 8**2) * 9 * width**2 + 4**2 * width * CLASSES)
    return inner.classification(network, stats), theta, flops


def synthetic(count: int) -> tuple[Array, Array]:
    """Noise for images, with labels in turn."""
    return jax.random.normal(jax.random.key(1), (count, *IMAGE)), jnp.arange(count) % CLASSES


def real_batch(size: int) -> tuple[Array, Array]:
    real = real_images()[1]
    return real.images[:size], real.labels.values[:size]
