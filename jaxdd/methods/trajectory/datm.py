"""DATM (Guo et al., ICLR 2024, "Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching",
arXiv:2310.05773)."""

from __future__ import annotations

import dataclasses

from jaxdd.methods._registry import method
from jaxdd.methods.trajectory import _trajectory as family
from jaxdd.methods.trajectory._aligned import Aligned, aligned
from jaxdd.types import Recipe


@dataclasses.dataclass(frozen=True)
class DATM(Aligned):
    """Hyper-parameters of DATM: those of `Aligned`, by default the authors' for 10 images per class of CIFAR-10."""


@method(DATM)
def datm(config: DATM) -> Recipe:
    """DATM: early parts of the experts' way for few images and late ones for many, with soft labels that are learned.

    MTT whose first epochs lie in a window that grows, whose images start as real ones that an expert gets right, whose
    labels start as the experts' logits and are learned, and where a loss above the threshold takes no step. Experts are
    FTD's. Where ours differs from the authors' code (NUS-HPC-AI-Lab/DATM): where too few images of a class are right,
    others of it follow, theirs asks further experts; nothing is averaged in either.
    """
    flat = [config.radius, config.surrogate]
    return aligned(config, lambda spec: (family.experts(config, spec, family.flat(*flat), flat=flat),))
