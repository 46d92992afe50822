"""Per-example losses between a network's outputs and hard or soft labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from jaxdd._labels import class_numbers, label_vectors
from jaxdd.errors import JaxddError


def squared_error(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """Half the squared distance to soft labels, `0.5 * sum_c (p_c - t_c)^2`.

    The loss of kernel-ridge distillation (Nguyen et al. 2021, eq. 1) and of the networks trained on its labels.

    Args:
      predictions: `(..., classes)`.
      targets: the same shape; integers, such as one-hot vectors, count as floats.

    Returns:
      One loss per example, `(...)`.

    Raises:
      JaxddError: if the shapes differ, as those of class numbers do.
    """
    targets = label_vectors(targets, predictions.shape, "targets")
    return 0.5 * jnp.sum(jnp.square(predictions - targets), axis=-1)


def mean_squared_error(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """The mean squared difference of the entries, `1/d sum_c (p_c - t_c)^2`: what PyTorch calls `mse_loss`.

    The loss of networks that are trained on an encoder's features (KRR-ST; Lee et al. 2024), whose rates it fits
    whatever the number of features.

    Args:
      predictions: `(..., d)`.
      targets: the same shape.

    Returns:
      One loss per example, `(...)`; `2/d` times `squared_error`.

    Raises:
      JaxddError: if the shapes differ.
    """
    return 2 / predictions.shape[-1] * squared_error(predictions, targets)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy with hard labels `(...)` (integers) or soft labels `(..., classes)`.

    Soft labels are used as they are, not normalised (Sucholutsky & Schonlau 2019).

    Args:
      logits: `(..., classes)`.
      labels: integers in `[0, classes)` of shape `(...)`, or vectors of shape `(..., classes)`, of which integers, such
        as one-hot ones, count as floats.

    Returns:
      One loss per example, `(...)`.

    Raises:
      JaxddError: if the labels are neither.
    """
    if jnp.issubdtype(labels.dtype, jnp.integer) and labels.shape == logits.shape[:-1]:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if labels.shape == logits.shape:
        return optax.softmax_cross_entropy(logits, label_vectors(labels, logits.shape))
    raise JaxddError(
        f"labels must be integers of shape {logits.shape[:-1]} or vectors of shape {logits.shape}, "
        f"got {labels.dtype} of shape {labels.shape}."
    )


def centred_one_hot(labels: jax.Array, num_classes: int) -> jax.Array:
    """One-hot minus 1/classes: hard labels as kernel-ridge distillation regresses on them (Nguyen et al. 2021).

    Args:
      labels: integers in `[0, num_classes)`.

    Returns:
      float32 `(*labels.shape, num_classes)`.

    Raises:
      JaxddError: if the labels are not integers.
    """
    return jax.nn.one_hot(class_numbers(labels), num_classes) - 1 / num_classes


def centred_labels(labels: jax.Array, convention: str, num_classes: int) -> jax.Array:
    """Labels of any convention as vectors around zero, for squared error.

    Args:
      labels: class numbers `(...)` or vectors `(..., classes)`.
      convention: "hard" for class numbers, "centred" for vectors that are so already; of any other 1/classes is taken
        from each entry.

    Returns:
      float32 `(..., classes)`.
    """
    if convention == "hard":
        return centred_one_hot(labels, num_classes)
    return labels if convention == "centred" else labels - 1 / num_classes


def margin_loss(labels: jax.Array, bound: float) -> jax.Array:
    """`-min(largest - second largest, bound)`: keeps learned labels from losing their class.

    Not in FRePo's paper (Zhou, Nezhadarya & Ba 2022) but in its authors' code, with `bound` 1/classes; RCIG has half.

    Args:
      labels: `(..., classes)`, at least two; integers, such as one-hot vectors, count as floats.
      bound: the margin from which on there is nothing to gain.

    Returns:
      One loss per example, `(...)`, in `[-bound, 0]`.

    Raises:
      JaxddError: for class numbers.
    """
    largest = jax.lax.top_k(label_vectors(labels), 2)[0]
    return -jnp.minimum(largest[..., 0] - largest[..., 1], bound)
