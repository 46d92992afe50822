"""What a trained network's normalisations remember of its data: the regulariser of decoupled distillation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    squared: bool = False,
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
      squared: the squares of these norms, whose gradient falls with them.

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
        of_mean, of_variance = (
            jnp.sum(jnp.square(ours - theirs)) if squared else _norm(ours - theirs)
            for ours, theirs in zip(of_batch, kept, strict=True)
        )
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


def statistics_of_labels(
    by_class: Sequence[Statistics], labels: jax.Array, *, between: bool = False
) -> tuple[Statistics, ...]:
    """What a batch of these labels is to have: the mean over its examples of the statistics of their classes.

    EDC's "soft category-aware" reference (Shao et al. 2024, arXiv:2404.13733), of which its code takes half, and half
    of what the network remembers:

        wanted = statistics_of_labels(by_class, labels)
        loss = (statistics_matching(found, running) + statistics_matching(found, wanted)) / 2

    Args:
      by_class: of each normalisation mean and variance of every class, `(classes, c)`, as
        `training.class_statistics` has them.
      labels: class numbers `(b,)`, or weights of classes `(b, classes)` of images that are mixed; equal weights of all
        examples in either case.
      between: add the variance of the classes' means, so that these are the moments of the mixture, as EDC's code does
        not.

    Returns:
      Mean and variance of each normalisation, `(c,)`.

    Raises:
      JaxddError: if labels and statistics are not of as many classes.
    """
    classes = len(by_class[0][0]) if by_class else 0
    weights = jax.nn.one_hot(labels, classes) if jnp.ndim(labels) == 1 else jnp.asarray(labels)
    if not classes or weights.ndim != 2 or any(len(leaf) != weights.shape[1] for pair in by_class for leaf in pair):
        raise JaxddError(
            f"labels must be class numbers (b,) or weights (b, classes) of the {classes} classes that there are "
            f"statistics of, got {jnp.shape(labels)}."
        )
    shares = weights.mean(0)

    def of_one(means: jax.Array, variances: jax.Array) -> Statistics:
        mean, variance = (jnp.einsum("k,kc->c", shares, leaf, precision="highest") for leaf in (means, variances))
        if between:
            variance += jnp.einsum("k,kc->c", shares, jnp.square(means - mean[None]), precision="highest")
        return mean, variance

    return tuple(of_one(*pair) for pair in by_class)


def moving_statistics(
    moving: Sequence[Statistics], found: Sequence[Statistics], *, decay: float | jax.Array = 0.8
) -> tuple[tuple[Statistics, ...], tuple[Statistics, ...]]:
    """Averages over batches whose gradient is that of the last one: small batches, matched as large ones are.

    `m ← ρ m + (1 - ρ) found`, and for the loss `m + found - stop_gradient(found)`, of G-VBSM (Shao et al. 2024,
    arXiv:2311.17950) and EDC, whose code begins with zeros and has ρ = 0.8.

        moving, estimate = moving_statistics(moving, norms.batch)
        loss = statistics_matching(estimate, norms.running)

    Args:
      moving: the averages so far; of each normalisation mean and variance.
      found: of a batch, of equal shapes.
      decay: ρ, 0 to 1.

    Returns:
      The averages, through which no gradient goes, and the estimates.

    Raises:
      JaxddError: if the two differ in number or shape.
    """
    shapes = [[tuple(jnp.shape(leaf) for leaf in pair) for pair in each] for each in (moving, found)]
    if shapes[0] != shapes[1]:
        raise JaxddError(f"averages and statistics must have equal shapes, got {shapes[0]} and {shapes[1]}.")

    def averaged(before: jax.Array, now: jax.Array) -> jax.Array:
        return jax.lax.stop_gradient(decay * before + (1 - decay) * now)

    def estimated(average: jax.Array, now: jax.Array) -> jax.Array:
        return average + now - jax.lax.stop_gradient(now)

    def of_each(function: Callable, ours: Sequence[Statistics], theirs: Sequence[Statistics]) -> tuple[Statistics, ...]:
        pairs = zip(ours, theirs, strict=True)
        return tuple((function(a[0], b[0]), function(a[1], b[1])) for a, b in pairs)

    averages = of_each(averaged, moving, found)
    return averages, of_each(estimated, averages, found)


def _norm(vector: jax.Array) -> jax.Array:
    return safe_sqrt(jnp.sum(jnp.square(vector)))
