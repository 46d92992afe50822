"""What a trained network's normalisations remember of its data: the regulariser of decoupled distillation."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxdd.errors import JaxddError
from jaxdd.losses._numerics import safe_sqrt

Statistics = tuple[jax.Array, jax.Array]
"""Mean and variance of each channel, `(c,)`."""


def statistics_matching(
    found: Sequence[Statistics],
    running: Sequence[Statistics],
    *,
    first_weight: float = 10.0,
    variance_weight: float = 1.0,
) -> jax.Array:
    """`sum_l w_l (|mean_l - running mean_l| + λ |variance_l - running variance_l|)`, Euclidean norms, not squared.

    SRe2L's (Yin, Xing & Shen 2023, arXiv:2306.13092, eq. 6), after DeepInversion (Yin et al. 2020), as the authors'
    code has it: variances are biased, a norm is not divided by its number of channels, and the first normalisation
    weighs more. The gradient of a norm that is zero is zero.

        logits, norms = network.norms(theta, images, stats)
        loss = statistics_matching(norms.batch, norms.running)

    Args:
      found: of a batch, the inputs of each normalisation in the order in which they are applied.
      running: what the network remembers.
      first_weight: w of the first one; that of the others is 1.
      variance_weight: λ: 1 by default; 11 in DWA for CIFAR (Du et al. 2024, arXiv:2409.17612).

    Returns:
      A scalar.

    Raises:
      JaxddError: for no statistics, or others than `running` has.
    """
    shapes = [[(jnp.shape(mean), jnp.shape(variance)) for mean, variance in each] for each in (found, running)]
    if not shapes[0] or shapes[0] != shapes[1]:
        raise JaxddError(f"statistics to be matched must be some, of equal shapes, got {shapes[0]} and {shapes[1]}.")
    total = jnp.zeros(())
    for number, (of_batch, kept) in enumerate(zip(found, running, strict=True)):
        of_mean, of_variance = (_norm(ours - theirs) for ours, theirs in zip(of_batch, kept, strict=True))
        total += (first_weight if number == 0 else 1.0) * (of_mean + variance_weight * of_variance)
    return total


def example_statistics_matching(
    found: Sequence[Statistics],
    running: Sequence[Statistics],
    places: Sequence[int],
    images: jax.Array | None = None,
    *,
    least: float = 1e-6,
) -> jax.Array:
    """`sum_l mean_i (|mean_il - running mean_l|² + |std_il - running std_l|²)`, of each example i by itself, squared.

    ZeroQ's (Cai et al. 2020, arXiv:2001.00281, eq. 3), as its code has it: `std = sqrt(variance + least)`, of an
    example with the unbiased variance over places; and the same of the images, beside mean 0 and deviation 1.

        logits, norms = network.norms(theta, images, stats, by_example=True)
        loss = example_statistics_matching(norms.batch, norms.running, norms.places, images)

    Args:
      found: mean and biased variance of each example, `(n, c)`, the inputs of each normalisation in order.
      running: what the network remembers, `(c,)`.
      places: of each normalisation, of how many places an example's moments are; 1 has no variance.
      images: `(n, h, w, c)`, if their own moments count, too.
      least: added to variances, positive: so no gradient is infinite.

    Returns:
      A scalar.

    Raises:
      JaxddError: for no statistics, or others than `running` and `places` have.
    """
    shapes = [jnp.shape(mean)[1:] for mean, _ in found], [jnp.shape(mean) for mean, _ in running]
    if not shapes[0] or shapes[0] != shapes[1] or len(places) != len(shapes[0]):
        raise JaxddError(
            f"statistics by example must be some, of the channels that are remembered, got {shapes[0]}, {shapes[1]} "
            f"and {len(places)} numbers of places."
        )

    def distance(of: Statistics, count: int, mean: jax.Array, deviation: jax.Array) -> jax.Array:
        spread = jnp.sqrt(of[1] * (count / max(1, count - 1)) + least)
        apart = jnp.square(of[0] - mean[None]) + jnp.square(spread - deviation[None])
        return apart.sum(1).mean()

    total = jnp.zeros(())
    for of_examples, (mean, variance), count in zip(found, running, places, strict=True):
        total += distance(of_examples, count, mean, jnp.sqrt(variance + least))
    if images is not None:
        moments = images.mean((1, 2)), images.var((1, 2))
        zeros = jnp.zeros(images.shape[3])
        total += distance(moments, images.shape[1] * images.shape[2], zeros, zeros + 1)
    return total


def _norm(vector: jax.Array) -> jax.Array:
    return safe_sqrt(jnp.sum(jnp.square(vector)))
