"""What two views of an image should have in common: losses of self-supervised learning."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdd.errors import JaxddError

_EPSILON = 1e-5  # that of the authors' batch normalisation, which keeps a constant entry finite


def barlow_twins(z1: jax.Array, z2: jax.Array, *, off_diagonal: float = 5e-3) -> jax.Array:
    """`sum_i (1 - C_ii)^2 + λ sum_{i != j} C_ij^2`, where C are the correlations of two views' embeddings.

    Barlow Twins' (Zbontar et al. 2021, arXiv:2103.03230, eq. 1 and 2): each entry of an embedding is normalised over
    the batch, to mean 0 and (biased) variance 1, of which 1e-5 is added to the variance as in the authors' code, and
    `C = z1ᵀ z2 / n`. Equal entries of two views correlate, different ones do not; a constant embedding, which has no
    correlations, costs `d`.

        loss = barlow_twins(project(view(key_1, images)), project(view(key_2, images)))

    Args:
      z1, z2: `(n, d)`, embeddings of two views of the same n images, row by row; at least 2.
      off_diagonal: λ.

    Returns:
      A scalar, at least zero; its gradient flows into both views.

    Raises:
      JaxddError: for embeddings that are no matrices of equal shapes, or of a single image.
    """
    if jnp.shape(z1) != jnp.shape(z2) or jnp.ndim(z1) != 2 or len(z1) < 2:
        raise JaxddError(
            "two views' embeddings must be matrices (images, entries) of equal shapes, of at least 2 images, got "
            f"{jnp.shape(z1)} and {jnp.shape(z2)}."
        )
    correlations = jnp.matmul(_normalised(z1).T, _normalised(z2)) / len(z1)
    diagonal = jnp.diagonal(correlations)
    other = jnp.sum(jnp.square(correlations)) - jnp.sum(jnp.square(diagonal))
    return jnp.sum(jnp.square(1 - diagonal)) + off_diagonal * other


def _normalised(z: jax.Array) -> jax.Array:
    centred = z - jnp.mean(z, axis=0, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=0, keepdims=True) + _EPSILON)
