"""Matching two batches of features: their means, their distributions, and what CAFE asks of them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdd._labels import class_numbers
from jaxdd.losses._numerics import safe_sqrt


def _check_batches(real: jax.Array, synthetic: jax.Array) -> None:
    """Two non-empty batches of the same kind of example."""
    if not (real.ndim and synthetic.ndim and len(real) and len(synthetic)) or real.shape[1:] != synthetic.shape[1:]:
        raise ValueError(
            f"features must be non-empty batches of examples of the same shape: {real.shape}, {synthetic.shape}"
        )


def _mean(features: jax.Array) -> jax.Array:
    return jnp.mean(features, axis=0, dtype=jnp.promote_types(features.dtype, jnp.float32))


def mean_feature_matching(real: Any, synthetic: Any, *, weights: Any = None) -> jax.Array:
    """`sum_l w_l |mean_i f_l(x_i) - mean_j f_l(s_j)|²`: the squared distance of the mean features, over all entries.

    With the penultimate features of random networks the loss of DM (Zhao & Bilen 2023); with the maps of four layers
    and weights (0.1, 0.1, 1, 1), deep ones last, the layer-wise alignment of CAFE (Wang et al. 2022; weights from
    their code).

    Args:
      real: features `(n, ...)`, or a pytree of them, one a layer.
      synthetic: features `(m, ...)`, or the same structure; m may differ from n.
      weights: one for each layer in the same structure, or None for ones.

    Returns:
      A scalar, in float32 at least.

    Raises:
      ValueError: if the structures or the shapes of examples differ, or a batch is empty.
    """
    leaves, structure = jax.tree.flatten(real)
    others, of_others = jax.tree.flatten(synthetic)
    scales, of_scales = ([1.0] * len(leaves), structure) if weights is None else jax.tree.flatten(weights)
    if not leaves or structure != of_others or structure != of_scales:
        raise ValueError(f"layers must have the same structure: {structure}, {of_others}, weights {of_scales}")
    total = []
    for features, other, scale in zip(leaves, others, scales, strict=True):
        _check_batches(features, other)
        total.append(scale * jnp.sum(jnp.square(_mean(features) - _mean(other))))
    return sum(total[1:], total[0])


def cafe_discrimination(real: jax.Array, labels: jax.Array, synthetic: jax.Array) -> jax.Array:
    """Cross-entropy of real features classified by the mean synthetic features of the classes, summed over examples.

    `-sum_i log softmax_k(<f(x_i), c_k>)[y_i]`, `c_k = mean_j f(s_kj)`: the discrimination loss of CAFE (Wang et al.
    2022). Their code weights the sum by 0.01, takes it of pooled and flattened features, and adds each class's
    `mean_feature_matching` of them.

    Args:
      real: penultimate features `(..., d)`, for example `(classes, b, d)`.
      labels: integers in `[0, classes)`, `(...)`.
      synthetic: `(classes, ipc, d)`, ordered by class.

    Returns:
      A scalar.

    Raises:
      ValueError: if the shapes do not fit, or labels are not integers.
    """
    if synthetic.ndim != 3 or not synthetic.shape[1] or real.shape[-1:] != synthetic.shape[-1:]:
        raise ValueError(
            "synthetic features must be of shape (classes, ipc, d), real ones (..., d): "
            f"{synthetic.shape}, {real.shape}"
        )
    labels = class_numbers(labels, real.shape[:-1])
    logits = jnp.einsum("...d,kd->...k", real, jnp.mean(synthetic, axis=1), precision="highest")
    return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


_RADIAL = {
    "gaussian": lambda squared, bandwidth: jnp.exp(-squared / (2 * jnp.square(bandwidth))),
    "laplacian": lambda squared, bandwidth: jnp.exp(-safe_sqrt(squared) / bandwidth),
}


def _squared_distances(a: jax.Array, b: jax.Array) -> jax.Array:
    sizes = jnp.sum(jnp.square(a), axis=1)[:, None] + jnp.sum(jnp.square(b), axis=1)[None]
    squared = sizes - 2 * jnp.matmul(a, b.T, precision="highest")
    # What rounding leaves of a distance of zero; a square root would magnify it.
    return jnp.where(squared > 32 * jnp.finfo(squared.dtype).eps * sizes, squared, 0)


def _median_distance(within_real: jax.Array, within_synthetic: jax.Array, between: jax.Array) -> jax.Array:
    pairs = [square[jnp.triu_indices(len(square), 1)] for square in (within_real, within_synthetic)]
    median = jnp.median(safe_sqrt(jnp.concatenate([*pairs, between.reshape(-1)])))
    return jnp.where(median > 0, median, 1)


def maximum_mean_discrepancy(
    real: jax.Array,
    synthetic: jax.Array,
    *,
    kernel: str = "gaussian",
    bandwidth: float | jax.Array | None = None,
) -> jax.Array:
    """The squared maximum mean discrepancy, `mean k(x, x') + mean k(s, s') - 2 mean k(x, s)` (Gretton et al. 2012).

    It is their biased estimate (eq. 5, squared), whose means run over all pairs, an example with itself among them:
    never negative, zero for equal batches, and defined for a single synthetic example, where the unbiased one is not.

    * "linear": `<x, s>`, with which it is `mean_feature_matching`;
    * "gaussian": `exp(-|x - s|² / (2 bandwidth²))`, of M3D (Zhang et al. 2024) among others;
    * "laplacian": `exp(-|x - s| / bandwidth)`, with the Euclidean distance.

    Args:
      real: `(n, ...)` features.
      synthetic: `(m, ...)` features.
      kernel: "linear", "gaussian" or "laplacian".
      bandwidth: in units of distance; None for the median distance between two examples of both batches together,
        which is taken as a constant: no gradient flows through it.

    Returns:
      A scalar.

    Raises:
      ValueError: for an unknown kernel, a bandwidth that is not positive or that the kernel has no use for, features
        of different shapes, or an empty batch.
    """
    _check_batches(real, synthetic)
    if kernel != "linear" and kernel not in _RADIAL:
        raise ValueError(f"unknown kernel {kernel!r}; known: linear, {', '.join(_RADIAL)}")
    if kernel == "linear":
        if bandwidth is not None:
            raise ValueError("the linear kernel has no bandwidth")
        return mean_feature_matching(real, synthetic)
    if isinstance(bandwidth, int | float) and not bandwidth > 0:
        raise ValueError(f"bandwidth must be positive, got {bandwidth}")
    centre = jax.lax.stop_gradient(_mean(real))[None]  # distances do not depend on it, their rounding does
    real, synthetic = ((batch - centre).reshape(len(batch), -1) for batch in (real, synthetic))
    pairs = ((real, real), (synthetic, synthetic), (real, synthetic))
    squared = [_squared_distances(a, b) for a, b in pairs]
    if bandwidth is None:
        bandwidth = _median_distance(*map(jax.lax.stop_gradient, squared))
    within_real, within_synthetic, between = (jnp.mean(_RADIAL[kernel](s, bandwidth)) for s in squared)
    return within_real + within_synthetic - 2 * between
