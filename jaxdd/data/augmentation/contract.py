"""What an augmentation is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxdd.types import Array, Key


class Augmentation(NamedTuple):
    """A random change of images that keeps what they show, pure, jittable, vmappable and differentiable."""

    draw: Callable[[Key, int], Any]
    """`draw(key, count)`: parameters for `count` images, a pytree with leaves `(count, ..)`; with `count=1` one set,
    shared by any number of images."""
    apply: Callable[[Array, Any], Array]
    """`apply(images, draw)`: images `(n, h, w, c)` and the draw of `n` or 1 to images of the same shape."""
    name: str


def chain(*augmentations: Augmentation) -> Augmentation:
    """One after the other; a draw is the tuple of theirs."""

    def draw(key: Key, count: int) -> tuple[Any, ...]:
        keys = jax.random.split(key, len(augmentations))
        return tuple(each.draw(key, count) for each, key in zip(augmentations, keys, strict=True))

    def apply(images: Array, draws: tuple[Any, ...]) -> Array:
        for each, drawn in zip(augmentations, draws, strict=True):
            images = each.apply(images, drawn)
        return images

    return Augmentation(draw, apply, ", ".join(each.name for each in augmentations))
