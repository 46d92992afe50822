"""Losses on arrays: pure, per example, shape-checked. They need jax and optax alone."""

from jaxdd.losses.label import cross_entropy, squared_error

__all__ = ["cross_entropy", "squared_error"]
