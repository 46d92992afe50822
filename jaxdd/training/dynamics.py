"""What the training of a network says of every example: a stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import models
from jaxdd._numbers import whole
from jaxdd.data import epoch_sampler, epoch_steps
from jaxdd.errors import JaxddError
from jaxdd.training.step import TrainingState
from jaxdd.training.supervised import Seen, classifying, rows_of
from jaxdd.training.teachers import descending
from jaxdd.types import (
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
    Stage,
)


class Dynamics(NamedTuple):
    """What training said of each of n examples, means over networks; row i is of example i."""

    forgotten: Array
    """float32 `(n,)`, at least 0: forgetting events, visits at which an example was wrong that was right at the one
    before. Infinite for one that a network never had right, as Toneva et al. (2019, arXiv:1812.05159, §2) have it."""
    margins: Array
    """float32 `(n,)`: the area under the margin (AUM), the mean over visits of the label's logit minus the largest
    other one (Pleiss et al. 2020, arXiv:2001.10528, eq. 1). Small, or negative, of hard or wrongly labelled ones."""
    errors: Array
    """float32 `(n,)`, 0 to √2: EL2N, `‖softmax(logits) - onehot(label)‖` at the last visit of an early epoch (Paul et
    al. 2021, arXiv:2107.07075, definition 3). Large for hard ones."""
    network: NetworkState
    """After the last step; of several the first one."""


class Visits(NamedTuple):
    """What training has said so far of each example, `(n,)` each."""

    count: Array
    """int32."""
    right: Array
    """bool, at the last visit."""
    learned: Array
    """bool, at any."""
    forgotten: Array
    """int32, events."""
    margins: Array
    """float32, their sum."""
    errors: Array
    """float32, at the last visit that was not after the early epoch."""

    @classmethod
    def none(cls, examples: int) -> Visits:
        def zeros(dtype: type) -> Array:
            return jnp.zeros(examples, dtype)

        return cls(zeros(jnp.int32), zeros(bool), zeros(bool), zeros(jnp.int32), *[zeros(jnp.float32)] * 2)

    def at(self, rows: Indices, seen: Seen, early: Array | bool) -> Visits:
        """After a visit to these different examples, which was not after the early epoch if it was `early`."""
        right, before = seen.right, self.right[rows]
        own = jax.nn.one_hot(seen.labels, seen.logits.shape[1])
        margins = jnp.sum(own * seen.logits, 1) - jnp.max(jnp.where(own > 0, -jnp.inf, seen.logits), 1)
        errors = jnp.linalg.norm(jax.nn.softmax(seen.logits) - own, axis=1)
        return Visits(
            self.count.at[rows].add(1),
            self.right.at[rows].set(right),
            self.learned.at[rows].max(right),
            self.forgotten.at[rows].add((before & ~right).astype(jnp.int32)),
            self.margins.at[rows].add(margins),
            self.errors.at[rows].set(jnp.where(early, errors, self.errors[rows])),
        )


class DynamicsState(NamedTuple):
    """A network on its way, and what that has said so far."""

    training: TrainingState
    visits: Visits
    step: Array
    """int32, updates so far."""


def dynamics(
    model: str | Network,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    early: int,
    augment: str = "none",
) -> Recipe:
    """`supervised`, noting of each example what the network makes of it at each visit, before the step.

    Its product is `Dynamics`. An epoch has every example: its last batch is filled up with some of the one before,
    which are visited twice. What is noted are the logits that the step is taken on, in training mode; nothing is
    computed for it. So the error is that of an example's last visit in the early epoch, and not, as in EL2N's paper, of
    all examples at the weights in which that epoch ends.

    Args:
      model, optimizer, batch_size, augment: as of `supervised`.
      early: the epoch, from 1, whose errors count; those of the last epoch if there are fewer.

    Raises:
      JaxddError: if `early` or `batch_size` is not a whole number of at least 1.
    """
    whole(early, "the early epoch")
    sample = epoch_sampler(batch_size, complete=True)

    def bind(spec: Spec) -> Method:
        network = models.build(model, spec.image_shape, spec.num_classes)
        step = classifying(network, optimizer, augment)
        until = early * epoch_steps(spec.length(), batch_size, complete=True)

        def init(key: Key, data: RealData) -> DynamicsState:
            training = TrainingState.first(NetworkState(*network.init(key)), optimizer)
            return DynamicsState(training, Visits.none(spec.length()), jnp.zeros((), jnp.int32))

        def update(
            key: Key, state: DynamicsState, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[DynamicsState, Metrics]:
            training, value, seen = step(key, state.training, batch, axis_name=axis_name)
            visits = state.visits.at(rows_of(batch, axis_name), seen, state.step < until)
            return DynamicsState(training, visits, state.step + 1), {"loss": value, "batch_accuracy": seen.right.mean()}

        return Method(init, sample, update, _product)

    return Recipe(bind)


def _product(state: DynamicsState) -> Dynamics:
    visits = state.visits
    forgotten = jnp.where(visits.learned, visits.forgotten.astype(jnp.float32), jnp.inf)
    return Dynamics(forgotten, visits.margins / jnp.maximum(visits.count, 1), visits.errors, state.training.network)


def joined(products: Dynamics, assets: Mapping[str, PyTree]) -> Dynamics:
    """Of several networks: the means of what they say, and the first of them. A `join`, see `types.Parts`."""
    first = jax.tree.map(lambda leaf: leaf[0], products.network)
    return Dynamics(products.forgotten.mean(0), products.margins.mean(0), products.errors.mean(0), first)


def dynamics_stage(
    name: str,
    model: str | Network,
    spec: Spec,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    networks: int = 1,
    early: int | None = None,
    weight_decay: float = 5e-4,
    momentum: float = 0.9,
    augment: str = "none",
) -> Stage:
    """A stage that trains networks as `teacher` does, and leaves `Dynamics`: of every example the mean over networks.

    Args:
      model, batch_size, augment: as of `dynamics`.
      spec: of the real data.
      epochs: each has every example.
      learning_rate: at the first step; it falls to zero along half a cosine.
      networks: each from an initialisation and with an order of its own. The papers take one (AUM), five (forgetting)
        and ten (EL2N).
      early: the epoch, from 1, whose errors count; a tenth of them by default, as the 20th of 200 in EL2N's paper.

    Raises:
      JaxddError: if epochs are no whole number of at least 1, or `early` is not within them.

    Example:
        stage = training.dynamics_stage("dynamics", "convnet", Spec.of(real), epochs=20, batch_size=128,
                                        learning_rate=0.05, networks=3)
    """
    whole(epochs, "epochs")
    early = max(1, epochs // 10) if early is None else whole(early, "the early epoch")
    if early > epochs:
        raise JaxddError(f"errors of epoch {early} need as many epochs, got {epochs}.")
    steps = epochs * epoch_steps(spec.length(), batch_size, complete=True)
    optimizer = descending(learning_rate, steps, weight_decay=weight_decay, momentum=momentum)
    return Stage(
        name,
        dynamics(model, optimizer, batch_size=batch_size, early=early, augment=augment),
        steps=steps,
        parts=networks,
        join=joined,
        revision=2,  # errors are those of the epoch, and no longer of the visit of that number
        config={
            "model": models.identity(model, spec.image_shape),
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "augmentation": augment,
            "early": early,
        },
    )
