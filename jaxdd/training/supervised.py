"""A network that is trained on real examples, an update at a time: what a stage runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import inner, losses, models
from jaxdd._numbers import whole
from jaxdd.data import augmentation, epoch_sampler
from jaxdd.data.samplers import EpochSampler
from jaxdd.errors import JaxddError
from jaxdd.training.step import Slope, TrainingState, plain, train_step
from jaxdd.types import (
    EXAMPLES,
    Array,
    Batch,
    Indices,
    Key,
    Method,
    Metrics,
    Network,
    NetworkState,
    PyTree,
    RealData,
    Recipe,
    Spec,
)


def supervised(
    model: str | Network,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    augment: str = "none",
    sampler: EpochSampler | None = None,
    slope: Slope = plain,
) -> Recipe:
    """Cross-entropy on batches of real examples, epoch after epoch; its product is the trained `NetworkState`.

    Args:
      model: see `models.build`.
      optimizer: with its schedule.
      batch_size: a last batch of an epoch that is not whole is left out.
      augment: of every image by itself, see `data.augmentation.named`.
      sampler: what an update sees, `data.repeated_sampler(batch_size, 0.1, ..)` for one; by default the batches of all
        examples, `data.epoch_sampler(batch_size)`.
      slope: how the gradient is taken, as of `train_step`.

    Raises:
      JaxddError: if `batch_size` is no whole number of at least 1.
    """
    whole(batch_size, "batch_size")
    sample = sampler or epoch_sampler(batch_size)

    def bind(spec: Spec) -> Method:
        network = models.build(model, spec.image_shape, spec.num_classes)
        step = classifying(network, optimizer, augment, slope)

        def init(key: Key, data: RealData) -> TrainingState:
            return TrainingState.first(NetworkState(*network.init(key)), optimizer)

        def update(
            key: Key, state: TrainingState, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[TrainingState, Metrics]:
            state, value, seen = step(key, state, batch, axis_name=axis_name)
            return state, {"loss": value, "batch_accuracy": seen.right.mean()}

        return Method(init, sample, update, lambda state: state.network)

    return Recipe(bind)


class Seen(NamedTuple):
    """What a network made of a batch, before its step: of all devices' examples, one device after the other."""

    logits: Array
    """`(b, classes)`, those of training: with batch statistics, of augmented images."""
    labels: Array
    """int32 `(b,)`."""

    @property
    def right(self) -> Array:
        """bool `(b,)`."""
        return self.logits.argmax(1) == self.labels


def classifying(
    network: Network, optimizer: optax.GradientTransformation, augment: str = "none", slope: Slope = plain
) -> Callable[..., tuple[TrainingState, Array, Seen]]:
    """One step of training by cross-entropy, for recipes that look at what the network makes of each example.

    Returns:
      `step(key, state, batch, weights=None, *, axis_name=None) -> (state, loss, Seen)`. The loss is the mean over the
      batch, of losses times their weights `(b,)` if there are any. Nothing is computed twice: what is seen is what the
      gradient is taken through.
    """
    chosen = augmentation.named(augment)

    def step(
        key: Key, state: TrainingState, batch: Batch, weights: Array | None = None, *, axis_name: str | None = None
    ) -> tuple[TrainingState, Array, Seen]:
        key_drop = jax.random.fold_in(key, 1)  # of dropout
        images, labels = batch.images, batch.labels
        if augment != "none":
            images = chosen.apply(images, chosen.draw(key, len(images)))

        def loss(theta: PyTree, stats: PyTree) -> tuple[Array, tuple[PyTree, Array]]:
            logits, stats = network.apply(theta, images, stats, mode="train", key=key_drop)
            each = losses.cross_entropy(logits, labels)
            weighted = each if weights is None else weights * each
            # Of all devices, so that the mean that a step takes of what it shows changes nothing.
            return weighted.mean(), (stats, inner.all_gather(logits, axis_name))

        state, (value, logits) = train_step(loss, optimizer, state, axis_name=axis_name, slope=slope)
        return state, value, Seen(logits, inner.all_gather(labels, axis_name))

    return step


def rows_of(batch: Batch, axis_name: str | None = None) -> Indices:
    """The numbers of a batch's examples in the whole table, of all devices.

    Raises:
      JaxddError: for a batch that was made of images and labels alone.
    """
    if EXAMPLES not in batch.rows:
        raise JaxddError("the rows of this batch are not known, so nothing can be noted of its examples.")
    return inner.all_gather(jnp.asarray(batch.rows[EXAMPLES]), axis_name)
