"""What the methods of the family share: students that walk on the synthetic set where experts went on the real data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import inner, losses, models
from jaxdd._numbers import of_each
from jaxdd.data import augmentation
from jaxdd.methods.trajectory._config import Trajectory
from jaxdd.methods.trajectory._experts import EXPERTS, Way, experts, flat, from_epoch, uniformly, where
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

__all__ = [  # what a method of the family is made of
    "EXPERTS",
    "Student",
    "Trajectory",
    "Walk",
    "Way",
    "descent",
    "experts",
    "flat",
    "from_epoch",
    "images",
    "matching",
    "to_the_goal",
    "uniformly",
    "where",
    "with_step_size",
]


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


def images(config: Any, init: str | Continued) -> SyntheticSet:
    """Pixels and the step size."""
    return with_step_size(config, pixels(config.ipc, init=init))


def with_step_size(config: Any, base: SyntheticSet) -> SyntheticSet:
    """Any parameterisation and the step size."""
    return learning_rates(base, config.inner_learning_rate, (), raw=True)


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
    way: Way | None = None,
    distance: Callable[[Walk], tuple[Array, Metrics]] = to_the_goal,
    every_step: bool = False,
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
      way: which part of an expert's way it is to go; by default `span` epochs from any below `max_start`.
      distance: what is minimised, and what to say of it.
      every_step: whether it looks at each step of the student, `walk.student.walk`.
      label: labels of the images at every update, from the network, its state at the goal and the images; those of the
        set by default.
      accepted: of a loss, whether its step is taken; else nothing changes at all.
      average: the decay of a moving average of the iterates, which is then what the run leaves.
    """
    student = student or Student(inner.sgd())
    part = way or from_epoch(uniformly(0, config.max_start), (0, config.span))
    rows = where(config)

    def sample(key: Key, labels: Labels, step: Array) -> dict[str, Indices]:
        key_expert, key_start = jax.random.split(jax.random.fold_in(key, step))
        count = config.experts_per_update
        chosen = jax.random.choice(key_expert, config.experts, (count,), replace=False)
        return {EXPERTS: rows.rows(chosen[:, None], part.epochs(key_start, count, step))}

    def bind(spec: Spec) -> Method:
        network = models.build(config.model, spec.image_shape, spec.num_classes)

        def init(key: Key, data: RealData) -> TrajectoryState:
            params = synthetic.init(key, data)
            return TrajectoryState(params, optimizer.init(params), None if average is None else params)

        def objective(
            params: Params, read: NetworkState, epochs: Indices, told: PyTree, key: Key
        ) -> tuple[Array, Metrics]:
            shown, labels, rate = synthetic.render(params)
            expert, epoch = part.between(jax.random.fold_in(key, 3), read, epochs, told)
            start, goal = (jax.tree.map(lambda leaf, k=k: leaf[k], expert) for k in (0, -1))
            if label is not None:
                labels = label(network, goal, shown)
            loss = inner.classification(network, start.stats)
            if student.weight is not None:
                loss = _times(student.weight(epoch), loss)
            begin = start.theta if student.start is None else student.start(jax.random.fold_in(key, 2), start.theta)
            # A student has the precision of its step size, which in double precision is not that of its expert.
            begin = jax.tree.map(lambda leaf: leaf.astype(jnp.result_type(leaf, rate)), begin)
            trained = inner.unroll(
                loss,
                student.optimizer,
                begin,
                _augmented(config, key, shown, labels, rate),
                config.steps,
                gradient=config.gradient,
                remat=spec.execution.remat,
                block=None if jax.tree.leaves(start.stats) else spec.execution.block,  # examples that see each other
                walk=every_step,
            )
            return distance(Walk(trained, begin, goal.theta, expert.theta))

        def update(
            key: Key, state: TrajectoryState, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[TrajectoryState, Metrics]:
            keys = jax.random.split(key, config.experts_per_update)
            drawn = batch.rows[EXPERTS]
            chosen, epochs = rows.of(drawn)
            told = None if part.facts is None else jnp.asarray(batch.assets[part.facts])[chosen[:, 0]]
            over = (rows.read(batch.tables[EXPERTS], drawn, batch.assets), epochs, told, keys)

            def one(of_expert: tuple[NetworkState, Indices, PyTree, Key]) -> tuple[tuple[Array, Metrics], Params]:
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
        lean=Execution(block=50, side_by_side=1, remat="step"),
        most=lambda spec: Execution(
            block=config.batch or sum(of_each(config.ipc, spec.num_classes, "images per class")),
            side_by_side=config.experts_per_update,
        ),
    )


def _augmented(config: Trajectory, key: Key, images: Array, labels: Array, rate: Any) -> Callable[[Array], Any]:
    """What a student sees at each step, as `inner.unroll` takes it: batches of all images, each augmented by itself."""
    augment = augmentation.named(config.augmentation)
    key_plan, key_draw = jax.random.split(key)
    size = min(config.batch or len(images), len(images))
    plan = inner.epoch_plan(key_plan, len(images), size, config.steps)
    draws = jax.vmap(lambda key: augment.draw(key, size))(jax.random.split(key_draw, config.steps))
    feed = inner.planned((images, labels), plan, rate)
    return inner.augmented(feed, augment, lambda t: jax.tree.map(lambda leaf: leaf[t], draws))


def _times(weight: Array, loss: Callable[..., Array]) -> Callable[..., Array]:
    return lambda theta, batch: weight * loss(theta, batch)
