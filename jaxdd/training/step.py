"""One step of training a network that is not differentiated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from jaxdd import inner
from jaxdd.types import Array, NetworkState, PyTree

Slope = Callable[..., Callable[[PyTree, PyTree], tuple[tuple[Array, tuple[PyTree, Any]], PyTree]]]
"""`slope(loss, axis_name)` is `f(theta, stats) -> ((loss, (stats, metrics)), gradient)`, the mean over that axis."""


class TrainingState(NamedTuple):
    """A network on its way."""

    network: NetworkState
    opt_state: optax.OptState

    @classmethod
    def first(cls, network: NetworkState, optimizer: optax.GradientTransformation) -> TrainingState:
        return cls(network, optimizer.init(network.theta))


def plain(loss: Callable, axis_name: str | None = None) -> Callable:
    """The gradient itself, a `Slope`."""

    def of(theta: PyTree, stats: PyTree) -> tuple[tuple[Array, tuple[PyTree, Any]], PyTree]:
        return inner.pmean(jax.value_and_grad(loss, has_aux=True)(theta, stats), axis_name)

    return of


def train_step(
    loss: Callable[[PyTree, PyTree], tuple[Array, tuple[PyTree, Any]]],
    optimizer: optax.GradientTransformation,
    state: TrainingState,
    *,
    axis_name: str | None = None,
    slope: Slope = plain,
) -> tuple[TrainingState, tuple[Array, Any]]:
    """One step down a loss.

    Args:
      loss: `loss(theta, stats) -> (scalar, (stats, metrics))`.
      slope: how its gradient is taken, `sharpness_aware(..)` for one.
      axis_name: of a `jax.pmap` around the caller, whose members see parts of one batch.

    Returns:
      The next state, and `(loss, metrics)` before it.
    """
    theta, stats = state.network
    (value, (stats, metrics)), found = slope(loss, axis_name)(theta, stats)
    updates, opt_state = optimizer.update(found, state.opt_state, theta)
    return TrainingState(NetworkState(optax.apply_updates(theta, updates), stats), opt_state), (value, metrics)
