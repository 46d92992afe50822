"""MCT (Zhong et al., CVPR 2025, "Towards Stable and Storage-efficient Dataset Distillation: Matching Convexified
Trajectory", arXiv:2406.19827)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxdd import training
from jaxdd.methods._hyper import require
from jaxdd.methods._registry import method
from jaxdd.methods.trajectory import _trajectory as family
from jaxdd.synthetic import Continued
from jaxdd.types import Array, Indices, Key, NetworkState, Recipe, Spec, Stage

LENGTHS = "path_lengths"


@dataclasses.dataclass(frozen=True)
class MCT(family.Trajectory):
    """Hyper-parameters of MCT, beside those of `Trajectory`; the authors' for 10 images per class of CIFAR-10.

    Attributes:
      init: of the images, see `synthetic.pixels`.
      points: epochs between which an expert's way is made straight, rising; the first and the last are its ends.
      max_start: students start at any time below it, a whole number of epochs or not.
    """

    init: str | Continued = "real"
    span: int = 15
    max_start: int = 8
    points: tuple[int, ...] = (0, 6, 25, 50)

    def check(self):
        super().check()
        points = list(self.points)
        rising = len(points) > 1 and points == sorted(set(points))
        ends = rising and points[0] == 0 and self.max_start + self.span <= points[-1] <= self.expert_epochs
        last = f"to one from max_start + span, {self.max_start + self.span}, to expert_epochs, {self.expert_epochs}"
        require(
            self,
            points=(ends, f"epochs that rise from 0 {last}"),
            expert_rows=(self.expert_rows == "all", "all, since every epoch says how far an expert has gone"),
        )


@method(MCT)
def mct(config: MCT) -> Recipe:
    """MCT: MTT along straight ways between a few points of an expert's training, from any time on.

    A point is smoothed by its neighbours (`training.way_points`), and a parameter tensor has gone the share of the way
    to the next one that it had gone in the training by its path length (`training.convexified`). The start is at a time
    uniform below `max_start`, the goal `span` epochs later. A reconstruction: no code of the authors was found. Their
    paper draws one straight line, which is `points=(0, 50)`. That few points have to be stored is not made use of:
    these are read from the rows that MTT has.
    """
    where = family.where(config)
    near = [e for e in range(config.expert_epochs + 1) if any(abs(e - point) <= 1 for point in config.points)]

    def stages(spec: Spec) -> tuple[Stage, ...]:
        experts = family.experts(config, spec)
        return experts, training.path_lengths(LENGTHS, where, config=experts.config)

    def epochs(key: Key, count: int, step: Array) -> Indices:
        return jnp.broadcast_to(jnp.array(near), (count, len(near)))

    def between(key: Key, networks: NetworkState, epochs: Indices, lengths: Array) -> tuple[NetworkState, Array]:
        points = training.way_points(networks, near, config.points)
        start = config.max_start * jax.random.uniform(key)
        ends = [
            training.convexified(points.theta, config.points, lengths, range(config.expert_epochs + 1), time)
            for time in (start, start + config.span)
        ]
        stats = jax.tree.map(lambda leaf: leaf[:2], points.stats)
        return NetworkState(jax.tree.map(lambda *both: jnp.stack(both), *ends), stats), start

    return family.matching(
        config,
        family.images(config, config.init),
        family.descent(config),
        stages,
        way=family.Way(epochs, between, LENGTHS),
    )
