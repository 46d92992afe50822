"""What labels may be, class numbers or label vectors: one check for every function that takes them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd._arrays import array
from jaxdd._jax import Tracer
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


def targets(labels: Any, shape: tuple[int, ...], what: str = "labels") -> jax.Array:
    """What labels say of `(n, classes)` logits, float32: one-hot of class numbers `(n,)`, or probabilities as they are.

    Raises:
      JaxddError: for labels of other shapes, for floats `(n,)`, and for numbers of no class.
    """
    found, (n, classes) = array(labels, what), shape
    if found.shape == (n,) and jnp.issubdtype(found.dtype, jnp.integer):
        return jax.nn.one_hot(class_numbers(found, (n,), what, classes), classes)
    if found.shape != shape:
        raise JaxddError(
            f"{what} must be class numbers, integers ({n},), or probabilities ({n}, {classes}), got {found.dtype} of "
            f"shape {found.shape}."
        )
    return found.astype(jnp.float32)


def class_numbers(
    labels: Any, shape: tuple[int, ...] | None = None, what: str = "labels", classes: int | None = None
) -> jax.Array:
    """Class numbers: integers, of a certain shape or of any, and of so many classes or of any number.

    Raises:
      JaxddError: for anything else, such as floats or one-hot vectors; numbers of no class go unseen while traced.
    """
    labels = array(labels, what)
    if not jnp.issubdtype(labels.dtype, jnp.integer) or (shape is not None and labels.shape != shape):
        of_shape = "" if shape is None else f" of shape {shape}"
        raise JaxddError(
            f"{what} must be integers{of_shape}, the numbers of classes, got {labels.dtype} of shape {labels.shape}."
        )
    if classes is not None and labels.size and not isinstance(labels, Tracer):
        known = np.asarray(labels)
        least, most = int(known.min()), int(known.max())
        if least < 0 or most >= classes:
            wrong = least if least < 0 else most
            raise JaxddError(f"{what} must be the numbers of {classes} classes, from 0 on, and one is {wrong}.")
    return labels
