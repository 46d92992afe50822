"""FTD (Du et al., CVPR 2023, "Minimizing the Accumulated Trajectory Error to Improve Dataset Distillation",
arXiv:2211.11004)."""

from __future__ import annotations

import dataclasses
import math

from jaxdd.methods._hyper import at_least, field, positive
from jaxdd.methods._registry import method
from jaxdd.methods.trajectory import _trajectory as family
from jaxdd.synthetic import Continued
from jaxdd.types import Recipe


@dataclasses.dataclass(frozen=True)
class FTD(family.Trajectory):
    """Hyper-parameters of FTD, beside those of `Trajectory`; the authors' for 10 images per class of CIFAR-10.

    Attributes:
      init: of the images, see `synthetic.pixels`.
      radius, surrogate: ρ and α of the experts' gradients, see `training.sharpness_aware`.
      decay: of the moving average of the iterates, which is what a run leaves; 0 for the last one.
    """

    init: str | Continued = "real"
    radius: float = field(0.01, positive)
    surrogate: float = field(0.3, at_least(0, under=math.inf))
    decay: float = field(0.9995, at_least(0, under=1))


@method(FTD)
def ftd(config: FTD) -> Recipe:
    """FTD: MTT with experts in flat places, from where a student that has gone astray still finds its way.

    Experts take adaptive GSAM steps (`training.sharpness_aware`), and the set is the moving average of the iterates.
    The authors (AngusDujw/FTD-distillation) evaluate it beside the last iterate, on test data, and report the better.
    """
    flat = [config.radius, config.surrogate]
    return family.matching(
        config,
        family.images(config, config.init),
        family.descent(config),
        lambda spec: (family.experts(config, spec, family.flat(*flat), flat=flat),),
        average=config.decay or None,
    )
