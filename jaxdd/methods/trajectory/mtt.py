"""MTT (Cazenavette et al., CVPR 2022, "Dataset Distillation by Matching Training Trajectories", arXiv:2203.11932)."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import inner, losses, models, training
from jaxdd.data import augmentation
from jaxdd.methods._hyper import HyperParameters, accepted_by, at_least, field, one_of, positive, require
from jaxdd.methods._ipc import BY_CLASS
from jaxdd.methods._registry import method
from jaxdd.synthetic import Continued, Params, descend, learning_rates, per_leaf, pixels, render
from jaxdd.types import (
    Array,
    Batch,
    Execution,
    Indices,
    Key,
    Labels,
    Method,
    Metrics,
    Network,
    NetworkState,
    RealData,
    Recipe,
    Record,
    Spec,
    Stage,
)

EXPERTS = "experts"


@dataclasses.dataclass(frozen=True)
class MTT(HyperParameters):
    """Hyper-parameters of MTT; by default the authors' for 10 images per class of CIFAR-10, whitened.

    Attributes:
      ipc: images per class, one number or one for each class.
      init: of the images, see `synthetic.pixels`.
      model: network of experts and students, see `models.build`.
      steps: a student's, from an expert's parameters at one epoch.
      span: epochs later the expert is at the student's goal.
      max_start: the first epoch is below it.
      batch: images of a student's step, without replacement within an epoch; None for all.
      augmentation: of each image of a step, and of experts' examples, see `data.augmentation.named`.
      learning_rate, rate_learning_rate: of gradient descent, with momentum 0.5, on images and on the step size.
      inner_learning_rate: where the step size starts; it is learned as a plain number of at least 1e-6.
      experts_per_update: whose losses are averaged; the authors take one.
      experts, expert_epochs, expert_batch, expert_learning_rate: networks that are trained on the real data in a stage
        before, by plain gradient descent, and what they are at each epoch. A last batch that is not whole is left out,
        which the authors' is not.
      gradient: see `inner.unroll`.
    """

    ipc: int | tuple[int, ...] = field(10, BY_CLASS)
    init: str | Continued = "real"
    model: str | Network = "convnet"
    steps: int = field(30, at_least(1))
    span: int = field(2, at_least(1))
    max_start: int = field(20, at_least(1))
    batch: int | None = field(None, at_least(1))
    augmentation: str = field("dsa", accepted_by(augmentation.named))
    learning_rate: float = field(100.0, positive)
    rate_learning_rate: float = field(1e-5, positive)
    inner_learning_rate: float = field(0.001, positive)
    experts_per_update: int = field(1, at_least(1))
    experts: int = field(100, at_least(1))
    expert_epochs: int = field(50, at_least(1))
    expert_batch: int = field(256, at_least(1))
    expert_learning_rate: float = field(0.01, positive)
    gradient: str = field("fwdrev", one_of(inner.GRADIENTS))

    def check(self):
        last = self.expert_epochs - self.span + 1
        require(
            self,
            span=(self.span <= self.expert_epochs, f"from 1 to expert_epochs, {self.expert_epochs}"),
            max_start=(self.max_start <= last, f"from 1 to {last}, so that the goal is among the epochs"),
            experts_per_update=(self.experts_per_update <= self.experts, f"from 1 to experts, {self.experts}"),
        )


class MTTState(NamedTuple):
    params: Params
    """Of the synthetic set, with its step size."""
    opt_state: optax.OptState


@method(MTT)
def mtt(config: MTT) -> Recipe:
    """MTT: images on which a student walks in a few steps where an expert on the real data went in some epochs.

    Minimises `|θ_N - θ*_{s+M}|² / |θ*_s - θ*_{s+M}|²` (eq. 1): a student that starts from an expert's parameters θ*_s
    and takes N steps of gradient descent on the augmented images, at a learned step size.
    """
    rates = {"images": config.learning_rate, "learning_rates": config.rate_learning_rate}
    synthetic = learning_rates(pixels(config.ipc, init=config.init), config.inner_learning_rate, (), raw=True)
    optimizer = per_leaf({leaf: optax.sgd(rate, momentum=0.5) for leaf, rate in rates.items()})
    augment, rows = augmentation.named(config.augmentation), config.expert_epochs + 1

    def sample(key: Key, labels: Labels) -> dict[str, Indices]:
        key_expert, key_start = jax.random.split(key)
        count = (config.experts_per_update,)
        chosen = jax.random.choice(key_expert, config.experts, count, replace=False)
        first = jax.random.randint(key_start, count, 0, config.max_start)
        return {EXPERTS: (chosen * rows + first)[:, None] + jnp.array([0, config.span])[None]}

    def bind(spec: Spec) -> Method:
        network = models.build(config.model, spec.image_shape, spec.num_classes)

        def init(key: Key, data: RealData) -> MTTState:
            params = synthetic.init(key, data)
            return MTTState(params, optimizer.init(params))

        def objective(params: Params, expert: NetworkState, key: Key) -> Array:
            images, labels, rate = synthetic.render(params)
            start, goal = (jax.tree.map(lambda leaf, k=k: leaf[k], expert) for k in range(2))
            key_plan, key_draw = jax.random.split(key)
            size = min(config.batch or len(images), len(images))
            plan = inner.epoch_plan(key_plan, len(images), size, config.steps)
            draws = jax.vmap(lambda key: augment.draw(key, size))(jax.random.split(key_draw, config.steps))

            def feed(t: Array) -> tuple[tuple[Array, Array], Any]:
                seen = augment.apply(images[plan[t]], jax.tree.map(lambda leaf: leaf[t], draws))
                return (seen, labels[plan[t]]), rate

            loss = inner.classification(network, start.stats)
            student = inner.unroll(
                loss,
                inner.sgd(),
                start.theta,
                feed,
                config.steps,
                gradient=config.gradient,
                remat=spec.execution.remat,
            ).theta
            return losses.trajectory_matching(student, start.theta, goal.theta)

        def update(
            key: Key, state: MTTState, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[MTTState, Metrics]:
            over = (batch.tables[EXPERTS], jax.random.split(key, config.experts_per_update))

            def one(of_expert: tuple[NetworkState, Key]) -> tuple[Array, Params]:
                return jax.value_and_grad(objective)(state.params, *of_expert)

            loss, grads = inner.map_networks(one, over, batch_size=spec.execution.side_by_side, axis_name=axis_name)
            params, opt_state = descend(synthetic, optimizer, grads, state.opt_state, state.params)
            norm = optax.tree.norm({leaf: grads[leaf] for leaf in synthetic.learned})
            metrics = {"loss": loss, "gradient_norm": norm, "step_size": params["learning_rates"]}
            return MTTState(params, opt_state), metrics

        return Method(init, sample, update, lambda state: render(synthetic, state.params))

    return Recipe(
        bind,
        stages=lambda spec: (experts(config, spec),),
        lean=Execution(side_by_side=1, remat="step"),
        most=lambda spec: Execution(side_by_side=config.experts_per_update),
    )


def experts(config: MTT, spec: Spec) -> Stage:
    """The stage that trains them: a row of each for its initialisation and every epoch."""
    batches = max(1, spec.length() // config.expert_batch)
    facts = {name: getattr(config, name) for name in ("expert_batch", "expert_learning_rate", "augmentation")}
    return Stage(
        EXPERTS,
        training.supervised(
            config.model,
            optax.sgd(config.expert_learning_rate),
            batch_size=config.expert_batch,
            augment=config.augmentation,
        ),
        steps=config.expert_epochs * batches,
        parts=config.experts,
        config={"model": models.identity(config.model, spec.image_shape), **facts},
        record=Record(batches, lambda state: state.network),
    )
