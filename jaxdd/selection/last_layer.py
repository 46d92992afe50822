"""Gradients of the last layer: each is an outer product, and products of two of them need no gradient."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdd._arrays import array
from jaxdd._labels import targets
from jaxdd.errors import JaxddError
from jaxdd.types import Array


class LastLayer(NamedTuple):
    """What the gradients of cross-entropy in a last layer `logits = W φ + b` are made of.

    That of a point is `(p - y) ⊗ [φ, 1]`, p the softmax of its logits.

        LastLayer.of(features, logits, labels).gradients()
    """

    features: Array
    """float32 `(n, d)`, what the last layer sees."""
    logits: Array
    """float32 `(n, classes)`."""
    targets: Array
    """float32 `(n, classes)`, probabilities."""

    @classmethod
    def of(cls, features: ArrayLike, logits: ArrayLike, labels: ArrayLike) -> LastLayer:
        """From labels that are class numbers `(n,)` or probabilities `(n, classes)`.

        Raises:
          JaxddError: if the shapes do not fit, labels `(n,)` are no integers, or one is the number of no class.
        """
        features, logits = array(features, "features"), array(logits, "logits")
        if features.ndim != 2 or logits.ndim != 2 or len(features) != len(logits) or not logits.shape[1]:
            raise JaxddError(
                f"a last layer needs features (n, d) and logits (n, classes), got {features.shape} and {logits.shape}."
            )
        return cls(features.astype(jnp.float32), logits.astype(jnp.float32), targets(labels, logits.shape))

    @property
    def errors(self) -> Array:
        """`p - y`, float32 `(n, classes)`: what the gradients of the biases are."""
        return jax.nn.softmax(self.logits) - self.targets

    def gradients(self) -> Array:
        """All of them, float32 `(n, classes * (d + 1))`: of each class the weights, then the bias."""
        inputs = jnp.concatenate([self.features, jnp.ones((len(self.features), 1))], axis=1)
        return (self.errors[:, :, None] * inputs[:, None]).reshape(len(inputs), -1)

    def products(self, other: LastLayer | None = None) -> Array:
        """Inner products of the gradients with those of another, `(n, m)`, without the gradients.

        `<(p - y) ⊗ [φ, 1], (p' - y') ⊗ [φ', 1]> = <p - y, p' - y'> (<φ, φ'> + 1)`.
        """
        other = self if other is None else other
        errors, features = (
            jnp.matmul(a, b.T, precision="highest")
            for a, b in ((self.errors, other.errors), (self.features, other.features))
        )
        return errors * (features + 1)
