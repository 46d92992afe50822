"""RaT-BPTT (Feng, Vedantam & Kempe 2024, "Embarrassingly Simple Dataset Distillation", arXiv:2311.07025)."""

from __future__ import annotations

import dataclasses

from jaxdd import inner
from jaxdd.methods._hyper import at_least, field, one_of, require
from jaxdd.methods._registry import method
from jaxdd.methods.unrolled._bilevel import AUGMENTED
from jaxdd.methods.unrolled._windowed import Windowed, through_windows
from jaxdd.types import Recipe


@dataclasses.dataclass(frozen=True)
class RaTBPTT(Windowed):
    """Hyper-parameters of RaT-BPTT; the paper's for CIFAR-10: those of `Windowed`, and

    Attributes:
      window: differentiable inner steps.
      place: of the window: "random" (the paper), "last", "fixed", or "full" if `window` is `steps`.
      start: first place of the window.
    """

    window: int = field(60, at_least(1))
    place: str = field("random", one_of(inner.WINDOWS))
    start: int = field(0, at_least(0))

    def check(self):
        super().check()
        left = self.steps - self.start
        require(
            self,
            window=(self.window <= left, f"from 1 to the {left} steps left"),
            place=(
                self.place != "full" or self.window == self.steps,
                f"another than full unless window is {self.steps}",
            ),
        )


@method(RaTBPTT, revisions=AUGMENTED)
def rat_bptt(config: RaTBPTT) -> Recipe:
    """Backpropagation through a randomly placed window of a long inner training with Adam."""
    return through_windows(config, inner.placed_windows(config.place, config.window, start=config.start))
