"""Conjugate kernels: inner products of a finite network's features."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def conjugate_kernel(features: Callable[[jax.Array], jax.Array]) -> Callable[..., jax.Array]:
    """The kernel `k(x, y) = f(x) . f(y) / d` of a feature map (Zhou et al. 2022, eq. 6; Daniely et al. 2016).

    With the last hidden layer of a network with random weights this tends to the NNGP kernel of the same network as
    its width d grows.

    Args:
      features: maps `(n, ...)` inputs to `(n, d)` features.

    Returns:
      `kernel(x1, x2=None)`, from `(n, ...)` and `(m, ...)` inputs to `(n, m)`; `x2=None` means `x1`, whose features
      are then computed once.
    """

    def kernel(x1: jax.Array, x2: jax.Array | None = None) -> jax.Array:
        f1 = features(x1)
        f2 = f1 if x2 is None else features(x2)
        return jnp.matmul(f1, f2.T, precision="highest") / f1.shape[-1]

    return kernel
