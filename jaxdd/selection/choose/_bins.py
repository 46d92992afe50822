"""Bins of Dataset Quantization: graph cut again and again on what is left, and samples of all of them.

Zhou et al. 2023, "Dataset Quantization", arXiv 2308.10524. Early bins stand for the data, late ones are what no bin
before wanted; a sample of each has some of both, where graph cut alone chooses near doubles as it goes on.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxdd._arrays import array
from jaxdd._jax import Tracer
from jaxdd._numbers import whole
from jaxdd.errors import JaxddError
from jaxdd.selection.choose import _metric
from jaxdd.selection.choose._columns import columns_ahead
from jaxdd.selection.choose._lazy import in_blocks
from jaxdd.selection.choose._points import factor, number, points
from jaxdd.selection.choose.drawn import from_strata
from jaxdd.types import Array, Key

_AHEAD = 64
_BLOCK = 256


def graph_cut_bins(
    features: ArrayLike,
    bins: int = 10,
    *,
    penalty: float = 1.0,
    similarity: str = "cosine",
    mask: ArrayLike | None = None,
) -> Array:
    """Which bin every point is in: the first is what graph cut chooses of all, the second what it chooses of the rest.

    Every bin but the last has `n // bins` points, which greedily have the largest `Σ_i s_ix - 2 λ Σ_{j in S} s_jx`,
    where i goes over the points that no earlier bin has and S is what this bin has so far; of equal ones the lowest
    row. The last has the remainder. (The paper's C1 and C2 are sums of squared distances; this is the rule of the
    authors' code, with its similarity.) All bins are one compiled program. Time is in proportion to n² d, memory
    to n d, without a matrix of all pairs.

        bins = graph_cut_bins(features, 10)

    Args:
      features: `(n, d)`; computed in float32. The authors' are gradients in a network's last layer
        (`LastLayer.gradients`).
      bins: how many, 1 to n; 10 is the paper's.
      penalty: λ, from 1e-15 to 1e15.
      similarity: "cosine" or "euclidean", see `graph_cut`.
      mask: bool `(n,)`, the points that count; None for all.

    Returns:
      int32 `(n,)`, from 0 to `bins - 1`, and -1 for points that do not count.

    Raises:
      JaxddError: as `graph_cut`; bins are no integer between 1 and the number of points that count.
    """
    _metric.check_similarity(similarity)
    penalty = factor(penalty, "penalty")
    values, counted = points(features, mask)
    bins = whole(bins, "bins")
    there = len(counted) if isinstance(counted, Tracer) else int(np.count_nonzero(np.asarray(counted)))
    if bins > there:
        raise JaxddError(f"{there} points cannot be divided into {bins} bins: each has one at least.")
    return _bins(values, counted, bins, penalty, similarity=similarity, length=len(values) // bins)


@functools.partial(jax.jit, static_argnames=("similarity", "length"))
def _bins(values: Array, mask: Array, bins: Array, penalty: Array, *, similarity: str, length: int) -> Array:
    of = _metric.prepared(values, mask, similarity)
    n, size = len(values), jnp.sum(mask) // bins

    def columns(rows: Array, among: Array | None = None) -> Array:
        return _metric.distances(_metric.take(of, rows), _metric.take(of, among), similarity)

    def fill(b: Array, numbers: Array) -> Array:
        left = numbers == bins - 1
        if similarity == "cosine":
            sums = -0.5 * _metric.product(of.points, jnp.sum(jnp.where(left[:, None], of.points, 0), axis=0))
        else:
            sums = in_blocks(lambda rows: jnp.sum(jnp.where(left[None], columns(rows), 0), axis=1), n, _BLOCK)
        rows = columns_ahead(
            columns,
            lambda criterion, column: criterion + 2 * penalty * column,
            jnp.where(left, -sums, -jnp.inf),
            size,
            length=length,
            ahead=_AHEAD,
        )
        return numbers.at[jnp.where(jnp.arange(length) < size, rows, n)].set(b, mode="drop")

    return lax.fori_loop(0, bins - 1, fill, jnp.where(mask, bins - 1, -1).astype(jnp.int32))


def from_bins(
    numbers: ArrayLike, k: int, key: Key, *, bins: int | None = None, importance: ArrayLike | None = None
) -> Array:
    """k different points, as evenly as possible from all bins, or by how important each bin is.

    Evenly: every bin gives the same number as long as it has so many; what is left over goes to different bins by
    chance. With `importance` a bin gives in proportion to its importance times its size, as the authors' code of
    Adaptive Dataset Quantization does (Li et al. 2025, arXiv 2412.16895), see `bin_importance`.

        rows = from_bins(graph_cut_bins(features, 10), 100, key)

    Args:
      numbers: int `(n,)`, the bin of each point; negative ones are of points that do not count.
      k: how many, 1 to the points that count.
      bins: how many there are; None for one more than the highest number.
      importance: `(bins,)`, none negative.

    Returns:
      int32 `(k,)`, bin after bin.

    Raises:
      JaxddError: if k is not between 1 and the number of points that count, or numbers or importances are not such.
    """
    found, bins = _numbered(numbers, bins)
    counted = found >= 0
    k = number(k, counted)
    weights = None if importance is None else array(importance, "importance").astype(jnp.float32)
    if weights is not None and weights.shape != (bins,):
        raise JaxddError(f"importance must be one number for each of {bins} bins, got {weights.shape}.")
    if weights is not None and not isinstance(weights, Tracer) and not _weigh(weights):
        raise JaxddError("importances must be finite and not negative, and one of them must be above 0.")
    return _from_bins(key, found, counted, k, weights, bins=bins)[:k]


def _numbered(numbers: ArrayLike, bins: int | None) -> tuple[Array, int]:
    """Bins of points, and how many there are."""
    found = array(numbers, "the bins of points")
    if found.ndim != 1 or not len(found) or not jnp.issubdtype(found.dtype, jnp.integer):
        raise JaxddError(f"the bins of points must be integers (n,), got {found.dtype} of shape {found.shape}.")
    traced = isinstance(found, Tracer)
    if bins is None and traced:
        raise JaxddError("bins, how many there are, must be given where the bins of points are traced.")
    highest = 0 if traced else int(np.max(np.asarray(found)))
    bins = highest + 1 if bins is None else whole(bins, "bins")
    if highest >= bins:
        raise JaxddError(f"a point is in bin {highest}, and there are {bins}, from 0 on.")
    return found.astype(jnp.int32), bins


@jax.jit
def _weigh(weights: Array) -> Array:
    return jnp.all((weights >= 0) & jnp.isfinite(weights)) & jnp.any(weights > 0)


@functools.partial(jax.jit, static_argnames="bins")
def _from_bins(key: Key, numbers: Array, mask: Array, k: Array, importance: Array | None, *, bins: int) -> Array:
    return from_strata(key, numbers, mask, k, strata=bins, importance=importance)


def bin_importance(features: ArrayLike, texture: ArrayLike, numbers: ArrayLike, bins: int) -> Array:
    """How important bins are for Adaptive Dataset Quantization: how much texture they have, how diverse they are.

    A reconstruction: in the paper (Li et al. 2025, arXiv 2412.16895) an importance is the sum of two scores, each
    normalised, representativeness by texture (which is here) and diversity by a network that learns a bin's examples
    from each other (here one minus the mean cosine between two points of a bin); how they are normalised is not said,
    and their code has only the numbers, near 1. Here each is divided by its mean over bins.

        importance = bin_importance(features, scores.texture(images), bins, 10)

    Args:
      features: `(n, d)`.
      texture: `(n,)`, not negative, see `scores.texture`.
      numbers: int `(n,)`, the bin of each point, negative for those that do not count.
      bins: how many.

    Returns:
      float32 `(bins,)`, with mean 1.

    Raises:
      JaxddError: if these are not such, or not as many.
    """
    found, bins = _numbered(numbers, bins)
    values, counted = points(features, found >= 0)
    if np.shape(texture) != found.shape:
        raise JaxddError(f"texture must be one number for each of {len(found)} points, got {np.shape(texture)}.")
    textured, _ = points(texture, counted, ndim=1, what="texture")
    return _importance(values, textured, found, bins=bins)


@functools.partial(jax.jit, static_argnames="bins")
def _importance(values: Array, texture: Array, numbers: Array, *, bins: int) -> Array:
    inside = (numbers[None] == jnp.arange(bins)[:, None]).astype(jnp.float32)
    counts = jnp.maximum(jnp.sum(inside, axis=1), 1)
    unit = _metric.prepared(values, numbers >= 0, "cosine").points
    pairs = jnp.sum(jnp.square(_metric.product(inside, unit)), axis=1) - _metric.product(
        inside, jnp.sum(jnp.square(unit), axis=1)
    )
    diversity = jnp.where(counts > 1, 1 - pairs / jnp.maximum(counts * (counts - 1), 1), 0)

    def over_mean(score: Array) -> Array:
        mean = jnp.mean(score)
        return jnp.where(mean > 0, score / jnp.where(mean > 0, mean, 1), 1)

    return (over_mean(_metric.product(inside, texture) / counts) + over_mean(diversity)) / 2


def dataset_quantization(
    features: ArrayLike,
    k: int,
    key: Key,
    *,
    bins: int = 10,
    penalty: float = 1.0,
    similarity: str = "cosine",
    mask: ArrayLike | None = None,
) -> Array:
    """k points of graph-cut bins, evenly from all of them: Dataset Quantization without its patches.

        chosen = by_class(dataset_quantization)(key, features, labels, 20)

    Args:
      features, bins, penalty, similarity, mask: see `graph_cut_bins`.
      k: how many, 1 to n.
      key: for the draw from the bins.

    Returns:
      int32 `(k,)`, bin after bin.

    Raises:
      JaxddError: as `graph_cut_bins` and `from_bins`.
    """
    numbers = graph_cut_bins(features, bins, penalty=penalty, similarity=similarity, mask=mask)
    return from_bins(numbers, k, key, bins=bins)
