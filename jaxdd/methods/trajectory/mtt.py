"""MTT (Cazenavette et al., CVPR 2022, "Dataset Distillation by Matching Training Trajectories", arXiv:2203.11932)."""

from __future__ import annotations

import dataclasses

from jaxdd.methods._registry import method
from jaxdd.methods.trajectory import _trajectory as family
from jaxdd.synthetic import Continued
from jaxdd.types import Recipe


@dataclasses.dataclass(frozen=True)
class MTT(family.Trajectory):
    """Hyper-parameters of MTT, beside those of `Trajectory`; by default the authors' for 10 images per class of
    CIFAR-10, whitened.

    Attributes:
      init: of the images, see `synthetic.pixels`.
    """

    init: str | Continued = "real"


@method(MTT)
def mtt(config: MTT) -> Recipe:
    """MTT: images on which a student walks in a few steps where an expert on the real data went in some epochs.

    Minimises `|θ_N - θ*_{s+M}|² / |θ*_s - θ*_{s+M}|²` (eq. 1): a student that starts from an expert's parameters θ*_s
    and takes N steps of gradient descent on the augmented images, at a learned step size.
    """
    return family.matching(
        config,
        family.images(config, config.init),
        family.descent(config),
        lambda spec: (family.experts(config, spec),),
    )
