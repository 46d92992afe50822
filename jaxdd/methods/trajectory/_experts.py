"""Where the family's experts come from, and which part of an expert's way a student is to go."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import models, training
from jaxdd.methods.trajectory._config import Trajectory
from jaxdd.training import Trajectories
from jaxdd.types import Array, Indices, Key, NetworkState, PyTree, Recipe, Spec, Stage

EXPERTS = "experts"


def where(config: Trajectory) -> Trajectories:
    """Where experts lie in their rows."""
    kept = tuple(config.epochs_used()) if config.expert_rows == "used" else None
    return Trajectories(EXPERTS, config.experts, config.expert_epochs, kept, config.expert_store)


def experts(
    config: Trajectory, spec: Spec, recipe: Callable[..., Recipe] = training.supervised, **options: Any
) -> Stage:
    """The stage that trains them on the real data.

    Args:
      recipe: `recipe(model, optimizer, batch_size=.., augment=..)` of one; by default it descends plainly.
      **options: `optimizer`, and what the experts depend on beside the family's fields, for the stage's identity.
    """
    optimizer = options.pop("optimizer", optax.sgd(config.expert_learning_rate))
    shared = ("expert_batch", "expert_learning_rate", "augmentation")
    return training.experts(
        where(config),
        recipe(config.model, optimizer, batch_size=config.expert_batch, augment=config.augmentation),
        spec,
        batch_size=config.expert_batch,
        config={"model": models.identity(config.model, spec.image_shape)}
        | {name: getattr(config, name) for name in shared}
        | options,
    )


def flat(radius: float, surrogate: float) -> Callable[..., Recipe]:
    """FTD's recipe of an expert: `training.supervised` by sharpness-aware gradients."""
    return functools.partial(training.supervised, slope=training.sharpness_aware(radius, surrogate))


class Way(NamedTuple):
    """Which part of an expert's way a student is to go."""

    epochs: Callable[[Key, int, Array], Indices]
    """`epochs(key, count, step) -> int32 (count, k)`: of each of `count` experts, those whose rows are read."""
    between: Callable[[Key, NetworkState, Indices, PyTree], tuple[NetworkState, Array]]
    """`between(key, networks, epochs, facts)`: from an expert's networks at these epochs, leaves `(k, ..)`, and what a
    stage says of it, what it was from the start to the goal, leaves `(places, ..)`, and the epoch of the start."""
    facts: str | None = None
    """The stage that has something to say, its product with a leading axis of experts."""


def from_epoch(first: Callable[[Key, int, Array], Array], later: Sequence[int]) -> Way:
    """From an epoch `first(key, count, step)`, int32 `(count,)`, on; so many epochs `later`, 0 first."""
    return Way(
        lambda key, count, step: first(key, count, step)[:, None] + jnp.asarray(later)[None],
        lambda key, networks, epochs, facts: (networks, epochs[0]),
    )


def uniformly(low: int, high: int) -> Callable[[Key, int, Array], Array]:
    """First epochs, from `low` to below `high`."""
    return lambda key, count, step: jax.random.randint(key, (count,), low, high)
