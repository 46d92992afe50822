"""Rules over similarities between all points: facility location, graph cut, and CRAIG's weights."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxdd.selection.choose import _metric
from jaxdd.selection.choose._columns import columns_ahead
from jaxdd.selection.choose._lazy import in_blocks, lazy_greedy
from jaxdd.selection.choose._metric import Prepared
from jaxdd.selection.choose._points import factor, length, number, points
from jaxdd.types import Array

_BLOCK = 256
_KEPT = 8  # blocks of columns: 0.4 GB of 50,000 points
_AHEAD = 64
_SAMPLE = 2048  # points by which the first choice is foretold
_FORETOLD = 128


def facility_location(
    features: ArrayLike, k: int, *, similarity: str = "euclidean", mask: ArrayLike | None = None
) -> Array:
    """Greedily the points that every point has one similar to: the largest `F(S) = Σ_i max_{j in S} s_ij`.

    F is monotone and submodular, so that the greedy choice has at least 1 - 1/e of the largest F of k points (Nemhauser
    et al. 1978); it is lazy (Minoux 1978), and never keeps all similarities. Of equal ones it is the lowest row.

        rows = facility_location(features, 10)

    Args:
      features: `(n, d)`; computed in float32.
      k: how many, 1 to n.
      similarity: "euclidean", `s = max |x - y| - |x - y|` with the largest distance of all pairs, or "cosine",
        `s = 1/2 + cos(x, y)/2`. Neither is negative; the choice does not depend on the offset.
      mask: bool `(n,)`, the points that count; None for all.

    Returns:
      int32 `(k,)` in order of choice.

    Raises:
      JaxddError: if k is not between 1 and the number of points that count, features are not finite `(n, d)`, or the
        similarity is unknown.
    """
    _metric.check_similarity(similarity)
    values, counted = points(features, mask)
    k = number(k, counted)
    return _facility_location(values, counted, k, similarity=similarity, length=length(k, len(values)))[:k]


@functools.partial(jax.jit, static_argnames=("similarity", "length"))
def _facility_location(values: Array, mask: Array, k: Array, *, similarity: str, length: int) -> Array:
    of = _metric.prepared(values, mask, similarity)

    def columns(rows: Array) -> Array:
        return _metric.distances(_metric.take(of, rows), of, similarity)

    first, cover, bounds = _first(of, mask, columns, similarity)
    bounds = jnp.where(mask, bounds, -jnp.inf)
    return lazy_greedy(columns, _gains, jnp.minimum, cover, bounds, first, k, length=length, block=_BLOCK, blocks=_KEPT)


def _first(of: Prepared, mask: Array, columns: Callable[[Array], Array], similarity: str) -> tuple[Array, Array, Array]:
    """The row with the least sum of distances, its cover, and the gains of all others after it.

    The sums are one pass over all pairs and the gains another, but for a row that is foretold they are the same one.
    """

    def look(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        row = carry[0]
        cover = jnp.where(mask, columns(row[None])[0], 0)

        def both(rows: Array) -> tuple[Array, Array]:
            block = columns(rows)
            return _summed(jnp.where(mask[None], block, 0)), _gains(cover, block)

        sums, gained = in_blocks(both, len(mask), _BLOCK)
        best = _least(sums, mask)
        return best, best == row, cover, gained

    n = len(mask)
    start = (_foretold(of, mask, columns, similarity), jnp.bool_(False), jnp.zeros(n), jnp.zeros(n))
    row, _, cover, gained = lax.while_loop(lambda carry: ~carry[1], look, start)
    return row, cover, gained


def _foretold(of: Prepared, mask: Array, columns: Callable[[Array], Array], similarity: str) -> Array:
    """The row that probably has the least sum of distances: the best of those with small sums to a sample."""
    n, size = len(mask), min(_SAMPLE, len(mask))
    if n <= _SAMPLE:
        return jnp.int32(0)  # two passes over so few cost nothing
    inside = jnp.argsort(~mask, stable=True)
    sample = _metric.take(of, inside[(jnp.arange(size) * (jnp.sum(mask) / size)).astype(jnp.int32)])
    near = in_blocks(
        lambda rows: jnp.sum(_metric.distances(_metric.take(of, rows), sample, similarity), axis=1), n, _BLOCK
    )
    few = lax.top_k(jnp.where(mask, -near, -jnp.inf), _FORETOLD)[1].astype(jnp.int32)
    return few[jnp.argmin(_summed(jnp.where(mask[None], columns(few), 0)))]


def _least(sums: Array, mask: Array) -> Array:
    return jnp.argmin(jnp.where(mask, sums, jnp.inf)).astype(jnp.int32)


def _gains(cover: Array, columns: Array) -> Array:
    """How much nearer points get, summed, `(b,)`; `cover` is how far they have it to the nearest chosen one."""
    return _summed(jnp.maximum(cover[None] - columns, 0))


def _summed(values: Array) -> Array:
    """Sums of rows `(b, n)`, in the same order whether there are many rows or one, so that equal points stay equal."""
    b, n = values.shape
    lanes = 128
    whole = n // lanes * lanes
    parts = jnp.sum(values[:, :whole].reshape(b, -1, lanes), axis=1)
    return jnp.sum(parts, axis=1) + jnp.sum(values[:, whole:], axis=1)


def graph_cut(
    features: ArrayLike,
    k: int,
    *,
    penalty: float = 1.0,
    similarity: str = "cosine",
    mask: ArrayLike | None = None,
) -> Array:
    """Greedily the points similar to all and not to those chosen: the largest `Σ_i s_ix - 2 λ Σ_{j in S} s_jx`.

    The first sum is over all points. With λ = 1 it is the rule of Dataset Quantization (Zhou et al. 2023, arXiv
    2308.10524), which thinks less and less of points near many others as S grows. Of equal ones it is the lowest row.

        rows = graph_cut(features, 10, penalty=0.5)

    Args:
      features: `(n, d)`; computed in float32.
      k: how many, 1 to n.
      penalty: λ, from 1e-15 to 1e15.
      similarity: "cosine" or "euclidean", as `facility_location` has them; the choice does not depend on the offset.
      mask: bool `(n,)`, the points that count; None for all.

    Returns:
      int32 `(k,)` in order of choice.

    Raises:
      JaxddError: as `facility_location`, and for another penalty.
    """
    _metric.check_similarity(similarity)
    penalty = factor(penalty, "penalty")
    values, counted = points(features, mask)
    k = number(k, counted)
    return _graph_cut(values, counted, k, penalty, similarity=similarity, length=length(k, len(values)))[:k]


@functools.partial(jax.jit, static_argnames=("similarity", "length"))
def _graph_cut(values: Array, mask: Array, k: Array, penalty: Array, *, similarity: str, length: int) -> Array:
    of = _metric.prepared(values, mask, similarity)

    def columns(rows: Array, among: Array | None = None) -> Array:
        return _metric.distances(_metric.take(of, rows), _metric.take(of, among), similarity)

    if similarity == "cosine":  # those that do not count are zeros
        sums = -0.5 * _metric.product(of.points, jnp.sum(of.points, axis=0))
    else:
        sums = in_blocks(lambda rows: jnp.sum(jnp.where(mask[None], columns(rows), 0), axis=1), len(mask), _BLOCK)
    # The offset of a similarity adds the same to all.
    return columns_ahead(
        columns,
        lambda criterion, column: criterion + 2 * penalty * column,
        jnp.where(mask, -sums, -jnp.inf),
        k,
        length=length,
        ahead=_AHEAD,
    )


def craig(
    gradients: ArrayLike, k: int, *, similarity: str = "euclidean", mask: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Facility location over gradients, each chosen point with the number of those nearest to it (CRAIG).

    Mirzasoleiman et al. 2020 (arXiv 1906.01827, algorithm 1): the weighted sum of the chosen gradients is near the sum
    of all, and the loss of a chosen point counts as often as its weight says.

        rows, weights = craig(gradients, 10)

    Args:
      gradients: `(n, d)`, or features; computed in float32.
      k: how many, 1 to n.
      similarity: as `facility_location` has it.
      mask: bool `(n,)`, the points that count; None for all.

    Returns:
      int32 `(k,)` in order of choice, and float32 `(k,)`, whole numbers of at least 0 that sum to the points that
      count. A point as near to two chosen ones counts for the earlier.

    Raises:
      JaxddError: as `facility_location`.
    """
    _metric.check_similarity(similarity)
    values, counted = points(gradients, mask, what="gradients")
    k = number(k, counted)
    size = length(k, len(values))
    rows = _facility_location(values, counted, k, similarity=similarity, length=size)
    return rows[:k], _numbers_nearest(values, counted, rows, k, similarity=similarity)[:k]


@functools.partial(jax.jit, static_argnames="similarity")
def _numbers_nearest(values: Array, mask: Array, rows: Array, k: Array, *, similarity: str) -> Array:
    """Of each of the first k rows, how many points are nearer to it than to the others: float32, as many as rows."""
    of = _metric.prepared(values, mask, similarity)
    chosen = _metric.take(of, rows)
    there = jnp.arange(len(rows)) < k

    def nearest(some: Array) -> Array:
        distance = _metric.distances(_metric.take(of, some), chosen, similarity)
        return jnp.argmin(jnp.where(there[None], distance, jnp.inf), axis=1).astype(jnp.int32)

    owner = in_blocks(nearest, len(mask), _BLOCK)
    return jnp.zeros(len(rows)).at[owner].add(mask.astype(jnp.float32))
