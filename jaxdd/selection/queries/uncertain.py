"""Queries by chance, and those about which a student is least sure."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdd.errors import JaxddError
from jaxdd.selection import choose, scores
from jaxdd.selection.choose._points import points
from jaxdd.types import Array, Key, PyTree


def random(pool: int | PyTree, k: int, key: Key, *, mask: ArrayLike | None = None) -> Array:
    """k different points, all alike likely: `choose.uniform` by the name it has among queries."""
    return choose.uniform(pool, k, key, mask=mask)


def entropy(probabilities: ArrayLike, k: int, *, mask: ArrayLike | None = None) -> Array:
    """The points of the largest entropy `-Σ p log p`; of equal ones the lowest row.

        rows = entropy(jax.nn.softmax(logits), 10)

    Args:
      probabilities: `(n, classes)`, a student's.
      k: how many, 1 to n.
      mask: bool `(n,)`, the points that may be asked; None for all.

    Returns:
      int32 `(k,)`, the least sure first.

    Raises:
      JaxddError: for probabilities that are none, or if k is not between 1 and the number of points that count.
    """
    values, counted = distributions(probabilities, mask)
    return choose.hardest(_entropy(values), k, mask=counted)


@jax.jit
def _entropy(probabilities: Array) -> Array:
    return scores.entropy(logarithms(probabilities))


def margin(probabilities: ArrayLike, k: int, *, mask: ArrayLike | None = None) -> Array:
    """The points at which the most likely class is least ahead of the second; arguments as `entropy` has them."""
    values, counted = distributions(probabilities, mask)
    return choose.easiest(_margin(values), k, mask=counted)


@jax.jit
def _margin(probabilities: Array) -> Array:
    return scores.margin(logarithms(probabilities))


def distributions(probabilities: ArrayLike, mask: ArrayLike | None, what: str = "probabilities") -> tuple[Array, Array]:
    """Probabilities over classes in float32, where they count, and which do: `points` that are such.

    Raises:
      JaxddError: if they are not `(n, classes)`, at least 0 and of sum 1 to 1 in 1,000.
    """
    values, counted = points(probabilities, mask, what=what)
    if values.shape[1] < 2:
        raise JaxddError(f"{what} must be of two classes at least, got the shape {values.shape}.")
    if not bool(_are_distributions(values, counted)):
        raise JaxddError(f"{what} must be at least 0 and have the sum 1 over classes; softmax makes such of logits.")
    return values, counted


@jax.jit
def _are_distributions(values: Array, counted: Array) -> Array:
    right = jnp.all(values >= 0, axis=1) & (jnp.abs(jnp.sum(values, axis=1) - 1) < 1e-3)
    return jnp.all(right | ~counted)


def logarithms(probabilities: Array) -> Array:
    """Logits whose softmax they are, finite ones where a probability is 0."""
    return jnp.log(jnp.maximum(probabilities, jnp.finfo(jnp.float32).tiny))
