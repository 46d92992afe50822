"""Training on real examples that are let in, and left out, by how hard they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxdd import models
from jaxdd.data import epoch_sampler, epoch_steps
from jaxdd.training.step import Slope, TrainingState, plain
from jaxdd.training.supervised import classifying, rows_of
from jaxdd.types import Array, Batch, Key, Labels, Method, Metrics, Network, NetworkState, RealData, Recipe, Spec


class CurriculumState(NamedTuple):
    """A network on its way through a curriculum."""

    training: TrainingState
    places: Array
    """float32 `(n,)`, 0 to below 1: how many of its class are easier, as a share. It never changes."""
    step: Array

    @property
    def network(self) -> NetworkState:
        return self.training.network


def curriculum(
    model: str | Network,
    optimizer: optax.GradientTransformation,
    window: Callable[[Array], tuple[Array, Array]],
    *,
    batch_size: int,
    scores: str,
    augment: str = "none",
    slope: Slope = plain,
) -> Recipe:
    """`supervised`, on the examples of each class that are neither too easy nor too hard for the epoch.

    A batch is of all examples, and the loss is the mean over those within; the others are still among what batch
    normalisation and the accuracy in the log see. So an
    epoch has as many steps whatever its window, where training on a part of the data has fewer, of more examples.

    Args:
      model, optimizer, batch_size, augment, slope: as of `supervised`.
      window: `window(epoch) -> (low, high)`, from the epoch's number, 0 first: an example counts if its place, the
        share of its class that is easier, is in [low, high).
      scores: the asset whose `errors` `(n,)` say how hard examples are, see `dynamics_stage`.
    """

    def bind(spec: Spec) -> Method:
        network = models.build(model, spec.image_shape, spec.num_classes)
        step, steps = classifying(network, optimizer, augment, slope), epoch_steps(spec.length(), batch_size)

        def init(key: Key, data: RealData) -> CurriculumState:
            training = TrainingState.first(NetworkState(*network.init(key)), optimizer)
            return CurriculumState(training, places(data.assets[scores].errors, data.labels), jnp.int32(0))

        def update(
            key: Key, state: CurriculumState, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[CurriculumState, Metrics]:
            low, high = window(state.step // steps)
            place = state.places[rows_of(batch, axis_name)]
            counts = ((place >= low) & (place < high)).astype(jnp.float32)
            weights = counts * len(counts) / jnp.maximum(jnp.sum(counts), 1)
            if axis_name is not None:  # each device its own
                weights = lax.dynamic_slice_in_dim(
                    weights, lax.axis_index(axis_name) * len(batch.labels), len(batch.labels)
                )
            training, value, seen = step(key, state.training, batch, weights, axis_name=axis_name)
            metrics = {"loss": value, "batch_accuracy": seen.right.mean(), "share": counts.mean()}
            return CurriculumState(training, state.places, state.step + 1), metrics

        return Method(init, epoch_sampler(batch_size), update, lambda state: state.network)

    return Recipe(bind)


def places(errors: Array, labels: Labels) -> Array:
    """Of each example the share of its class that is easier, float32 `(n,)`; of equal ones the first."""
    order = jnp.lexsort((jnp.asarray(errors), labels.values))
    counts = np.asarray(labels.counts)
    within = (np.arange(counts.sum()) - np.repeat(labels.starts, counts)) / np.repeat(counts, counts)
    return jnp.zeros(len(order), jnp.float32).at[order].set(within.astype(np.float32))
