"""Points that leave no other far away."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdd._numbers import whole
from jaxdd.errors import JaxddError
from jaxdd.selection.choose import _metric
from jaxdd.selection.choose._columns import columns_ahead
from jaxdd.selection.choose._lazy import in_blocks
from jaxdd.selection.choose._points import length, number, points
from jaxdd.selection.choose.drawn import by_chance
from jaxdd.types import Array, Key

_AHEAD = 64
_BLOCK = 512


def k_center(
    features: ArrayLike,
    k: int,
    *,
    key: Key | None = None,
    first: int | None = None,
    centres: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Array:
    """Greedily the point farthest from those chosen (Sener & Savarese 2018, arXiv 1708.00489, algorithm 1).

    The largest Euclidean distance that it leaves between a point and the nearest chosen one is at most twice the
    smallest possible (Gonzalez 1985). Of equal ones it is the lowest row.

        rows = k_center(features, 10, key=jax.random.key(0))

    Args:
      features: `(n, d)`; computed in float32.
      k: how many, 1 to n.
      key: draws the first point. Without it, and without the next two, that is the one nearest to the mean.
      first: the row of the first point; the key is then not used.
      centres: features `(s, d)` of points chosen before; all k are then chosen by their distance to these too, and
        neither `key` nor `first` is used.
      mask: bool `(n,)`, the points that count; None for all.

    Returns:
      int32 `(k,)` in order of choice.

    Raises:
      JaxddError: if k is not between 1 and the number of points that count, features or centres are not finite
        `(n, d)`, or the first row is none of those that count.
    """
    values, counted = points(features, mask)
    k = number(k, counted)
    size = length(k, len(values))
    if centres is not None:
        known, _ = points(centres, None, what="centres")
        if known.shape[1] != values.shape[1]:
            raise JaxddError(f"centres have {known.shape[1]} features each, the points {values.shape[1]}.")
        return _k_center(values, counted, k, _to_centres(values, counted, known), length=size)[:k]
    if first is not None:
        row = jnp.int32(whole(first, "the first row", least=0))
        if row >= len(values) or not counted[row]:
            raise JaxddError(f"the first row, {first}, is none of the points that count.")
        start = _only(counted, row)
    else:
        start = _nearest_to_mean(values, counted) if key is None else _only(counted, _drawn(key, counted))
    return _k_center(values, counted, k, start, length=size)[:k]


def _only(mask: Array, row: Array) -> Array:
    """Squared distances before there is a centre: infinite, so that the first distances replace them, one the most."""
    return jnp.where(mask, jnp.finfo(jnp.float32).max, -jnp.inf).at[row].set(jnp.inf)


@jax.jit
def _drawn(key: Key, mask: Array) -> Array:
    return by_chance(key, mask)[0]


@jax.jit
def _nearest_to_mean(values: Array, mask: Array) -> Array:
    squares = jnp.sum(jnp.square(_metric.centred(values, mask)), axis=1)
    return _only(mask, jnp.argmin(jnp.where(mask, squares, jnp.inf)))


@jax.jit
def _to_centres(values: Array, mask: Array, known: Array) -> Array:
    mean = jnp.sum(values, axis=0, keepdims=True) / jnp.maximum(jnp.sum(mask), 1)
    known = known - mean
    to = _metric.Prepared(known, jnp.sum(jnp.square(known), axis=1))
    of = _metric.prepared(values, mask, "euclidean")
    nearest = in_blocks(
        lambda rows: jnp.min(_metric.squared_distances(_metric.take(of, rows), to), axis=1), len(values), _BLOCK
    )
    return jnp.where(mask, nearest, -jnp.inf)


@functools.partial(jax.jit, static_argnames="length")
def _k_center(values: Array, mask: Array, k: Array, start: Array, *, length: int) -> Array:
    of = _metric.prepared(values, mask, "euclidean")
    return columns_ahead(
        lambda rows, among: _metric.squared_distances(_metric.take(of, rows), _metric.take(of, among)),
        jnp.minimum,
        start,
        k,
        length=length,
        ahead=_AHEAD,
    )
