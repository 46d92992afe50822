"""What a trained network makes of many images: features and logits, block by block."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdd import inner
from jaxdd.types import Array, HostArray, Network, NetworkState

BLOCK = 500
"""Images sent to a device at once: bounds memory at any size of network (a ConvNet map of 32x32x128 takes 0.26 GB)."""
_CPU_BLOCK = 20  # of them in one pass through a network on CPUs: what divides them compiles once


class Seen(NamedTuple):
    """What a network makes of examples, in their order."""

    features: np.ndarray
    """float32 `(n, d)`"""
    logits: np.ndarray
    """float32 `(n, classes)`"""


def seen(network: Network, state: NetworkState, images: Any) -> Seen:
    """Features and logits of a trained network, in evaluation mode.

    One program for any number of images: a last block is filled up with the first ones.

        features, logits = training.seen(network, state, real.images)

    Args:
      images: `(n, h, w, c)` as the network sees them, on a device or the host; of a data set that is streamed they are
        read block by block.

    Raises:
      JaxddError: of a network that does not say what its features are.
    """
    images = images if isinstance(images, HostArray) else np.asarray(images)
    size = min(BLOCK, len(images))
    found = []
    for start in range(0, len(images), size):
        rows = np.arange(start, start + size) % len(images)
        found.append(jax.tree.map(np.asarray, _seen(state, images[rows], network=network)))
    return Seen(*(np.concatenate(parts)[: len(images)] for parts in zip(*found, strict=True)))


@functools.partial(jax.jit, static_argnames="network")
def _seen(state: NetworkState, images: Array, *, network: Network) -> Seen:
    def look(rows: Array) -> tuple[Array, Array]:
        (*_, features, logits), _ = network.layers(state.theta, rows, state.stats)
        return features.reshape(len(rows), -1), logits

    return Seen(*few_at_a_time(look, images))


def few_at_a_time(function: Callable[[Array], Any], images: Array) -> Any:
    """`function` of images that each stand for themselves: on CPUs so few at once that a network's maps stay in cache,
    in two thirds of the time."""
    return inner.map_blocks(function, images, _CPU_BLOCK if jax.default_backend() == "cpu" else None)
