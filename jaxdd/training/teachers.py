"""Teachers: networks trained on all real data in a stage, whose numbers are an asset of what comes after."""

from __future__ import annotations

import optax

from jaxdd import models
from jaxdd._numbers import whole
from jaxdd.data import epoch_steps
from jaxdd.training.supervised import supervised
from jaxdd.types import Network, Spec, Stage


def teacher(
    name: str,
    model: str | Network,
    spec: Spec,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float = 5e-4,
    momentum: float = 0.9,
    augment: str = "none",
) -> Stage:
    """A stage that trains a network by cross-entropy: gradient descent with momentum and decay, along half a cosine.

    Its product, `batch.assets[name]`, is the `NetworkState` after the last step.

    Args:
      model, batch_size, augment: as of `supervised`.
      spec: of the real data.
      epochs: a last batch that is not whole is left out of each.
      learning_rate: at the first step; it falls to zero.

    Raises:
      JaxddError: if epochs or the batch are no whole numbers of at least 1.
    """
    steps = whole(epochs, "epochs") * epoch_steps(spec.length(), batch_size)
    optimizer = descending(learning_rate, steps, weight_decay=weight_decay, momentum=momentum)
    return Stage(
        name,
        supervised(model, optimizer, batch_size=batch_size, augment=augment),
        steps=steps,
        config={
            "model": models.identity(model, spec.image_shape),
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "augmentation": augment,
        },
    )


def descending(
    learning_rate: float, steps: int, *, weight_decay: float = 5e-4, momentum: float = 0.9
) -> optax.GradientTransformation:
    """Gradient descent with momentum and decay, whose rate falls along half a cosine, to zero after so many steps."""
    schedule = optax.cosine_decay_schedule(learning_rate, whole(steps, "steps"))
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(schedule, momentum=momentum))
