"""Square roots and norms whose derivatives stay finite at zero."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def safe_sqrt(x: jax.Array) -> jax.Array:
    """`sqrt(max(x, 0))` with derivative 0, not infinity or NaN, where `x <= 0`."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def l2_normalize(x: jax.Array) -> jax.Array:
    """`x / |x|` along the last axis, the Euclidean norm; a row of zeros stays zero, and so does its gradient.

    Args:
      x: `(..., d)`. Its squares may under- or overflow; their sum is taken after each row is scaled by its largest.

    Returns:
      The same shape.
    """
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))  # the result does not depend on it
    some = largest > 0
    x = jnp.where(some, x / jnp.where(some, largest, 1), 0)
    return x / jnp.sqrt(jnp.where(some, jnp.sum(jnp.square(x), axis=-1, keepdims=True), 1))
