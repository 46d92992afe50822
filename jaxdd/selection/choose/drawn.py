"""Chosen by chance: of all points alike, or of every stratum as many."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdd._arrays import array, num_rows
from jaxdd._numbers import whole
from jaxdd.errors import JaxddError
from jaxdd.selection.choose._points import counting, length, number
from jaxdd.types import Array, Key, PyTree


def uniform(points: int | PyTree, k: int, key: Key, *, mask: ArrayLike | None = None) -> Array:
    """k different points, all alike likely.

        rows = uniform(1000, 10, jax.random.key(0))

    Args:
      points: how many there are, or what has so many rows: leaves `(n, ..)`.
      k: how many, 1 to n.
      mask: bool `(n,)`, the points that count; None for all.

    Returns:
      int32 `(k,)` in the order of the draw.

    Raises:
      JaxddError: if k is not between 1 and the number of points that count, or points or mask are not such.
    """
    whole_number = isinstance(points, int | np.integer)
    n = whole(points, "the number of points") if whole_number else num_rows(points, "points")
    counted = counting(mask, n)
    return _uniform(key, counted, length=length(number(k, counted), len(counted)))[:k]


@functools.partial(jax.jit, static_argnames="length")
def _uniform(key: Key, mask: Array, *, length: int) -> Array:
    return by_chance(key, mask)[:length]


def by_chance(key: Key, mask: Array) -> Array:
    """All rows in an order by chance, those that count before the others: int32 `(n,)`."""
    # Not jax.random.permutation: padding would change the draw of what counts.
    return jnp.lexsort((_priorities(key, len(mask)), ~mask)).astype(jnp.int32)


def _priorities(key: Key, n: int) -> Array:
    """A number for each row that does not depend on how many follow it."""
    return jax.vmap(lambda i: jax.random.bits(jax.random.fold_in(key, i)))(jnp.arange(n))


def stratified(strata: ArrayLike, k: int, key: Key, *, mask: ArrayLike | None = None) -> Array:
    """k different points, as evenly as possible over strata; inside of each all alike likely.

    Every stratum gives the same number as long as it has so many, a smaller one all that it has; what is left over goes
    to different strata by chance.

        rows = stratified(labels, 100, jax.random.key(0))

    Args:
      strata: integers `(n,)`, the stratum of each point: any numbers.
      k: how many, 1 to n.
      mask: bool `(n,)`, the points that count; None for all.

    Returns:
      int32 `(k,)`, stratum after stratum.

    Raises:
      JaxddError: for strata that are no integers of one axis, a mask that is none, or if k is not between 1 and the
        number of points that count.
    """
    values = array(strata, "strata", np.asarray)
    if values.ndim != 1 or not len(values) or not np.issubdtype(values.dtype, np.integer):
        raise JaxddError(f"strata must be integers of shape (n,), got {values.dtype} of shape {values.shape}.")
    counted = counting(mask, len(values))
    k = number(k, counted)
    known, numbers = np.unique(values, return_inverse=True)
    # A power of two, so that another number of strata seldom is another program.
    among = 1 << (len(known) - 1).bit_length()
    rows = _stratified(key, jnp.asarray(numbers, jnp.int32), counted, k, strata=among)
    return rows[:k]


@functools.partial(jax.jit, static_argnames="strata")
def _stratified(key: Key, numbers: Array, mask: Array, k: Array, *, strata: int) -> Array:
    return from_strata(key, numbers, mask, k, strata=strata)


def from_strata(
    key: Key, numbers: Array, mask: Array, k: Array | int, *, strata: int, importance: Array | None = None
) -> Array:
    """Rows `(n,)` of which the first k are those drawn from numbered strata; k may be traced.

    Evenly, or where `importance` `(strata,)` is given, in proportion to it times what a stratum has.
    """
    key_quotas, key_rows = jax.random.split(key)
    counts = jnp.zeros(strata, jnp.int32).at[numbers].add(mask.astype(jnp.int32))
    if importance is None:
        quotas = even_quotas(key_quotas, counts, k)
    else:
        quotas = weighted_quotas(key_quotas, counts, counts * (importance / jnp.max(importance)), k)
    outside = jnp.where(mask, numbers, strata)
    order = jnp.lexsort((_priorities(key_rows, len(numbers)), outside))  # by stratum, by chance inside of it
    ends = jnp.cumsum(counts)
    position = jnp.arange(len(numbers)) - (ends - counts)[jnp.minimum(outside[order], strata - 1)]
    taken = (outside[order] < strata) & (position < quotas[jnp.minimum(outside[order], strata - 1)])
    return order[jnp.argsort(~taken, stable=True)].astype(jnp.int32)


def even_quotas(key: Key, counts: Array, k: Array | int) -> Array:
    """How many each stratum gives, int32 `(strata,)`: the same, or all that it has, and the remainder by chance."""
    # The highest level at which min(count, level) does not sum to more than k, by halving.
    low, high = jnp.int32(0), jnp.max(counts) + 1

    def halve(_, between):
        low, high = between
        middle = (low + high) // 2
        fits = jnp.sum(jnp.minimum(counts, middle)) <= k
        return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

    level, _ = jax.lax.fori_loop(0, 32, halve, (low, high))
    quotas = jnp.minimum(counts, level)
    more = jnp.where(counts > level, jax.random.uniform(key, counts.shape), jnp.inf)
    rank = jnp.argsort(jnp.argsort(more))
    return quotas + ((counts > level) & (rank < k - jnp.sum(quotas))).astype(jnp.int32)


def weighted_quotas(key: Key, counts: Array, weights: Array, k: Array | int) -> Array:
    """How many each stratum gives, int32 `(strata,)`: in proportion to weights, never more than it has.

    Shares are rounded down, and what is left goes to those that lost most by it; of equal losses by chance. Strata that
    weigh nothing give, evenly, only what the others have not got. The sum is k, if there are so many.
    """
    shares = _capped(counts, weights, k)
    # A share that is whole but for rounding must not be rounded down for that.
    quotas = jnp.minimum(jnp.floor(shares + 1e-4).astype(jnp.int32), counts)
    lost = jnp.where((quotas < counts) & (weights > 0), quotas - shares, jnp.inf)
    rank = jnp.argsort(jnp.lexsort((jax.random.uniform(key, counts.shape), jnp.round(lost, 4))))
    quotas += (jnp.isfinite(lost) & (rank < k - jnp.sum(quotas))).astype(jnp.int32)
    return quotas + even_quotas(jax.random.fold_in(key, 1), counts - quotas, k - jnp.sum(quotas))


def _capped(counts: Array, weights: Array, k: Array | int) -> Array:
    """`min(count, factor * weight)`, float32 `(strata,)`, with the factor at which they sum to k, or all that have a
    weight where these have fewer."""
    ratios = jnp.where(weights > 0, counts / jnp.where(weights > 0, weights, 1), jnp.inf)
    order = jnp.argsort(ratios)  # in which they are exhausted as the factor grows
    before = jnp.cumsum(counts[order]) - counts[order]
    others = jnp.cumsum(weights[order][::-1])[::-1]
    factors = (k - before) / jnp.where(others > 0, others, 1)
    fits = (factors < ratios[order]) & (others > 0)
    exhausted = jnp.where(jnp.any(fits), jnp.argmax(fits), len(counts))
    shares = jnp.minimum(counts, factors[jnp.minimum(exhausted, len(counts) - 1)] * weights)
    return jnp.where(weights > 0, jnp.where(jnp.argsort(order) < exhausted, counts, shares), 0)
