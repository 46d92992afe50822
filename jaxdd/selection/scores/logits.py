"""What the logits of one network say of each example; which end is the hard one is said beside each."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxdd._arrays import array
from jaxdd._labels import class_numbers, targets
from jaxdd.errors import JaxddError
from jaxdd.types import Array


def margin(logits: ArrayLike, labels: ArrayLike | None = None) -> Array:
    """How far the first class is ahead of the second, or the right one of all others: small is hard.

        hard_first = jnp.argsort(margin(logits, labels))

    Args:
      logits: `(n, classes)`, two classes at least.
      labels: class numbers `(n,)`. With them it is the logit of the label minus the largest other one, below 0 where a
        network is wrong, whose mean over training is the area under the margin (Pleiss et al. 2020, arXiv 2001.10528);
        without, the largest probability minus the second, from 0 to 1 (active learning's margin).

    Returns:
      float32 `(n,)`.

    Raises:
      JaxddError: for logits or labels of other shapes, or a label that is the number of no class.
    """
    logits = _logits(logits)
    if labels is None:
        two = jax.lax.top_k(jax.nn.softmax(logits), 2)[0]
        return two[:, 0] - two[:, 1]
    right = jax.nn.one_hot(class_numbers(labels, logits.shape[:1], classes=logits.shape[1]), logits.shape[1]) > 0
    own = jnp.sum(jnp.where(right, logits, 0), axis=1)
    return own - jnp.max(jnp.where(right, -jnp.inf, logits), axis=1)


def entropy(logits: ArrayLike) -> Array:
    """`-Σ p log p` of the softmax, from 0 to `log classes`: large is hard.

    Args:
      logits: `(n, classes)`.

    Returns:
      float32 `(n,)`.

    Raises:
      JaxddError: for logits of another shape.
    """
    log_p = jax.nn.log_softmax(_logits(logits))
    p = jnp.exp(log_p)
    return -jnp.sum(jnp.where(p > 0, p * log_p, 0), axis=1)


def least_confidence(logits: ArrayLike) -> Array:
    """One minus the largest probability, from 0 to `1 - 1/classes`: large is hard. Arguments as `entropy` has them."""
    return 1 - jnp.max(jax.nn.softmax(_logits(logits)), axis=1)


def loss(logits: ArrayLike, labels: ArrayLike) -> Array:
    """Cross-entropy of each example, at least 0 with class numbers: large is hard.

    Args:
      logits: `(n, classes)`.
      labels: class numbers `(n,)` or probabilities `(n, classes)`.

    Returns:
      float32 `(n,)`.

    Raises:
      JaxddError: for logits or labels of other shapes, or a label that is the number of no class.
    """
    logits = _logits(logits)
    return optax.softmax_cross_entropy(logits, targets(labels, logits.shape))


def el2n(logits: ArrayLike, labels: ArrayLike) -> Array:
    """The length of the error, `|p - y|`, from 0 to sqrt 2: large is hard (EL2N).

    Paul et al. 2021 (arXiv 2107.07075), who take the mean over several networks early in training. Arguments as `loss`
    has them.
    """
    logits = _logits(logits)
    return jnp.linalg.norm(jax.nn.softmax(logits) - targets(labels, logits.shape), axis=1)


def _logits(logits: ArrayLike) -> Array:
    logits = array(logits, "logits")
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise JaxddError(f"logits must have the shape (n, classes) with two classes at least, got {logits.shape}.")
    return logits.astype(jnp.float32)
