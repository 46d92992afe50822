"""DSA (Zhao & Bilen 2021, "Dataset Condensation with Differentiable Siamese Augmentation", arXiv:2102.08259)."""

from __future__ import annotations

import dataclasses

from jaxdd.methods._registry import method
from jaxdd.methods.match.dc import DC, gradient_matching
from jaxdd.synthetic import Continued
from jaxdd.types import Recipe


@dataclasses.dataclass(frozen=True)
class DSA(DC):
    """Hyper-parameters of DSA, the paper's: those of `DC`."""

    init: str | Continued = "real"
    augmentation: str = "dsa"


@method(DSA)
def dsa(config: DSA) -> Recipe:
    """Differentiable Siamese Augmentation: DC with both sides augmented alike, from real images."""
    return gradient_matching(config)
