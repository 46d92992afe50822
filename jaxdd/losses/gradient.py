"""Matching what a network learns from two batches: distances between gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd.losses._numerics import safe_sqrt
from jaxdd.types import leaves_by_path

Select = Callable[[str, jax.Array], bool]
"""`select(path, leaf)`: whether the leaf at "conv_0/kernel" counts."""


def matrices(path: str, leaf: jax.Array) -> bool:
    """The leaves that DC matches: all of at least two axes, so neither biases nor the parameters of norms."""
    del path
    return leaf.ndim >= 2


def convolutions(path: str, leaf: jax.Array) -> bool:
    """The leaves that IDC matches: of at least three axes, so no dense layer either, and not the classifier."""
    del path
    return leaf.ndim >= 3


def _cosine(real: jax.Array, synthetic: jax.Array) -> jax.Array:
    rest = tuple(range(real.ndim - 1))
    norms = safe_sqrt(jnp.sum(jnp.square(real), rest)) * safe_sqrt(jnp.sum(jnp.square(synthetic), rest))
    return jnp.sum(1 - jnp.sum(real * synthetic, rest) / (norms + 1e-6))


_DISTANCES = {
    "cosine": _cosine,
    "l1": lambda real, synthetic: jnp.sum(jnp.abs(real - synthetic)),
    "mse": lambda real, synthetic: jnp.sum(jnp.square(real - synthetic)),
}


def gradient_matching(real: Any, synthetic: Any, *, distance: str = "cosine", select: Select = matrices) -> jax.Array:
    """Distance between the gradients of a network on a real and on a synthetic batch, summed over its layers.

    With `a` and `b` the real and the synthetic gradient of one layer, and `i` its output units:

    * "cosine": `sum_i 1 - <a_i, b_i> / (|a_i| |b_i| + 1e-6)` (Zhao, Mopuri & Bilen 2021, DC; the constant is from
      their code: it damps rows whose product of norms is not well above it);
    * "l1": `sum |a - b|`, and "mse": `sum (a - b)²`, a sum despite its name (Kim et al. 2022, IDC, who use it without
      dense layers: `select=convolutions`).

    Args:
      real: pytree of arrays whose last axis is the output, as in flax: convolutions `(h, w, in, out)`, dense layers
        `(in, out)`. DC and IDC take it as a constant (`jax.lax.stop_gradient`).
      synthetic: the same structure and shapes.
      distance: "cosine", "l1" or "mse".
      select: which leaves count, from their path and themselves.

    Returns:
      A scalar.

    Raises:
      ValueError: for an unknown distance, gradients of different structure or shapes, or no leaf that counts.
    """
    if distance not in _DISTANCES:
        raise ValueError(f"unknown distance {distance!r}; known: {', '.join(_DISTANCES)}")
    real, synthetic = leaves_by_path(real), leaves_by_path(synthetic)
    if real.keys() != synthetic.keys():
        raise ValueError(f"the gradients must have the same leaves, got {sorted(real)} and {sorted(synthetic)}")
    total = []
    for path, leaf in real.items():
        if leaf.shape != synthetic[path].shape:
            raise ValueError(
                f"the gradients of {path!r} must have the same shape: {leaf.shape}, {synthetic[path].shape}"
            )
        if select(path, leaf):
            total.append(_DISTANCES[distance](leaf, synthetic[path]))
    if not total:
        raise ValueError(f"no gradient counts: `select` refuses all of {sorted(real)}")
    return sum(total[1:], total[0])
