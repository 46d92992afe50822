"""ATT (Liu et al., ECCV 2024, "Dataset Distillation by Automatic Training Trajectories", arXiv:2407.14245)."""

from __future__ import annotations

import dataclasses

import jax

from jaxdd import losses
from jaxdd.methods._registry import method
from jaxdd.methods.trajectory import _trajectory as family
from jaxdd.synthetic import Continued
from jaxdd.types import Array, Metrics, Recipe


@dataclasses.dataclass(frozen=True)
class ATT(family.Trajectory):
    """Hyper-parameters of ATT, beside those of `Trajectory`; by default MTT's for 10 images per class of CIFAR-10.

    Attributes:
      init: of the images, see `synthetic.pixels`.
      steps: a student's at most.
    """

    init: str | Continued = "real"


def at_the_nearest(walk: family.Walk) -> tuple[Array, Metrics]:
    """`to_the_goal` from where the student is nearest to it, and the number of that step, from 1."""
    step = losses.nearest_step(walk.student.walk, walk.goal)
    nearest = jax.tree.map(lambda leaf: leaf[step], walk.student.walk)
    return losses.trajectory_matching(nearest, walk.start, walk.goal), {"nearest_step": step + 1}


@method(ATT)
def att(config: ATT) -> Recipe:
    """ATT: MTT whose student may be at the goal after any number of steps: the nearest of all counts.

    By the sum of absolute differences, of equal ones the last; the distance is MTT's.
    """
    return family.matching(
        config,
        family.images(config, config.init),
        family.descent(config),
        lambda spec: (family.experts(config, spec),),
        distance=at_the_nearest,
        every_step=True,
    )
