"""Distances between points, from products: what similarities are made of.

Greedy rules need only differences of similarities, so each similarity `s = offset - d` is known by its distance d, and
the offset, which keeps it from being negative, never enters:

* "euclidean": `d = |x - y|`, the offset is the largest distance between any two points;
* "cosine": `d = (1 - cos(x, y)) / 2`, the offset is 1, so that `s = 1/2 + cos/2`. A point of zeros has cosine 0 with
  all others.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdd.errors import unknown
from jaxdd.types import Array

SIMILARITIES = ("euclidean", "cosine")

# Products decide over ties and cancel in distances: no TF32 here.
product = functools.partial(jnp.matmul, precision="highest")


def check_similarity(name: str) -> str:
    """The name, if it is one of the two; JaxddError for another."""
    if name not in SIMILARITIES:
        raise unknown("similarity", name, SIMILARITIES)
    return name


class Prepared(NamedTuple):
    """Points as products of them give distances."""

    points: Array
    """float32 `(n, d)`: centred for "euclidean", which moves no distance and saves digits; of length 1 for "cosine"."""
    squares: Array
    """Their squared lengths, float32 `(n,)`."""


def centred(points: Array, mask: Array) -> Array:
    """Points minus the mean of those that count; the others zero."""
    mean = jnp.sum(points, axis=0) / jnp.maximum(jnp.sum(mask), 1)  # those that do not count are zeros
    return jnp.where(mask[:, None], points - mean[None], 0)


def prepared(points: Array, mask: Array, similarity: str) -> Prepared:
    """Points `(n, d)` ready for `distances`; those that do not count are zeros."""
    if similarity == "euclidean":
        points = centred(points, mask)
    else:
        size = jnp.sqrt(jnp.sum(jnp.square(points), axis=1, keepdims=True))
        points = points / jnp.where(size > 0, size, 1)
    return Prepared(points, jnp.sum(jnp.square(points), axis=1))


def squared_distances(of: Prepared, to: Prepared) -> Array:
    """Squared Euclidean distances `(m, n)` of m prepared points to n."""
    squared = of.squares[:, None] + to.squares[None] - 2 * product(of.points, to.points.T)
    return jnp.maximum(squared, 0)


def distances(of: Prepared, to: Prepared, similarity: str) -> Array:
    """Distances `(m, n)` of m prepared points to n."""
    if similarity == "euclidean":
        return jnp.sqrt(squared_distances(of, to))
    return jnp.maximum(0.5 - 0.5 * product(of.points, to.points.T), 0)


def take(prepared: Prepared, rows: Array | None) -> Prepared:
    """Some of the points; for None all."""
    return prepared if rows is None else jax.tree.map(lambda leaf: leaf[rows], prepared)
