"""RDED (Sun, Shi, Yu & Lin, CVPR 2024, "On the Diversity and Realism of Distilled Dataset: An Efficient Dataset
Distillation Paradigm", arXiv:2312.03526)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from jaxdd.methods._registry import method
from jaxdd.methods.decoupled._patches import Patched, patches
from jaxdd.methods.decoupled._taught import labelled, teachers
from jaxdd.types import Array, Distilled, Parts, PyTree, Recipe, Spec


@dataclasses.dataclass(frozen=True)
class RDED(Patched):
    """Hyper-parameters of RDED; by default the authors' for small images, of which nothing is learned."""


@method(RDED)
def rded(config: RDED) -> Recipe:
    """RDED: crops of real images that a teacher is surest of, in mosaics of several where images are large.

    An update chooses those of one class, so `run.steps` is the number of classes, and one that it does not reach has
    its first real images. Of `crops` crops of each of `pool` images it is the one of the smallest cross-entropy, and of
    these those of the smallest again. Crops have no whole pixels, see `augmentation.resized_crop`, and are made smaller
    by averages for mosaics, where the authors' resize once.
    """

    def parts(spec: Spec) -> Parts:
        def join(products: Array, assets: Mapping[str, PyTree]) -> Distilled:
            return labelled(config, spec, products.reshape(-1, *spec.image_shape), assets)

        return Parts(1, join)

    return dataclasses.replace(patches(config), stages=lambda spec: teachers(config, spec), parts=parts)
