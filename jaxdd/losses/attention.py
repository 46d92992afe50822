"""Matching where a network looks: spatial attention maps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxdd.losses._numerics import l2_normalize
from jaxdd.losses.distribution import mean_feature_matching


def _power(x: jax.Array, exponent: float) -> jax.Array:
    """`x ** exponent` for `x >= 0`, with derivative 0 at 0 also where it is infinite."""
    if float(exponent).is_integer():
        return x ** int(exponent)
    return jnp.where(x > 0, jnp.where(x > 0, x, 1) ** exponent, 0)


def attention_map(features: jax.Array, exponent: float = 4) -> jax.Array:
    """`a / |a|` with `a = sum_c |F_c|^p`: where the channels of a feature map are active, one unit vector an image.

    Sajedi et al. (2023, DataDAM), after Zagoruyko & Komodakis (2017). A map of zeros gives zeros. Scaling an image's
    features does not change its map.

    Args:
      features: `(n, h, w, c)`, or any number of spatial axes.
      exponent: p, a positive number; DataDAM's paper says 4, its code 1.

    Returns:
      `(n, h * w)`.

    Raises:
      ValueError: without a spatial axis, or if the exponent is not positive.
    """
    if features.ndim < 3:
        raise ValueError(f"features must be maps of shape (n, h, w, c), got {features.shape}")
    if not exponent > 0:
        raise ValueError(f"exponent must be positive, got {exponent}")
    return l2_normalize(jnp.sum(_power(jnp.abs(features), exponent), axis=-1).reshape(len(features), -1))


def attention_matching(real: Any, synthetic: Any, exponent: float = 4) -> jax.Array:
    """`sum_l |mean_i A_l(x_i) - mean_j A_l(s_j)|²` with the `attention_map` A of layer l (Sajedi et al. 2023, DataDAM).

    DataDAM takes every ReLU but the last, adds the `mean_feature_matching` of the features times 0.01, and multiplies
    the sum by 100 (their code).

    Args:
      real: feature maps `(n, h, w, c)`, or a pytree of them, one a layer.
      synthetic: `(m, h, w, c)`, or the same structure.
      exponent: of `attention_map`.

    Returns:
      A scalar.

    Raises:
      ValueError: as `attention_map`, and if the structures or the shapes of maps differ, or a batch is empty.
    """
    shapes = [jax.tree.map(lambda features: features.shape[1:-1], layers) for layers in (real, synthetic)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"feature maps must have the same layers of the same spatial shape: {shapes[0]}, {shapes[1]}")
    maps = (jax.tree.map(lambda features: attention_map(features, exponent), layers) for layers in (real, synthetic))
    return mean_feature_matching(*maps)
