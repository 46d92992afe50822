"""What the methods of the family share: students that walk on the synthetic set where experts went on the real data."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import inner, losses, models, training
from jaxdd.data import augmentation
from jaxdd.methods._hyper import HyperParameters, accepted_by, at_least, field, one_of, positive, require
from jaxdd.methods._ipc import BY_CLASS
from jaxdd.synthetic import Continued, Params, SyntheticSet, descend, learning_rates, per_leaf, pixels, render
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
    PyTree,
    RealData,
    Recipe,
    Spec,
    Stage,
)

EXPERTS = "experts"


@dataclasses.dataclass(frozen=True)
class Trajectory(HyperParameters):
    """Hyper-parameters that every method of the family has; by default MTT's for 10 images per class of CIFAR-10.

    Attributes:
      ipc: images per class, one number or one for each class.
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
        before, by gradient descent, and what they are at each epoch. A last batch that is not whole is left out, which
        the authors' is not.
      gradient: see `inner.unroll`.
    """

    ipc: int | tuple[int, ...] = field(10, BY_CLASS)
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


class TrajectoryState(NamedTuple):
    params: Params
    """Of the synthetic set, with its step size."""
    opt_state: optax.OptState
    average: Params | None = None
    """Of the iterates, where a method leaves that."""


class Walk(NamedTuple):
    """A student's way, and the expert's."""

    student: inner.Trained
    start: PyTree
    """Where the student started."""
    goal: PyTree
    """Where it went."""
    way: PyTree
    """What it was at each epoch from the start to the goal, `(epochs, ..)`: start and goal alone, unless asked for."""


class Student(NamedTuple):
    """How a student takes its steps."""

    optimizer: inner.InnerOptimizer
    start: Callable[[Key, PyTree], PyTree] | None = None
    """`start(key, theta)`, what it starts from, from the expert's parameters; by default these."""
    weight: Callable[[Array], Array] | None = None
    """Of its loss, by the epoch that it starts at; by default 1."""


def to_the_goal(walk: Walk) -> tuple[Array, Metrics]:
    """How much of the way is left when the student has taken its steps (eq. 1 of MTT)."""
    return losses.trajectory_matching(walk.student.theta, walk.start, walk.goal), {}


def uniformly(low: int, high: int) -> Callable[[Key, int, Array], Array]:
    """First epochs, from `low` to below `high`."""
    return lambda key, count, step: jax.random.randint(key, (count,), low, high)


def images(config: Any, init: str | Continued) -> SyntheticSet:
    """Pixels and the step size."""
    return learning_rates(pixels(config.ipc, init=init), config.inner_learning_rate, (), raw=True)


def descent(config: Trajectory, **others: optax.GradientTransformation) -> optax.GradientTransformation:
    """The authors' optimiser of the set: gradient descent with momentum 0.5, and others for other leaves."""
    rates = {"images": config.learning_rate, "learning_rates": config.rate_learning_rate}
    return per_leaf({**{leaf: optax.sgd(rate, momentum=0.5) for leaf, rate in rates.items()}, **others})


