"""AST (Shen, Yang & Lan, 2023, "Efficient Dataset Distillation through Alignment with Smooth and High-Quality Expert
Trajectories", arXiv:2310.10541)."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import optax

from jaxdd import inner, losses, training
from jaxdd.data import epoch_steps
from jaxdd.methods._hyper import at_least, field, require
from jaxdd.methods._registry import method
from jaxdd.methods.trajectory import _trajectory as family
from jaxdd.synthetic import Continued
from jaxdd.types import Array, Key, Metrics, PyTree, Recipe, Spec, Stage


@dataclasses.dataclass(frozen=True)
class AST(family.Trajectory):
    """Hyper-parameters of AST, beside those of `Trajectory`; the authors' for 10 images per class of CIFAR-10.

    Attributes:
      init: of the images, see `synthetic.pixels`. The paper's are representatives of clusters of each class, what
        `jaxdd select --config=kmeans` chooses and leaves to go on with.
      momentum: of a student.
      balance: weigh a student's loss by where it starts: less before the middle of the first epochs, more after it.
      perturbation: of the convolutions that a student starts from, relative; 0 for none.
      between: weight of the distances at the expert's epochs between; they grow to it linearly.
      penalty, target, clipped_epochs: of the experts' training, see `training.smooth`.
      expert_momentum, expert_weight_decay: of the experts, whose rate falls to 0.6 of it in the middle.
    """

    init: str | Continued = "real"
    rate_learning_rate: float = 1e-6
    momentum: float = field(0.9, at_least(0, under=1))
    balance: bool = True
    perturbation: float = field(1.0, at_least(0, under=math.inf))
    between: float = field(1.0, at_least(0, under=math.inf))
    penalty: float = field(2.0, at_least(0, under=math.inf))
    target: float = field(0.0, at_least(0, under=math.inf))
    clipped_epochs: int = field(10, at_least(0))
    expert_learning_rate: float = 0.003
    expert_momentum: float = field(0.9, at_least(0, under=1))
    expert_weight_decay: float = field(1e-3, at_least(0, under=math.inf))

    def check(self):
        super().check()
        enough = not self.between or self.steps >= self.span
        require(self, steps=(enough, f"at least span, {self.span}, a step for each epoch, unless between is 0"))


@method(AST)
def ast(config: AST) -> Recipe:
    """AST: MTT with experts that go smoothly, and students that are held to their way.

    Experts have momentum, a clipped loss and a gradient penalty (`training.smooth`). Students have momentum, a loss
    that is weighed by where they start, perturbed convolutions, and distances at the epochs between: after step
    k (N // M) to epoch k, with the weights k / M. Where ours differs from the authors' code (shenjiyuan123/AST-
    Alignment-with-Smooth-Expert): there an expert's momentum is lost where its rate falls, and its last commit holds
    the slopes of the penalty to 1 (`target`), with which they grow, see `training.smooth`.
    """

    def stages(spec: Spec) -> tuple[Stage, ...]:
        steps = (config.expert_epochs // 2 + 2) * epoch_steps(spec.length(), config.expert_batch)
        schedule = optax.piecewise_constant_schedule(config.expert_learning_rate, {steps: 0.6})
        optimizer = optax.chain(
            optax.add_decayed_weights(config.expert_weight_decay), optax.sgd(schedule, config.expert_momentum)
        )
        of_loss = ("penalty", "target", "clipped_epochs")
        recipe = functools.partial(training.smooth, **{name: getattr(config, name) for name in of_loss})
        facts = (*of_loss, "expert_momentum", "expert_weight_decay", "expert_epochs")  # where the rate falls
        options = {name: getattr(config, name) for name in facts}
        return (family.experts(config, spec, recipe, optimizer=optimizer, **options),)

    held = config.between > 0 and config.span > 1
    later = range(config.span + 1) if held else (0, config.span)
    return family.matching(
        config,
        family.images(config, config.init),
        family.descent(config),
        stages,
        student=family.Student(
            inner.sgd(config.momentum),
            start=functools.partial(perturbed, config.perturbation) if config.perturbation else None,
            weight=functools.partial(balanced, config.max_start // 2) if config.balance else None,
        ),
        way=family.from_epoch(family.uniformly(0, config.max_start), later),
        distance=functools.partial(on_the_way, config) if held else family.to_the_goal,
        every_step=held,
    )


def perturbed(scale: float, key: Key, theta: PyTree) -> PyTree:
    """`θ + α d/|d| θ` of each kernel of a convolution, d standard normal; other parameters as they are."""
    leaves, structure = jax.tree.flatten(theta)

    def moved(k: int, leaf: Array) -> Array:
        noise = jax.random.normal(jax.random.fold_in(key, k), leaf.shape, leaf.dtype)
        return leaf + scale * noise / jnp.linalg.norm(noise.ravel()) * leaf

    return jax.tree.unflatten(structure, [moved(k, leaf) if leaf.ndim == 4 else leaf for k, leaf in enumerate(leaves)])


def balanced(middle: int, epoch: Array) -> Array:
    """The weight of a student's loss: `log_5(8 + s - middle)` from the middle on, one over `log_5(8 + middle - s)`
    before it."""
    away = jnp.log(8 + jnp.abs(epoch - middle)) / math.log(5)
    return jnp.where(epoch >= middle, away, 1 / away)


def on_the_way(config: AST, walk: family.Walk) -> tuple[Array, Metrics]:
    """The distance to the goal, and those to the epochs between."""
    loss, _ = family.to_the_goal(walk)
    k = jnp.arange(1, config.span)
    students = jax.tree.map(lambda leaf: leaf[k * (config.steps // config.span) - 1], walk.student.walk)
    goals = jax.tree.map(lambda leaf: leaf[k], walk.way)
    weights = config.between * k / config.span
    left = losses.intermediate_trajectory_matching(students, walk.start, goals, weights)
    return loss + left, {"between": left}
