"""PAD (Li et al., 2024, "Prioritize Alignment in Dataset Distillation", arXiv:2408.03360)."""

from __future__ import annotations

import dataclasses
import functools

import jax.numpy as jnp

from jaxdd import losses, training
from jaxdd.methods._hyper import Range, at_least, field, require
from jaxdd.methods._registry import method
from jaxdd.methods.trajectory import _trajectory as family
from jaxdd.methods.trajectory._aligned import Aligned, aligned
from jaxdd.types import Array, Metrics, Recipe, Spec, Stage

DIFFICULTY = "difficulty"


@dataclasses.dataclass(frozen=True)
class PAD(Aligned):
    """Hyper-parameters of PAD, beside those of `Aligned`; the authors' for 10 images per class of CIFAR-10.

    Attributes:
      drop: share of the parameters, those nearest to the goal, that are left out of the distance.
      begin, grown: share of the data, the easiest of each class, that experts see at first, and the epoch, 0 first,
        from which they see all; the share grows linearly.
      easy: pairs (epoch, share), in the order of epochs: after that epoch, 0 first, they no longer see so large a
        share, the easiest of each class.
      difficulty_epochs, difficulty_networks: of the networks that say how hard examples are, in a stage before.
    """

    drop: float = field(0.5, at_least(0, under=1))
    begin: float = field(0.75, Range(lambda value: 0 < value <= 1, "more than 0 and at most 1"))
    grown: int = field(20, at_least(1))
    easy: tuple[tuple[int, float], ...] = ((40, 0.1), (60, 0.2))
    difficulty_epochs: int = field(20, at_least(1))
    difficulty_networks: int = field(1, at_least(1))

    def check(self):
        super().check()
        epochs, shares = [each[0] for each in self.easy], [each[1] for each in self.easy]
        ordered = epochs == sorted(set(epochs)) and all(epoch >= 0 for epoch in epochs)
        left = all(
            0 <= share < self.begin + (1 - self.begin) * min(1, (epoch + 1) / self.grown)
            for epoch, share in zip(epochs, shares, strict=True)
        )
        require(self, easy=(ordered and left, "pairs of a growing epoch and a share that leaves some of what they see"))


@method(PAD)
def pad(config: PAD) -> Recipe:
    """PAD: DATM whose experts see easy data first and hard data last, and whose distance leaves small differences out.

    How hard examples are is EL2N of networks trained on all data, early (`training.dynamics_stage`); the authors
    (NUS-HPC-AI-Lab/PAD) order by GraNd. Their epochs of a part of the data are shorter; ours have as many steps, of
    fewer examples (`training.curriculum`).
    """

    def stages(spec: Spec) -> tuple[Stage, ...]:
        difficulty = training.dynamics_stage(
            DIFFICULTY,
            config.model,
            spec,
            epochs=config.difficulty_epochs,
            batch_size=config.expert_batch,
            learning_rate=config.expert_learning_rate,
            networks=config.difficulty_networks,
            augment=config.augmentation,
        )
        recipe = functools.partial(
            training.curriculum,
            window=functools.partial(window, config),
            scores=DIFFICULTY,
            slope=training.sharpness_aware(config.radius, config.surrogate),
        )
        facts = {name: getattr(config, name) for name in ("radius", "surrogate", "begin", "grown", "easy")}
        return difficulty, family.experts(config, spec, recipe, **facts)

    def distance(walk: family.Walk) -> tuple[Array, Metrics]:
        kept = losses.largest_differences(walk.student.theta, walk.goal, config.drop)
        return losses.trajectory_matching(walk.student.theta, walk.start, walk.goal, kept=kept), {}

    return aligned(config, stages, distance)


def window(config: PAD, epoch: Array) -> tuple[Array, Array]:
    """Which places of a class count in an epoch, see `training.curriculum`."""
    high = jnp.minimum(1, config.begin + (1 - config.begin) * epoch / config.grown)
    low = jnp.zeros(())
    for after, share in config.easy:
        low = jnp.where(epoch > after, share, low)
    return low, high
