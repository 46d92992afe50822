"""A network that is trained on real examples, an update at a time: what a stage runs."""

from __future__ import annotations

import jax
import optax

from jaxdd import losses, models
from jaxdd.data import augmentation, epoch_sampler
from jaxdd.training.step import TrainingState, train_step
from jaxdd.types import (
    Array,
    Batch,
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
) -> Recipe:
    """Cross-entropy on batches of real examples, epoch after epoch; its product is the trained `NetworkState`.

    Args:
      model: see `models.build`.
      optimizer: with its schedule.
      batch_size: a last batch of an epoch that is not whole is left out.
      augment: of every image by itself, see `data.augmentation.named`.
    """
    chosen = augmentation.named(augment)

    def bind(spec: Spec) -> Method:
        network = models.build(model, spec.image_shape, spec.num_classes)

        def init(key: Key, data: RealData) -> TrainingState:
            return TrainingState.first(NetworkState(*network.init(key)), optimizer)

        def update(
            key: Key, state: TrainingState, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[TrainingState, Metrics]:
            key_drop = jax.random.fold_in(key, 1)  # of dropout
            images = batch.images if augment == "none" else chosen.apply(batch.images, chosen.draw(key, batch_size))

            def loss(theta: PyTree, stats: PyTree) -> tuple[Array, tuple[PyTree, Array]]:
                logits, stats = network.apply(theta, images, stats, mode="train", key=key_drop)
                right = (logits.argmax(1) == batch.labels).mean()
                return losses.cross_entropy(logits, batch.labels).mean(), (stats, right)

            state, (value, accuracy) = train_step(loss, optimizer, state, axis_name=axis_name)
            return state, {"loss": value, "batch_accuracy": accuracy}

        return Method(init, epoch_sampler(batch_size), update, lambda state: state.network)

    return Recipe(bind)
