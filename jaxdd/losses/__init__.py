"""Losses on arrays: pure, per example, shape-checked. They need jax and optax alone."""

from jaxdd.losses.label import centred_one_hot, cross_entropy, margin_loss, squared_error

__all__ = ["centred_one_hot", "cross_entropy", "margin_loss", "squared_error"]
