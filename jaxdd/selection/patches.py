"""Images as patches, of which the least salient are dropped."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdd import _numbers
from jaxdd._arrays import array, images_of
from jaxdd._numbers import whole
from jaxdd.errors import JaxddError
from jaxdd.types import Array


class Patches(NamedTuple):
    """What is stored of images whose patches were dropped in part; patches count row by row."""

    kept: Array
    """`(m, kept, size * size * c)`, the patches that are kept, in order of position."""
    dropped: Array
    """bool `(m, patches)`, which are not; of every image as many."""


def grid(image_shape: tuple[int, ...], size: int) -> tuple[int, int]:
    """How many patches of `size` by `size` there are in a column and in a row of images `(h, w, c)`.

    Raises:
      JaxddError: if the sides do not divide.
    """
    height, width = image_shape[:2]
    size = whole(size, "the side of a patch")
    if height % size or width % size:
        raise JaxddError(f"images of {height}x{width} pixels cannot be cut into patches of {size}x{size}.")
    return height // size, width // size


def as_patches(images: Array, size: int) -> Array:
    """Images `(m, h, w, c)` as patches `(m, patches, size * size * c)`, row by row. Raises JaxddError as `grid`."""
    rows, columns = grid(images.shape[1:], size)
    apart = images.reshape(len(images), rows, size, columns, size, -1).swapaxes(2, 3)
    return apart.reshape(len(images), rows * columns, -1)


def from_patches(patches: Array, image_shape: tuple[int, ...], size: int) -> Array:
    """The inverse of `as_patches`, for images `(h, w, c)`."""
    rows, columns = grid(image_shape, size)
    apart = patches.reshape(len(patches), rows, columns, size, size, -1).swapaxes(2, 3)
    return apart.reshape(len(patches), *image_shape)


def patch_scores(scores: ArrayLike, size: int) -> Array:
    """Scores of pixels `(m, h, w)` as those of patches, `(m, patches)`: their means.

        patch_scores(grad_cam(network, theta, stats, images), 4)

    Raises:
      JaxddError: as `grid`, and for scores of another shape.
    """
    found = array(scores, "scores")
    if found.ndim != 3 or not found.size:
        raise JaxddError(f"scores of pixels must have the shape (m, h, w) with at least one image, got {found.shape}.")
    return as_patches(found[..., None], size).mean(-1)


def drop_patches(images: ArrayLike, scores: ArrayLike, size: int, share: float) -> Patches:
    """Images without the share of their patches that have the smallest scores, of equal ones the first.

    Of every image `round(share * patches)` are dropped, so that what is kept is an array.

        kept, dropped = drop_patches(images, patch_scores(grad_cam(network, theta, stats, images), 4), 4, 0.25)

    Args:
      images: `(m, h, w, c)`.
      scores: of patches, `(m, patches)`.
      size: side of a patch.
      share: in [0, 1).

    Raises:
      JaxddError: if there are no images, their sides do not divide into patches, there is no score for each, or the
        share is none or leaves none.
    """
    images, scores = images_of(images), array(scores, "scores")
    rows, columns = grid(images.shape[1:], size)
    count = num_dropped(rows * columns, share)
    if scores.shape != (len(images), rows * columns):
        raise JaxddError(f"{len(images)} images of {rows * columns} patches need a score for each, got {scores.shape}.")
    return _drop(images, scores, size=size, count=count)


def num_dropped(patches: int, share: float) -> int:
    """How many of so many patches of an image a share is. Raises JaxddError if none would be left, or for no share."""
    count = round(_numbers.share(share, "the share of patches to drop", under=True) * patches)
    if count >= patches:
        raise JaxddError(f"a share of {share} of {patches} patches leaves none.")
    return count


@functools.partial(jax.jit, static_argnames=("size", "count"))
def _drop(images: Array, scores: Array, *, size: int, count: int) -> Patches:
    order = jnp.argsort(scores, axis=1, stable=True)
    kept = jnp.sort(order[:, count:], axis=1)
    patches = jnp.take_along_axis(as_patches(images, size), kept[..., None], axis=1)
    return Patches(patches, jnp.argsort(order, axis=1) < count)


def in_place(patches: Patches, elsewhere: Array | float = 0.0) -> Array:
    """Kept patches at their places `(m, patches, size * size * c)`, and `elsewhere`, of that shape, where some were
    dropped."""
    kept, dropped = patches
    nth = jnp.clip(jnp.cumsum(~dropped, axis=1) - 1, 0, kept.shape[1] - 1)  # which of the kept ones it is
    return jnp.where(dropped[..., None], elsewhere, jnp.take_along_axis(kept, nth[..., None], axis=1))
