"""Conjugate kernels: inner products of the features of finite networks, one or many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def feature_kernel(f1: jax.Array, f2: jax.Array | None = None, *, w_std: float = 1.0, b_std: float = 0.0) -> jax.Array:
    """`w_std² f1 f2ᵀ / d + b_std²`: the prior covariance of a linear read-out in the NTK parameterisation.

    Args:
      f1: `(n, d)` features.
      f2: `(m, d)` features, or None for `f1`.
      w_std, b_std: standard deviations of the read-out's weights (before the 1/sqrt(d)) and bias. Loo et al. (2022)
        use sqrt(2) and 0.1.

    Returns:
      `(n, m)`.
    """
    f2 = f1 if f2 is None else f2
    return w_std**2 / f1.shape[-1] * jnp.matmul(f1, f2.T, precision="highest") + b_std**2


def conjugate_kernel(
    features: Callable[..., jax.Array],
    networks: Any = None,
    *,
    w_std: float = 1.0,
    b_std: float = 0.0,
    batch_size: int | None = None,
) -> Callable[..., jax.Array]:
    """The kernel `k(x, y) = w_std² f(x) . f(y) / d + b_std²` of a feature map f, or its mean over several networks.

    With the last hidden layer of a network with random weights this tends to the NNGP kernel of the same network as
    its width d grows (Daniely et al. 2016; Zhou et al. 2022, eq. 6, for trained networks); over M random networks of
    a fixed width, to the kernel's expectation with an error of 1/sqrt(M) (Loo et al. 2022, section 3.1).

    The features of all networks are never held at once: memory, also of a gradient, is that of `batch_size` networks
    beside M matrices `(n, m)`. The price is that a gradient computes the features of both sets again. Features of all
    networks side by side, `(n, M d)`, have the same `feature_kernel`.

    Args:
      features: maps `(n, ...)` inputs to `(n, d)` features; with `networks`, `features(network, x)` does.
      networks: M keys, for networks that are drawn within `features`, or a pytree of M stacked parameters; None for one
        feature map.
      w_std, b_std: as for `feature_kernel`.
      batch_size: networks evaluated at once; None for one after another.

    Returns:
      `kernel(x1, x2=None)`, from `(n, ...)` and `(m, ...)` inputs to `(n, m)`; `x2=None` means `x1`, whose features
      are then computed once.
    """

    def between(f, x1, x2):
        return feature_kernel(f(x1), None if x2 is None else f(x2), w_std=w_std, b_std=b_std)

    def kernel(x1: jax.Array, x2: jax.Array | None = None) -> jax.Array:
        if networks is None:
            return between(features, x1, x2)

        @jax.checkpoint
        def one(network):
            return between(lambda x: features(network, x), x1, x2)

        return jnp.mean(jax.lax.map(one, networks, batch_size=batch_size), axis=0)

    return kernel
