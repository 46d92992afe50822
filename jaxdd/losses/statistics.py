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


def _norm(vector: jax.Array) -> jax.Array:
    return safe_sqrt(jnp.sum(jnp.square(vector)))
