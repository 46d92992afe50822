"""Backpropagation through time (Deng & Russakovsky 2022, "Remember the Past", https://arxiv.org/abs/2206.02916)."""

from __future__ import annotations

import dataclasses

from jaxdd.methods._registry import method
from jaxdd.methods.unrolled._bilevel import AUGMENTED
from jaxdd.methods.unrolled._long_unroll import LongUnroll, through_time
from jaxdd.synthetic import Continued, pixels
from jaxdd.types import Recipe


@dataclasses.dataclass(frozen=True)
class BPTT(LongUnroll):
    """Hyper-parameters of backpropagation through a long inner training with momentum: those of `LongUnroll`, and

    Attributes:
      init: of the images, see `synthetic.pixels`.
    """

    init: str | Continued = "noise"


@method(BPTT, revisions=AUGMENTED)
def bptt(config: BPTT) -> Recipe:
    """Backpropagation through a long inner training with momentum, to free pixels."""
    return through_time(config, pixels(config.ipc, init=config.init))
