"""What every rule asks of its points before it computes: their shape, their number, that they are finite."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdd._jax import Tracer
from jaxdd._numbers import whole
from jaxdd.errors import JaxddError
from jaxdd.types import Array


def points(values: ArrayLike, mask: ArrayLike | None, *, ndim: int = 2, what: str = "features") -> tuple[Array, Array]:
    """Points in float32, and which of them count.

    Args:
      values: numbers `(n, d)`, or `(n,)` where `ndim` is 1.
      mask: bool `(n,)`, None for all.
      what: how the sentence calls them.

    Returns:
      float32 of the same shape, zeros where the mask is False, and the mask.

    Raises:
      JaxddError: for another number of axes, no points, a mask of another shape, or what is not finite (or so large
        that its squares are not).
    """
    array = jnp.asarray(values)
    if array.ndim != ndim or not len(array):
        shape = "(n, d)" if ndim == 2 else "(n,)"
        raise JaxddError(f"{what} must have the shape {shape} with at least one point, got {array.shape}.")
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise JaxddError(f"{what} must be real numbers, got {array.dtype}.")
    counted = all_of(len(array)) if mask is None else jnp.asarray(mask, bool)
    if counted.shape != (len(array),):
        raise JaxddError(f"mask must say of each of {len(array)} points whether it counts, got {counted.shape}.")
    clean, finite = _clean(array, counted)
    if not isinstance(finite, Tracer) and not finite:
        raise JaxddError(f"{what} must be finite numbers, and so must their squares.")
    return clean, counted


def all_of(n: int) -> Array:
    """A mask of n points that all count."""
    return jnp.asarray(np.ones(n, bool))


@jax.jit
def _clean(values: Array, mask: Array) -> tuple[Array, Array]:
    values = values.astype(jnp.float32)
    values = jnp.where(mask.reshape(-1, *[1] * (values.ndim - 1)), values, 0)
    return values, jnp.all(jnp.isfinite(jnp.sum(jnp.square(values).reshape(len(values), -1), axis=1)))


def number(k: Any, mask: Array) -> int:
    """How many to choose, as Python's number.

    Raises:
      JaxddError: if it is not an integer between 1 and the number of points that count.
    """
    most = len(mask) if isinstance(mask, Tracer) else int(np.count_nonzero(np.asarray(mask)))
    k = whole(k, "k, the number of points to choose,")
    if k > most:
        raise JaxddError(f"k, the number of points to choose, is {k}, and there are only {most} points.")
    return k


def length(k: int, n: int) -> int:
    """The rows that a program has place for: a power of two, so that another k seldom is another program."""
    return min(n, 1 << (k - 1).bit_length())
