"""What every rule asks of its points before it computes: their shape, their number, that they are finite."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdd import _arrays
from jaxdd._jax import Tracer
from jaxdd._numbers import positive, whole
from jaxdd.errors import JaxddError
from jaxdd.types import Array

_LONGEST = 1e15


def points(values: ArrayLike, mask: ArrayLike | None, *, ndim: int = 2, what: str = "features") -> tuple[Array, Array]:
    """Points in float32, and which of them count.

    Args:
      values: numbers `(n, d)`, or `(n,)` where `ndim` is 1.
      mask: bool `(n,)`, None for all.
      what: how the sentence calls them.

    Returns:
      float32 of the same shape, zeros where the mask is False, and the mask.

    Raises:
      JaxddError: for another number of axes, no points, a mask that is none, or what is not finite or longer than
        1e15: up to there the sums of products that rules compute are finite in float32.
    """
    array = _arrays.array(values, what)
    if array.ndim != ndim or not len(array):
        shape = "(n, d)" if ndim == 2 else "(n,)"
        raise JaxddError(f"{what} must have the shape {shape} with at least one point, got {array.shape}.")
    counted = counting(mask, len(array))
    clean, within = _clean(array, counted)
    if not isinstance(within, Tracer) and not within:
        raise JaxddError(f"{what} must be finite numbers, and none, nor the length of a point, above {_LONGEST:g}.")
    return clean, counted


def counting(mask: ArrayLike | None, n: int) -> Array:
    """Which of n points count, bool `(n,)`; None for all.

    Raises:
      JaxddError: for anything but a bool for each.
    """
    if mask is None:
        return jnp.asarray(np.ones(n, bool))
    found = _arrays.array(mask, "mask")
    if found.dtype != bool or found.shape != (n,):
        raise JaxddError(
            f"mask must say of each of {n} points whether it counts, bool ({n},), got {found.dtype} of shape "
            f"{found.shape}."
        )
    return found


def factor(value: Any, what: str) -> float:
    """What a rule multiplies by, as Python's number; JaxddError if it is not between 1e-15 and 1e15."""
    number = positive(value, what)
    if not 1 / _LONGEST <= number <= _LONGEST:
        raise JaxddError(f"{what} must be a number from {1 / _LONGEST:g} to {_LONGEST:g}, got {value!r}.")
    return number


@jax.jit
def _clean(values: Array, mask: Array) -> tuple[Array, Array]:
    values = values.astype(jnp.float32)
    values = jnp.where(mask.reshape(-1, *[1] * (values.ndim - 1)), values, 0)
    return values, jnp.all(jnp.sum(jnp.square(values).reshape(len(values), -1), axis=1) <= _LONGEST**2)


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
