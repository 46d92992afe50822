"""What a student learns of its teacher's outputs."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdd.errors import JaxddError


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
