"""AT-BPTT (Li et al. 2025, "Beyond Random: Automatic Inner-loop Optimization in Dataset Distillation", NeurIPS,
arXiv:2510.04838)."""

from __future__ import annotations

import dataclasses
import math

from jaxdd import inner
from jaxdd.methods._hyper import at_least, elements, field, more_than, require
from jaxdd.methods._registry import method
from jaxdd.methods.unrolled._windowed import Windowed, through_windows
from jaxdd.types import Recipe


@dataclasses.dataclass(frozen=True)
class ATBPTT(Windowed):
    """Hyper-parameters of AT-BPTT; the paper's for CIFAR-10: those of `Windowed`, and those of
    `inner.adaptive_windows`, which says what is drawn in each of its three stages.

    This follows the authors' code (GH209515338/AT-BPTT), where s, at which the norm was looked at, is the first step of
    the window, and the third stage looks at the same probabilities from the other end of the training. The paper is
    said to prefer small norms there; its text was not at hand. Otherwise than in that code:

    * W stays. There each window's length becomes the W of the next, so that it drifts, and in the second stage grows
      until the run fails.
    * A stage ends after a share of `steps` that is rounded up. There 0.125 * 300 windows are counted up to exactly, so
      that with 300 steps the third stage never comes.
    * After a stage rises are counted anew, a window later than there.

    The accuracies are of networks on the real training batches of the updates, there as here. The low-rank Hessian
    products of the paper are not in that code, nor here: gradients are exact. A window costs a training of all `steps`
    without gradient, once in `every` updates, and not in the second stage.

    Attributes:
      window: differentiable inner steps in the middle, W.
      spread: how many more or fewer there may be, d.
      every: updates by one window; an epoch in the code, which 10 batches of 5,000 are on CIFAR-10.
      rises: of accuracy from one window to the next, below which the first and the second stage come to an end.
      patience: windows in a row for that, as shares of `steps`.
      smoothing: of the accuracies from window to window, below 1; 0 is the code's.
    """

    window: int = field(40, at_least(1))
    spread: int = field(10, at_least(0))
    every: int = field(10, at_least(1))
    rises: tuple[float, float] = field((0.015, 0.01), elements(at_least(0, under=1)))
    patience: tuple[float, float] = field((0.15, 0.125), elements(more_than(0, under=math.inf)))
    smoothing: float = field(0.0, at_least(0, under=1))

    def check(self):
        super().check()
        longest = self.steps - self.spread
        require(
            self,
            spread=(self.spread < self.window, f"below window, {self.window}"),
            window=(self.window <= longest, f"from 1 to steps - spread, {longest}"),
        )


@method(ATBPTT)
def at_bptt(config: ATBPTT) -> Recipe:
    """Backpropagation through windows of an inner training that are placed by its gradients and grow with them."""
    # 0.07 * 100 is a little more than 7 in floats.
    first, second = (math.ceil(round(share * config.steps, 9)) for share in config.patience)
    windows = inner.adaptive_windows(
        config.every,
        config.window,
        config.spread,
        config.steps,
        rises=config.rises,
        patience=(first, second),
        smoothing=config.smoothing,
    )
    return through_windows(config, windows)
