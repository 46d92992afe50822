"""Hyper-parameters that every method of the family has."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jaxdd import inner, training
from jaxdd.data import augmentation
from jaxdd.methods._hyper import HyperParameters, accepted_by, at_least, field, one_of, positive, require
from jaxdd.methods._ipc import BY_CLASS
from jaxdd.types import Network


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
      expert_rows: "all" epochs, so that runs with other windows share them, or those that are "used".
      expert_store: in what form, see `training.Trajectories`.
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
    expert_rows: str = field("all", one_of(("all", "used")))
    expert_store: str = field("float32", one_of(training.STORES))
    gradient: str = field("fwdrev", one_of(inner.GRADIENTS))

    def check(self):
        last = self.expert_epochs - self.span + 1
        require(
            self,
            span=(self.span <= self.expert_epochs, f"from 1 to expert_epochs, {self.expert_epochs}"),
            max_start=(self.max_start <= last, f"from 1 to {last}, so that the goal is among the epochs"),
            experts_per_update=(self.experts_per_update <= self.experts, f"from 1 to experts, {self.experts}"),
        )

    def epochs_used(self) -> Sequence[int]:
        """Those of experts that a run needs, rising."""
        return range(self.max_start + self.span)
