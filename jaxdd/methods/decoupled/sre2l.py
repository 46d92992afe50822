"""SRe2L (Yin, Xing & Shen, NeurIPS 2023, "Squeeze, Recover and Relabel: Dataset Condensation at ImageNet Scale From A
New Perspective", arXiv:2306.13092)."""

from __future__ import annotations

import dataclasses

from jaxdd.methods._registry import method
from jaxdd.methods.decoupled import _recovery as family
from jaxdd.types import Recipe


@dataclasses.dataclass(frozen=True)
class SRe2L(family.Across):
    """Hyper-parameters of SRe2L; by default the authors' for CIFAR-100."""


@method(SRe2L)
def sre2l(config: SRe2L) -> Recipe:
    """SRe2L: images that a trained network takes for their class and whose statistics it remembers, labelled by it.

    Minimises `CE(teacher(A(x)), y) + α sum_l w_l (|mean_l - running mean_l| + |variance_l - running variance_l|)`
    (eq. 5 and 6, `losses.statistics_matching`) over x from noise, one block of images after the other, each with a new
    optimiser. Images stay floats, where the authors' go through a JPEG; the real pixels of the data bound them, where
    theirs are bounded by black and white.
    """
    return family.recovering(config, config.blocks)
