"""Linear bases (Deng & Russakovsky 2022, "Remember the Past", https://arxiv.org/abs/2206.02916)."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp

from jaxdd.methods._hyper import at_least, field
from jaxdd.methods._ipc import ALIKE
from jaxdd.methods._registry import method
from jaxdd.methods.unrolled._bilevel import AUGMENTED
from jaxdd.methods.unrolled._long_unroll import LongUnroll, through_time
from jaxdd.synthetic import linear_bases
from jaxdd.types import Recipe


@dataclasses.dataclass(frozen=True)
class LinBa(LongUnroll):
    """Hyper-parameters of linear bases: those of `LongUnroll`, where
    `ipc` is the budget: bases and coefficients cost no more than so many plain images per class would; and

    Attributes:
      bases: how many are shared by all classes, at `1 / scale` of the image size.
      coefficient_decay: L2 penalty on the coefficients.
    """

    ipc: int = field(1, ALIKE)
    per_class: int | None = 32
    bases: int = 16
    scale: int = 2
    coefficient_decay: float = field(1e-4, at_least(0, under=math.inf))


@method(LinBa, revisions=AUGMENTED)
def linba(config: LinBa) -> Recipe:
    """Images as learned combinations of shared low-resolution bases, by long backpropagation through time."""
    bases = linear_bases(config.bases, ipc=config.ipc, scale=config.scale)

    def penalty(params):
        return config.coefficient_decay * jnp.sum(jnp.square(params["coefficients"]))

    return through_time(config, bases, penalty)
