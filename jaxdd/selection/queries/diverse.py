"""Queries that differ from each other and from what is labelled: by gradients, features or probabilities."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdd.errors import JaxddError
from jaxdd.selection import choose
from jaxdd.selection.choose._points import length, number, points
from jaxdd.selection.last_layer import LastLayer
from jaxdd.selection.queries.uncertain import distributions, logarithms
from jaxdd.types import Array, Key


def k_center(features: ArrayLike, labelled: ArrayLike | None, k: int, *, mask: ArrayLike | None = None) -> Array:
    """Greedily the point whose features are farthest from those labelled and chosen (Sener & Savarese 2018).

    `choose.k_center` from given centres; without any it begins at the point nearest to the mean.

        rows = k_center(features, features_of_labelled, 10)

    Args:
      features: `(n, d)` of the pool.
      labelled: features `(s, d)` of what has labels, or None. The same one twice is as good as once.
      k: how many, 1 to n.
      mask: bool `(n,)`, the points that may be asked; None for all.

    Returns:
      int32 `(k,)` in order of choice.

    Raises:
      JaxddError: if k is not between 1 and the number of points that count, or for features of other shapes.
    """
    return choose.k_center(features, k, centres=labelled, mask=mask)


def pcoreset(probabilities: ArrayLike, labelled: ArrayLike | None, k: int, *, mask: ArrayLike | None = None) -> Array:
    """Greedily the point whose probabilities are farthest from those of what is labelled and chosen (PCoreSet).

    Kang, Lee, Jang, Kim & Hwang 2025, "PCoreSet: Effective Active Learning through Knowledge Distillation from
    Vision-Language Models" (arXiv 2506.00910): k-center in the simplex, for a student whom a biased teacher has given
    clusters there. The distance is Euclidean.

        rows = pcoreset(student, student[labelled_rows], 10)

    Args:
      probabilities: `(n, classes)` of the student, of the pool.
      labelled: `(s, classes)` of the same student, of what has labels; None if nothing has.
      k, mask: as `k_center` has them.

    Returns:
      int32 `(k,)` in order of choice.

    Raises:
      JaxddError: for probabilities that are none, or if k is not between 1 and the number of points that count.
    """
    values, counted = distributions(probabilities, mask)
    if labelled is not None:
        labelled, _ = distributions(labelled, None, "probabilities of what is labelled")
    return choose.k_center(values, k, centres=labelled, mask=counted)


def badge(features: ArrayLike, probabilities: ArrayLike, k: int, key: Key, *, mask: ArrayLike | None = None) -> Array:
    """Seeds of k-means++ among gradients of the last layer: unsure points, and different ones (BADGE).

    Ash et al. 2020, "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds" (arXiv 1906.03671,
    algorithm 1). The gradient of a point is that of cross-entropy with the class that the student takes it for,
    `(p - y) ⊗ φ`, long where it is unsure. The first is the longest, as in its authors' code; each further one is drawn
    with the square of its distance to the nearest of those before. PCoreSet's authors compare with gradients of length
    1, of which the farthest is taken each time; this is BADGE as it was published.

        rows = badge(features, jax.nn.softmax(logits), 10, key)

    Args:
      features: `(n, d)`, what the student's last layer sees.
      probabilities: `(n, classes)`.
      k: how many, 1 to n.
      key: for the draws.
      mask: bool `(n,)`, the points that may be asked; None for all.

    Returns:
      int32 `(k,)`, different rows in order of choice.

    Raises:
      JaxddError: if the shapes do not fit, for probabilities that are none, or if k is not between 1 and the number of
        points that count.
    """
    of_classes, counted = distributions(probabilities, mask)
    values, _ = points(features, counted)
    if len(values) != len(of_classes):
        raise JaxddError(f"there are features of {len(values)} points and probabilities of {len(of_classes)}.")
    k = number(k, counted)
    return _badge(values, of_classes, counted, key, length=length(k, len(values)))[:k]


@functools.partial(jax.jit, static_argnames="length")
def _badge(features: Array, probabilities: Array, mask: Array, key: Key, *, length: int) -> Array:
    errors = LastLayer.of(features, logarithms(probabilities), jnp.argmax(probabilities, axis=1)).errors

    def products(row: Array) -> Array:
        """Of all gradients with that of a row: an outer product's are products of products."""
        of_errors = jnp.matmul(errors, errors[row], precision="highest")
        return of_errors * jnp.matmul(features, features[row], precision="highest")

    squares = jnp.sum(jnp.square(errors), axis=1) * jnp.sum(jnp.square(features), axis=1)

    def choose_next(carry: tuple[Array, Array], t: Array) -> tuple[tuple[Array, Array], Array]:
        nearest, free = carry
        # Where all that is left lies on what was chosen, any will do.
        weights = jnp.where(jnp.any(free & (nearest > 0)), nearest, 1.0)
        drawn = jax.random.categorical(jax.random.fold_in(key, t), jnp.where(free, jnp.log(weights), -jnp.inf))
        longest = jnp.argmax(jnp.where(free, squares, -jnp.inf))
        row = jnp.where(t == 0, longest, drawn).astype(jnp.int32)
        distances = jnp.maximum(squares + squares[row] - 2 * products(row), 0)
        return (jnp.minimum(nearest, distances), free.at[row].set(False)), row

    start = (jnp.full(len(features), jnp.inf), mask)
    return jax.lax.scan(choose_next, start, jnp.arange(length))[1]
