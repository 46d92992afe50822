"""Experts: networks trained on the real data, and what they are at each epoch, rows of a stage."""

from __future__ import annotations

import optax

from jaxdd import models
from jaxdd.data import epoch_steps
from jaxdd.training.sharpness import sharpness_aware
from jaxdd.training.step import plain
from jaxdd.training.supervised import supervised
from jaxdd.types import Network, Record, Spec, Stage


def experts(
    name: str,
    model: str | Network,
    spec: Spec,
    *,
    count: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    augment: str = "none",
    flat: tuple[float, float] | None = None,
) -> Stage:
    """A stage that trains networks by cross-entropy and plain gradient descent, and keeps them at each epoch.

    Its table `name` has `count * (epochs + 1)` rows, `NetworkState`s: of each network the initialisation, and one after
    every epoch. What trajectory matching starts from (Cazenavette et al. 2022, arXiv:2203.11932).

        stage = training.experts("experts", "convnet", Spec.of(real), count=10, epochs=20, batch_size=256,
                                 learning_rate=0.01, augment="dsa")

    Args:
      model, augment: as of `supervised`.
      spec: of the real data.
      count: networks, each from an initialisation and with an order of its own.
      epochs: a last batch that is not whole is left out of each.
      flat: radius ρ and α of `sharpness_aware` gradients, for experts in flat places (FTD); None for plain ones.
    """
    batches = epoch_steps(spec.length(), batch_size)
    config = {
        "model": models.identity(model, spec.image_shape),
        "expert_batch": batch_size,
        "expert_learning_rate": learning_rate,
        "augmentation": augment,
    }
    return Stage(
        name,
        supervised(
            model,
            optax.sgd(learning_rate),
            batch_size=batch_size,
            augment=augment,
            slope=plain if flat is None else sharpness_aware(*flat),
        ),
        steps=epochs * batches,
        parts=count,
        config=config | ({} if flat is None else {"flat": list(flat)}),
        record=Record(batches, lambda state: state.network),
    )
