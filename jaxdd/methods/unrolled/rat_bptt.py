"""RaT-BPTT (Feng, Vedantam & Kempe 2024, "Embarrassingly Simple Dataset Distillation", arXiv:2311.07025)."""

from __future__ import annotations

import dataclasses

import optax

from jaxdd import inner
from jaxdd.methods._hyper import at_least, field, more_than, one_of, positive, require
from jaxdd.methods._registry import method
from jaxdd.methods.unrolled._bilevel import LEAN, Bilevel, Inner, bilevel, check_batches, class_batches
from jaxdd.synthetic import Continued, clip_by_running_norm, learned_labels, per_leaf, pixels
from jaxdd.types import Recipe


@dataclasses.dataclass(frozen=True)
class RaTBPTT(Bilevel):
    """Hyper-parameters of RaT-BPTT, beside those of `Bilevel`; the paper's for CIFAR-10.

    Attributes:
      init: of the images; "unit" is noise of norm 1, the paper's.
      learn_labels: whether labels are learned, as non-negative vectors, beside the images.
      steps: inner steps of the longest run.
      window: differentiable inner steps.
      place: of the window: "random" (the paper), "last", "fixed", or "full" if `window` is `steps`.
      start: first place of the window.
      per_class: images per class of an inner step; None for all.
      inner_learning_rate: of Adam on the network.
      learning_rate: of Adam on the images.
      label_learning_rate: of Adam on learned labels.
      clip: gradients of the images that are longer than so many times their running norm are cut.
    """

    ipc: int | tuple[int, ...] = 10
    target_batch: int = 5000
    init: str | Continued = "unit"
    learn_labels: bool = False
    steps: int = 200
    window: int = field(60, at_least(1))
    place: str = field("random", one_of(inner.WINDOWS))
    start: int = field(0, at_least(0))
    per_class: int | None = field(None, at_least(1))
    inner_learning_rate: float = field(0.001, positive)
    learning_rate: float = field(0.001, positive)
    label_learning_rate: float = field(0.001, positive)
    clip: float = field(2.0, more_than(1))

    def check(self):
        super().check()
        check_batches(self)
        left = self.steps - self.start
        require(
            self,
            window=(self.window <= left, f"from 1 to the {left} steps left"),
            place=(
                self.place != "full" or self.window == self.steps,
                f"another than full unless window is {self.steps}",
            ),
        )


@method(RaTBPTT)
def rat_bptt(config: RaTBPTT) -> Recipe:
    """Backpropagation through a randomly placed window of a long inner training with Adam."""
    synthetic = pixels(config.ipc, init=config.init)
    if config.learn_labels:
        synthetic = learned_labels(synthetic, "raw", nonnegative=True)
    optimizers = {"images": optax.chain(clip_by_running_norm(factor=config.clip), optax.adam(config.learning_rate))}
    if config.learn_labels:
        optimizers["labels"] = optax.adam(config.label_learning_rate)
    return bilevel(
        config,
        synthetic,
        per_leaf(optimizers),
        Inner(
            inner.adam(),
            class_batches(config.per_class, config.steps),
            learning_rate=config.inner_learning_rate,
            window=config.window,
            place=config.place,
            start=config.start,
        ),
        lean=dataclasses.replace(LEAN, block=500),
    )
