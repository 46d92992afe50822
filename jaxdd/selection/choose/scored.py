"""Rules over scores: the two ends, and an even cover of their range."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdd._numbers import share, whole
from jaxdd.selection.choose._points import number, points
from jaxdd.selection.choose.drawn import from_strata
from jaxdd.types import Array, Key


def hardest(scores: ArrayLike, k: int, *, mask: ArrayLike | None = None) -> Array:
    """The points with the largest scores; of equal ones the lowest rows.

        rows = hardest(scores.el2n(logits, labels), 100)

    Args:
      scores: `(n,)`, larger ones of harder points, as most of `jaxdd.selection.scores` are (not the margin).
      k: how many, 1 to n.
      mask: bool `(n,)`, the points that count; None for all.

    Returns:
      int32 `(k,)`, the largest score first.

    Raises:
      JaxddError: if k is not between 1 and the number of points that count, or scores are not finite `(n,)`.
    """
    values, counted = points(scores, mask, ndim=1, what="scores")
    return _smallest(-values, counted)[: number(k, counted)]


def easiest(scores: ArrayLike, k: int, *, mask: ArrayLike | None = None) -> Array:
    """The points with the smallest scores; else as `hardest`.

    rows = easiest(scores.loss(logits, labels), 100)
    """
    values, counted = points(scores, mask, ndim=1, what="scores")
    return _smallest(values, counted)[: number(k, counted)]


@jax.jit
def _smallest(values: Array, mask: Array) -> Array:
    return jnp.argsort(jnp.where(mask, values, jnp.inf), stable=True).astype(jnp.int32)


def ccs(
    scores: ArrayLike, k: int, key: Key, *, cutoff: float, strata: int = 50, mask: ArrayLike | None = None
) -> Array:
    """Coverage-centric selection: without the hardest points, evenly over the range of scores (Zheng et al. 2023).

    arXiv 2210.15809, algorithm 1: the share `cutoff` with the largest scores is left out, the range of the other scores
    divided into strata of equal width, and of every stratum the same number drawn; a stratum with fewer gives all that
    it has, and the others more. Where k is more than what the cutoff leaves, the cutoff leaves k.

        rows = ccs(scores.el2n(logits, labels), 500, key, cutoff=0.3)

    Args:
      scores: `(n,)`, larger ones of harder points. (Of areas under the margin, where small ones are hard, give the
        negative.)
      k: how many, 1 to n.
      key: for the draw.
      cutoff: from 0, nothing is left out, to below 1.
      strata: how many, 50 in the paper.
      mask: bool `(n,)`, the points that count; None for all.

    Returns:
      int32 `(k,)`, stratum after stratum, the easiest first.

    Raises:
      JaxddError: as `hardest`, and for a cutoff or a number of strata out of range.
    """
    cutoff = share(cutoff, "cutoff", under=True)
    strata = whole(strata, "strata")
    values, counted = points(scores, mask, ndim=1, what="scores")
    k = number(k, counted)
    return _ccs(key, values, counted, k, cutoff, strata=strata)[:k]


@functools.partial(jax.jit, static_argnames="strata")
def _ccs(key: Key, values: Array, mask: Array, k: Array, cutoff: Array, *, strata: int) -> Array:
    count = jnp.sum(mask)
    left = jnp.maximum(k, count - jnp.floor(cutoff * count).astype(jnp.int32))
    easy = jnp.argsort(jnp.where(mask, values, jnp.inf), stable=True)
    kept = jnp.zeros(len(mask), bool).at[easy].set(jnp.arange(len(mask)) < left)
    low, high = jnp.min(jnp.where(kept, values, jnp.inf)), jnp.max(jnp.where(kept, values, -jnp.inf))
    height = (values - low) / jnp.where(high > low, high - low, 1)
    numbers = jnp.clip(jnp.floor(height * strata), 0, strata - 1).astype(jnp.int32)
    return from_strata(key, numbers, kept, k, strata=strata)
