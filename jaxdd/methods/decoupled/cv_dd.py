"""CV-DD (Cui, Li, Ma, Bi, Luo & Shen, ICCV 2025, "Dataset Distillation via Committee Voting", arXiv:2501.07575)."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np

from jaxdd.methods._hyper import at_least, between, elements, field, positive, require
from jaxdd.methods._registry import method
from jaxdd.methods.decoupled import _recovery as family
from jaxdd.methods.decoupled._patches import Patched, of_block, patches_stage
from jaxdd.methods.decoupled._taught import Committee, teachers
from jaxdd.types import Key, Network, RealData, Recipe


@dataclasses.dataclass(frozen=True)
class CVDD(family.Across, Patched, Committee):
    """Hyper-parameters of CV-DD; by default the authors' for CIFAR.

    Attributes:
      performance: of each teacher, `model` first: the test accuracy in percent of networks trained on what it distils
        alone; None for equal ones.
      voters: of the committee, that recover a block together.
      temperature: of the softmax of their performances that weighs them.
      label_temperature: likewise, of all teachers' logits that make labels.
    """

    model: str | Network = "resnet18"
    others: tuple[str | Network, ...] = ("mobilenet_v2", "shufflenet_v2")
    performance: tuple[float, ...] | None = field(None, elements(between(0, 100)))
    voters: int = field(2, at_least(1))
    temperature: float = field(5.0, positive)
    label_temperature: float = field(10.0, positive)
    by_batch: bool = True
    confidence: str = "medium"
    decay_steps: int = 4000
    crop: tuple[float, float] | None = field((0.08, 1.0), elements(between(0, 1)))

    def check(self):
        super().check()
        count = len(self.teachers())
        require(
            self,
            voters=(self.voters <= count, f"at most the {count} networks of the committee"),
            performance=(self.performance is None or len(self.performance) == count, f"one for each of {count}"),
        )

    def votes(self) -> dict[str, Any]:
        everyone = tuple(range(len(self.teachers())))
        return {**super().votes(), "weights": self.weights(everyone, self.label_temperature)}

    def weights(self, members: tuple[int, ...], temperature: float) -> tuple[float, ...]:
        """Of some of the committee, a softmax of their performances."""
        found = np.array([0.0 if self.performance is None else self.performance[k] for k in members]) / temperature
        found = np.exp(found - found.max())
        return tuple((found / found.sum()).tolist())


@method(CVDD)
def cv_dd(config: CVDD) -> Recipe:
    """CV-DD: recovery from crops of real images by two networks of a committee at a time, weighed by what they are good
    for.

    The pairs follow each other from image to image of a class; for 50 images a class the authors draw them. Crops of
    medium confidence are those in the middle of RDED's order, since the authors read theirs from files.
    """
    members = range(len(config.teachers()))
    ballots = [
        dict(zip(some, config.weights(some, config.temperature), strict=True))
        for some in itertools.combinations(members, config.voters)
    ]

    def start(key: Key, data: RealData, block: family.Block) -> family.Begun:
        return family.Begun({"images": of_block(data, block)})

    return family.recovering(
        config,
        config.blocks,
        start=start,
        objective=lambda spec: family.committee(
            config, spec, ballots, lambda state: state.block.index[0] % len(ballots)
        ),
        stages=lambda spec: (*teachers(config, spec), patches_stage(config, spec)),
        one_by_one=len(config.teachers()) > 1,
    )
