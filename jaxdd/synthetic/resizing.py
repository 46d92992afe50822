"""Linear maps along the two sides of images, as matrices."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxdd.types import Array


def bilinear(new: int, old: int) -> np.ndarray:
    """The matrix `(new, old)` that resizes one side of an image from `old` pixels to `new`.

    Pixels have their centres at halves; beyond the border the border goes on; when shrinking, the kernel is widened
    against aliasing. Same as `jax.image.resize(method="linear")`.
    """
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    distances = np.abs(np.arange(old) - centres[:, None]) / max(old / new, 1)
    weights = np.maximum(0, 1 - distances)
    return weights / weights.sum(axis=1, keepdims=True)


def nearest(new: int, old: int) -> np.ndarray:
    """The matrix `(new, old)` that takes the pixels `floor(i * old / new)` of one side of an image.

    Without a filter when shrinking, as PyTorch's `interpolate` does unless told otherwise; `jax.image.resize` takes the
    pixel in the middle instead.
    """
    return np.eye(old)[np.arange(new) * old // new]


def map_sides(subscripts: str, rows: Array | np.ndarray, columns: Array | np.ndarray, images: Array) -> Array:
    """`einsum(subscripts, rows, columns, images)` in the images' type, in full precision on every backend."""
    rows, columns = jnp.asarray(rows, images.dtype), jnp.asarray(columns, images.dtype)
    return jnp.einsum(subscripts, rows, columns, images, precision="highest")