def matching(
    config: Trajectory,
    synthetic: SyntheticSet,
    optimizer: optax.GradientTransformation,
    stages: Callable[[Spec], tuple[Stage, ...]],
    *,
    student: Student | None = None,
    first: Callable[[Key, int, Array], Array] | None = None,
    distance: Callable[[Walk], tuple[Array, Metrics]] = to_the_goal,
    every_step: bool = False,
    every_epoch: bool = False,
    label: Callable[[Network, NetworkState, Array], Array] | None = None,
    accepted: Callable[[Array], Array] | None = None,
    average: float | None = None,
) -> Recipe:
    """A method whose students start at an expert's parameters; the set is learned by how near they come to its goal.

    Args:
      synthetic: with a step size.
      optimizer: of its params.
      stages: the runs before; the one called "experts" leaves a row for each epoch, see `training.experts`.
      student: how it takes its steps; by default it descends plainly.
      first: `first(key, count, step) -> int32 (count,)`, the epochs that students start at; below `max_start`.
      distance: what is minimised, and what to say of it.
      every_step: whether it looks at each step of the student, `walk.student.walk`.
      every_epoch: likewise at each epoch of the expert between, `walk.way`.
      label: labels of the images at every update, from the network, its state at the goal and the images; those of the
        set by default.
      accepted: of a loss, whether its step is taken; else nothing changes at all.
      average: the decay of a moving average of the iterates, which is then what the run leaves.
    """
    student = student or Student(inner.sgd())
    first = first or uniformly(0, config.max_start)
    augment, rows = augmentation.named(config.augmentation), config.expert_epochs + 1
    later = jnp.arange(config.span + 1) if every_epoch else jnp.array([0, config.span])

    def sample(key: Key, labels: Labels, step: Array) -> dict[str, Indices]:
        key_expert, key_start = jax.random.split(jax.random.fold_in(key, step))
        count = config.experts_per_update
        chosen = jax.random.choice(key_expert, config.experts, (count,), replace=False)
        start = first(key_start, count, step)
        return {EXPERTS: (chosen * rows + start)[:, None] + later[None]}

    def bind(spec: Spec) -> Method:
        network = models.build(config.model, spec.image_shape, spec.num_classes)

        def init(key: Key, data: RealData) -> TrajectoryState:
            params = synthetic.init(key, data)
            return TrajectoryState(params, optimizer.init(params), None if average is None else params)

        def objective(params: Params, expert: NetworkState, epoch: Array, key: Key) -> tuple[Array, Metrics]:
            shown, labels, rate = synthetic.render(params)
            start, goal = (jax.tree.map(lambda leaf, k=k: leaf[k], expert) for k in (0, -1))
            if label is not None:
                labels = label(network, goal, shown)
            key_plan, key_draw = jax.random.split(key)
            size = min(config.batch or len(shown), len(shown))
            plan = inner.epoch_plan(key_plan, len(shown), size, config.steps)
            draws = jax.vmap(lambda key: augment.draw(key, size))(jax.random.split(key_draw, config.steps))

            def feed(t: Array) -> tuple[tuple[Array, Array], Any]:
                seen = augment.apply(shown[plan[t]], jax.tree.map(lambda leaf: leaf[t], draws))
                return (seen, labels[plan[t]]), rate

            loss = inner.classification(network, start.stats)
            if student.weight is not None:
                loss = _times(student.weight(epoch), loss)
            begin = start.theta if student.start is None else student.start(jax.random.fold_in(key, 2), start.theta)
            trained = inner.unroll(
                loss,
                student.optimizer,
                begin,
                feed,
                config.steps,
                gradient=config.gradient,
                remat=spec.execution.remat,
                walk=every_step,
            )
            return distance(Walk(trained, begin, goal.theta, expert.theta))

        def update(
            key: Key, state: TrajectoryState, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[TrajectoryState, Metrics]:
            keys = jax.random.split(key, config.experts_per_update)
            epochs = jnp.zeros(len(keys)) if student.weight is None else batch.rows[EXPERTS][:, 0] % rows
            over = (batch.tables[EXPERTS], epochs, keys)

            def one(of_expert: tuple[NetworkState, Array, Key]) -> tuple[tuple[Array, Metrics], Params]:
                return jax.value_and_grad(objective, has_aux=True)(state.params, *of_expert)

            (loss, facts), grads = inner.map_networks(
                one, over, batch_size=spec.execution.side_by_side, axis_name=axis_name
            )
            after = descend(synthetic, optimizer, grads, state.opt_state, state.params)
            if accepted is not None:
                taken = accepted(loss)
                before = state.params, state.opt_state
                after = jax.tree.map(lambda new, old: jnp.where(taken, new, old), after, before)
            params, opt_state = after
            mean = state.average
            if average is not None:
                mean = jax.tree.map(lambda a, p: p + average * (a - p), mean, params)
            norm = optax.tree.norm({leaf: grads[leaf] for leaf in synthetic.learned})
            metrics = {"loss": loss, "gradient_norm": norm, "step_size": params["learning_rates"]} | facts
            return TrajectoryState(params, opt_state, mean), metrics

        def left(state: TrajectoryState) -> Params:
            return state.params if state.average is None else state.average

        return Method(init, sample, update, lambda state: render(synthetic, left(state)))

    return Recipe(
        bind,
        stages=stages,
        lean=Execution(side_by_side=1, remat="step"),
        most=lambda spec: Execution(side_by_side=config.experts_per_update),
    )


def _times(weight: Array, loss: Callable[..., Array]) -> Callable[..., Array]:
    return lambda theta, batch: weight * loss(theta, batch)


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
        EXPERTS,
        recipe(config.model, optimizer, batch_size=config.expert_batch, augment=config.augmentation),
        spec,
        count=config.experts,
        epochs=config.expert_epochs,
        batch_size=config.expert_batch,
        config={"model": models.identity(config.model, spec.image_shape)}
        | {name: getattr(config, name) for name in shared}
        | options,
    )


def flat(radius: float, surrogate: float) -> Callable[..., Recipe]:
    """FTD's recipe of an expert: `training.supervised` by sharpness-aware gradients."""
    return functools.partial(training.supervised, slope=training.sharpness_aware(radius, surrogate))
