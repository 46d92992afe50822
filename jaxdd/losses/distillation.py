"""What a student learns of its teacher's outputs."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdd.errors import JaxddError
from jaxdd.losses._numerics import l2_normalize
from jaxdd.losses.label import cross_entropy, mean_squared_error


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


def logit_regression(
    logits: jax.Array, labels: jax.Array, teacher: jax.Array, *, label_weight: float | jax.Array = 0.025
) -> jax.Array:
    """`mean_c (S_c - R_c)² + γ CE(y, S)`: the teacher's logits themselves, and a little of the labels.

    Of G-VBSM (Shao et al. 2024, arXiv:2311.17950), with γ = 0.15 for CIFAR-10, and EDC (Shao et al. 2024,
    arXiv:2404.13733), with γ = 0.025 in its code.

        logit_regression(network.apply(theta, images, stats)[0], labels, teacher_logits)

    Args:
      logits: S, the student's `(..., classes)`.
      labels: y, as of `cross_entropy`.
      teacher: R, the teacher's logits of the same shape. No gradient goes there. What is added to all of an example's
        counts here, as it does not in `distillation`: logarithms of probabilities are other logits.
      label_weight: γ, at least 0.

    Returns:
      One loss per example, `(...)`.

    Raises:
      JaxddError: if shapes do not fit.
    """
    apart = mean_squared_error(logits, jax.lax.stop_gradient(teacher))
    return apart + label_weight * cross_entropy(logits, labels)


def smoothed_cosine(
    logits: jax.Array,
    labels: jax.Array,
    teacher: jax.Array,
    *,
    label_weight: float | jax.Array = 0.1,
    smoothing: float | jax.Array = 0.1,
) -> jax.Array:
    """`1 - cos(S, R/|R| + γ s/|s|)`, s the labels with `smoothing` of each shared among the other classes.

    GIFT's (Shang, Sun & Lin 2025, arXiv:2405.14736), as its code has it. Only the direction of the logits is learned.

    Args:
      logits: S, the student's `(..., classes)`, of at least two classes.
      labels: y, class numbers `(...)` or probabilities `(..., classes)`.
      teacher: R, the teacher's logits of the same shape, see `logit_regression`. No gradient goes there.
      label_weight: γ, at least 0.
      smoothing: 0 to 1.

    Returns:
      One loss per example, `(...)`, 0 to 2. An end of no length counts as at a right angle.

    Raises:
      JaxddError: if shapes do not fit.
    """
    classes = logits.shape[-1]
    if jnp.issubdtype(labels.dtype, jnp.integer) and labels.shape == logits.shape[:-1]:
        labels = jax.nn.one_hot(labels, classes)
    if not labels.shape == logits.shape == teacher.shape or classes < 2:
        raise JaxddError(
            f"a student, its labels and its teacher must have equal shapes, of at least two classes, got "
            f"{logits.shape}, {labels.shape} and {teacher.shape}."
        )
    smooth = (1 - smoothing) * labels + smoothing / (classes - 1) * (1 - labels)
    goal = l2_normalize(jax.lax.stop_gradient(teacher)) + label_weight * l2_normalize(smooth)
    return 1 - jnp.sum(l2_normalize(logits) * l2_normalize(goal), axis=-1)
