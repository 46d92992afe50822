"""What labels may be, class numbers or label vectors: one check for every function that takes them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxdd.errors import JaxddError


def label_vectors(
    labels: Any, shape: tuple[int | None, ...] | None = None, what: str = "labels", dtype: Any = jnp.float32
) -> jax.Array:
    """Label vectors `(..., classes)` as floats; integers and booleans, such as one-hot ones, become so.

    Args:
      labels: float ones pass through.
      shape: that they must have, None for an axis of any length; None for any shape. Where their last axis may have any
        length, integers with one axis, or with a last one of length 1, are class numbers.
      what: how the sentence calls them.
      dtype: of what were integers.

    Raises:
      JaxddError: for class numbers, or another shape.
    """
    labels = jnp.asarray(labels)
    exact = not jnp.issubdtype(labels.dtype, jnp.inexact)
    fits = shape is None or (
        len(shape) == labels.ndim and all(want in (None, size) for want, size in zip(shape, labels.shape, strict=True))
    )
    if shape is None or shape[-1] is None:
        fits = fits and labels.ndim > 0 and not (exact and (labels.ndim == 1 or labels.shape[-1] == 1))
    if not fits:
        sizes = "..., classes" if shape is None else ", ".join("classes" if n is None else str(n) for n in shape)
        hint = "; class numbers become vectors by `jax.nn.one_hot` or `losses.centred_one_hot`" if exact else ""
        raise JaxddError(
            f"{what} must be label vectors of shape ({sizes}), got {labels.dtype} of shape {labels.shape}{hint}."
        )
    return labels.astype(dtype) if exact else labels


def class_numbers(labels: Any, shape: tuple[int, ...] | None = None, what: str = "labels") -> jax.Array:
    """Class numbers: integers, of a certain shape or of any.

    Raises:
      JaxddError: for anything else, such as floats or one-hot vectors.
    """
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer) or (shape is not None and labels.shape != shape):
        of_shape = "" if shape is None else f" of shape {shape}"
        raise JaxddError(
            f"{what} must be integers{of_shape}, the numbers of classes, got {labels.dtype} of shape {labels.shape}."
        )
    return labels
