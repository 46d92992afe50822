"""CDA (Yin & Shen, TMLR 2024, "Dataset Distillation via Curriculum Data Synthesis in Large Data Era",
arXiv:2311.18838)."""

from __future__ import annotations

import dataclasses

from jaxdd.data import augmentation
from jaxdd.methods._hyper import between, elements, field, more_than, one_of, require
from jaxdd.methods._registry import method
from jaxdd.methods.decoupled import _recovery as family
from jaxdd.methods.decoupled.sre2l import SRe2L
from jaxdd.types import Array, Recipe


@dataclasses.dataclass(frozen=True)
class CDA(SRe2L):
    """Hyper-parameters of CDA; by default the authors' curriculum, all else as of SRe2L.

    Attributes:
      crop: shares of the area of crops at the end of the curriculum.
      curriculum: how the smallest of them gets there, see `augmentation.crop_curriculum`.
      milestone: the share of steps after which it is there.
    """

    crop: tuple[float, float] | None = field((0.08, 1.0), elements(between(0, 1)))
    curriculum: str = field("cosine", one_of(augmentation.CURRICULA))
    milestone: float = field(1.0, more_than(0))

    def check(self):
        require(self, crop=(self.crop is not None and self.crop[1] == 1, "shares up to 1, which crops begin with"))
        require(self, milestone=(self.milestone <= 1, "at most 1"))
        super().check()

    def views(self, done: Array | float) -> augmentation.Augmentation:
        assert self.crop is not None
        low = augmentation.crop_curriculum(self.curriculum, self.crop[0], self.milestone)(done)
        crop = augmentation.resized_crop((low, self.crop[1]))
        return augmentation.chain(crop, augmentation.roll(self.jitter))


@method(CDA)
def cda(config: CDA) -> Recipe:
    """CDA: SRe2L whose crops begin with whole images and get smaller: first outlines, then details."""
    return family.recovering(config, config.blocks)
