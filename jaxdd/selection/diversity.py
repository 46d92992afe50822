"""How many different examples a set holds, and how well some of them stand for all."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxdd._numbers import whole
from jaxdd.errors import JaxddError
from jaxdd.selection.choose import _metric
from jaxdd.selection.choose._lazy import in_blocks
from jaxdd.selection.choose._points import points
from jaxdd.types import Array, Key

_BLOCK = 512
_SPARE = 16


def vendi(features: ArrayLike) -> Array:
    """The effective number of different points, by the cosines between their features (Vendi score).

    `exp(-Σ λ log λ)` over the eigenvalues λ of `K/n` (Friedman & Dieng 2022, arXiv 2210.02410, definition 3.1), K the
    cosines between all points, computed from the smaller of K and the features' second moments. Equal points give 1,
    orthogonal ones n. A point of zeros is left out.

        vendi(features)  # 37.2: as many as 37 points with nothing in common

    Args:
      features: `(n, d)`; computed in float32.

    Returns:
      float32, from 1 to the smaller of n and d.

    Raises:
      JaxddError: if features are not finite `(n, d)`, or all are zero.
    """
    values, _ = points(features, None)
    if _equal(values, jnp.zeros_like(values[0])):
        raise JaxddError("a set of zeros has no Vendi score.")
    return _of_directions(values)


@jax.jit
def _equal(values: Array, one: Array) -> Array:
    """Whether all points are this one, or as near as float32 has no squares for."""
    return jnp.sum(jnp.square(values - one[None])) == 0


def vendi_of_kernel(kernel: ArrayLike) -> Array:
    """The Vendi score by any similarity: as `vendi`, of a symmetric positive `(n, n)` with ones on its diagonal.

    Raises:
      JaxddError: if it is not square, or its diagonal not ones.
    """
    values, _ = points(kernel, None, what="kernel")
    if values.shape[0] != values.shape[1] or not jnp.allclose(jnp.diagonal(values), 1, atol=1e-3):
        raise JaxddError(f"a kernel must be (n, n) with ones on its diagonal, got {values.shape}.")
    return _exp_entropy(values / len(values))


def g_vendi(gradients: ArrayLike, key: Key, *, dimensions: int = 512) -> Array:
    """The effective number of different directions of gradients (G-Vendi).

    Jung et al. 2025 (arXiv 2505.20161): gradients of a proxy network, projected by random signs to a few dimensions,
    brought to length 1, and `exp(-Σ λ log λ)` over the eigenvalues of their second moments `(d, d)`, whose trace is 1.

        g_vendi(last_layer_gradients(features, logits, labels), key)

    Args:
      gradients: `(n, D)`; computed in float32. A gradient of zeros is left out.
      key: for the signs; no projection where D is at most `dimensions`.
      dimensions: d.

    Returns:
      float32, from 1 to the smallest of n, D and d.

    Raises:
      JaxddError: if gradients are not finite `(n, D)`, or all are zero, or dimensions are below 1.
    """
    dimensions = whole(dimensions, "dimensions")
    values, _ = points(gradients, None, what="gradients")
    if _equal(values, jnp.zeros_like(values[0])):
        raise JaxddError("gradients of zeros have no directions.")
    return _of_directions(values if values.shape[1] <= dimensions else _projected(key, values, dimensions))


@functools.partial(jax.jit, static_argnames="dimensions")
def _projected(key: Key, values: Array, dimensions: int) -> Array:
    """Products with random signs, `(n, dimensions)`; the signs are never there all at once."""
    n, size = values.shape
    blocks = -(-size // _BLOCK)
    padded = jnp.pad(values, ((0, 0), (0, blocks * _BLOCK - size)))

    def add(i: Array, total: Array) -> Array:
        signs = jax.random.rademacher(jax.random.fold_in(key, i), (_BLOCK, dimensions), jnp.float32)
        return total + _metric.product(lax.dynamic_slice_in_dim(padded, i * _BLOCK, _BLOCK, 1), signs)

    return lax.fori_loop(0, blocks, add, jnp.zeros((n, dimensions)))


@jax.jit
def _of_directions(values: Array) -> Array:
    directions = _metric.prepared(values, jnp.ones(len(values), bool), "cosine")
    n, d = values.shape
    units = directions.points if n > d else directions.points.T
    return _exp_entropy(_metric.product(units.T, units) / jnp.sum(directions.squares))


@jax.jit
def _exp_entropy(matrix: Array) -> Array:
    eigenvalues = jnp.maximum(jnp.linalg.eigvalsh(matrix), 0)
    shares = eigenvalues / jnp.sum(eigenvalues)
    return jnp.exp(-jnp.sum(jnp.where(shares > 0, shares * jnp.log(jnp.where(shares > 0, shares, 1)), 0)))


def coverage(real: ArrayLike, chosen: ArrayLike, *, neighbours: int = 5) -> Array:
    """The share of real points that have one of the chosen among their neighbours (Naeem et al. 2020).

    arXiv 2002.09797, eq. 5: those with a chosen point no farther than their k-th nearest other real point. The chosen
    ones may be real or made. From 0 to 1. Near points are found by products, and which of them is nearer is decided by
    the sums of their squared differences, so that a real point is as far from a chosen one as from its equal.

        coverage(features, features[rows])

    Args:
      real: features `(n, d)`; computed in float32.
      chosen: features `(m, d)`.
      neighbours: k, 1 to n - 1.

    Returns:
      float32.

    Raises:
      JaxddError: if features are not finite and of the same number, or there are no so many neighbours.
    """
    values, others = _both(real, chosen)
    neighbours = whole(neighbours, "neighbours")
    if neighbours >= len(values):
        raise JaxddError(f"{len(values)} points have fewer than {neighbours} neighbours each.")
    return _coverage(values, others, neighbours)


@functools.partial(jax.jit, static_argnames="neighbours")
def _coverage(values: Array, others: Array, neighbours: int) -> Array:
    of, to = _around_mean(values, others)
    n, m = len(values), len(others)
    both = jnp.concatenate([values, others])

    def covered(rows: Array) -> Array:
        some = _metric.take(of, rows)
        apart = _metric.squared_distances(some, of).at[jnp.arange(len(rows)), rows].set(jnp.inf)
        near = lax.top_k(-apart, min(neighbours + _SPARE, n - 1))[1]
        near_chosen = n + lax.top_k(-_metric.squared_distances(some, to), min(_SPARE, m))[1]
        # One after the other, by the same operations in the same places: equal points are equally far to the bit.
        exact = lax.map(
            lambda other: jnp.sum(jnp.square(values[rows] - both[other]), axis=1),
            jnp.concatenate([near, near_chosen], axis=1).T,
        )
        radius = jnp.sort(exact[: near.shape[1]], axis=0)[neighbours - 1]
        return jnp.min(exact[near.shape[1] :], axis=0) <= radius

    return jnp.mean(in_blocks(covered, n, _BLOCK).astype(jnp.float32))


def representativeness(real: ArrayLike, chosen: ArrayLike) -> Array:
    """How much of the real points' variance their nearest chosen points explain.

    `1 - Σ_i min_j |x_i - s_j|² / Σ_i |x_i - μ|²`, the share that k-means maximises over free centres: 1 where every
    point is chosen, 0 where the chosen are as far as the mean is, below 0 where they are farther. It is a definition of
    this library; facility location is greedy in the same without the squares.

        representativeness(features, features[rows])

    Args:
      real: features `(n, d)`; computed in float32.
      chosen: features `(m, d)`.

    Returns:
      float32, at most 1.

    Raises:
      JaxddError: if features are not finite and of the same number, or all real points are equal.
    """
    values, others = _both(real, chosen)
    if _equal(values, values[0]):
        raise JaxddError("real points that are all equal have no variance to explain.")
    return _representativeness(values, others)


@jax.jit
def _representativeness(values: Array, others: Array) -> Array:
    of, to = _around_mean(values, others)
    nearest = in_blocks(
        lambda rows: jnp.min(_metric.squared_distances(_metric.take(of, rows), to), axis=1), len(values), _BLOCK
    )
    return 1 - jnp.sum(nearest) / jnp.sum(of.squares)


def _both(real: ArrayLike, chosen: ArrayLike) -> tuple[Array, Array]:
    values, others = points(real, None)[0], points(chosen, None, what="chosen features")[0]
    if values.shape[1] != others.shape[1]:
        raise JaxddError(f"real points have {values.shape[1]} features each, the chosen {others.shape[1]}.")
    return values, others


def _around_mean(values: Array, others: Array) -> tuple[_metric.Prepared, _metric.Prepared]:
    """Both around the mean of the first, as their distances are computed from."""
    of = _metric.prepared(values, jnp.ones(len(values), bool), "euclidean")
    moved = others - jnp.mean(values, axis=0)[None]
    return of, _metric.Prepared(moved, jnp.sum(jnp.square(moved), axis=1))
