"""One step of training a network that is not differentiated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from jaxdd.types import Array, NetworkState, PyTree


class TrainingState(NamedTuple):
    """A network on its way."""

    network: NetworkState
    opt_state: optax.OptState

    @classmethod
    def first(cls, network: NetworkState, optimizer: optax.GradientTransformation) -> TrainingState:
        return cls(network, optimizer.init(network.theta))


def train_step(
    loss: Callable[[PyTree, PyTree], tuple[Array, tuple[PyTree, Any]]],
    optimizer: optax.GradientTransformation,
    state: TrainingState,
    *,
    axis_name: str | None = None,
) -> tuple[TrainingState, tuple[Array, Any]]:
    """One step down a loss.

    Args:
      loss: `loss(theta, stats) -> (scalar, (stats, metrics))`.
      axis_name: of a `jax.pmap` around the caller, whose members see parts of one batch.

    Returns:
      The next state, and `(loss, metrics)` before it.
    """
    theta, stats = state.network
    (value, (stats, metrics)), slope = jax.value_and_grad(loss, has_aux=True)(theta, stats)
    if axis_name is not None:
        value, metrics, slope, stats = jax.lax.pmean((value, metrics, slope, stats), axis_name)
    updates, opt_state = optimizer.update(slope, state.opt_state, theta)
    return TrainingState(NetworkState(optax.apply_updates(theta, updates), stats), opt_state), (value, metrics)
