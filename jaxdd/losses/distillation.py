"""What a student learns of its teacher's outputs."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdd.errors import JaxddError
from jaxdd.losses.label import cross_entropy


def distillation(logits: jax.Array, teacher: jax.Array, *, temperature: float | jax.Array = 1.0) -> jax.Array:
    """`KL(softmax(teacher / T) | softmax(logits / T))`, the loss of knowledge distillation (Hinton et al. 2015).

    It is not multiplied by `T**2`, as in SRe2L's code (Yin, Xing & Shen 2023): its gradient falls as `1 / T**2`.

    Args:
      logits: the student's `(..., classes)`.
      teacher: the teacher's logits of the same shape; logarithms of probabilities will do. No gradient goes there.
      temperature: T, positive.

    Returns:
      One loss per example, `(...)`, at least zero.

    Raises:
      JaxddError: if the shapes differ.
    """
    if jnp.shape(logits) != jnp.shape(teacher):
        raise JaxddError(
            f"a student's and its teacher's logits must have equal shapes, got {jnp.shape(logits)} and "
            f"{jnp.shape(teacher)}."
        )
    ours = jax.nn.log_softmax(logits / temperature)
    theirs = jax.nn.log_softmax(jax.lax.stop_gradient(teacher) / temperature)
    return jnp.sum(jnp.exp(theirs) * (theirs - ours), axis=-1)


def taught(
    logits: jax.Array,
    labels: jax.Array,
    teacher: jax.Array,
    *,
    share: float | jax.Array,
    temperature: float | jax.Array = 1.0,
) -> jax.Array:
    """`(1 - a) CE(y, S) + a T² KL(softmax(R/T) | softmax(S/T))`: from labels and from a teacher at once.

    Of Hinton et al. (2015, arXiv:1503.02531), here with the teacher's share of Ben-Baruch et al. (2025, "Distilling the
    Knowledge in Data Pruning", arXiv:2403.07854), who train on what pruning left, taught by a network that saw all.
    With the square of the temperature the gradient of the second term keeps its size; as the temperature grows, the
    term becomes `|c(S) - c(R)|² / (2 classes)`, of logits around their means.

    Args:
      logits: S, the student's `(..., classes)`.
      labels: y, as of `cross_entropy`.
      teacher: R, as of `distillation`.
      share: a, the teacher's; 0 to 1.
      temperature: T, positive.

    Returns:
      One loss per example, `(...)`.

    Raises:
      JaxddError: if shapes do not fit.
    """
    soft = temperature**2 * distillation(logits, teacher, temperature=temperature)
    return (1 - share) * cross_entropy(logits, labels) + share * soft
