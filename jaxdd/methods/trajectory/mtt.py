"""MTT (Cazenavette et al., CVPR 2022, "Dataset Distillation by Matching Training Trajectories", arXiv:2203.11932)."""

from __future__ import annotations

import dataclasses

import optax

from jaxdd import training
from jaxdd.methods._hyper import accepted_by, field, one_of
from jaxdd.methods._registry import method
from jaxdd.methods.trajectory import _trajectory as family
from jaxdd.synthetic import Continued, named
from jaxdd.types import Recipe


@dataclasses.dataclass(frozen=True)
class MTT(family.Trajectory):
    """Hyper-parameters of MTT, beside those of `Trajectory`; by default the authors' for 10 images per class of
    CIFAR-10, whitened.

    Attributes:
      ipc: the budget in plain images per class: of pixels and of mosaics so many, of what else there is as many as cost
        no more bits.
      parameterisation: of the images, see `synthetic.named`: "multi_formation(factor=2)".
      init: of the images, see `synthetic.named`.
      optimizer: of the images' leaves, at `learning_rate`: "sgd", with momentum 0.5, or "adam".
    """

    parameterisation: str = field("pixels", accepted_by(named))
    init: str | Continued = "real"
    optimizer: str = field("sgd", one_of(("sgd", "adam")))


@method(MTT)
def mtt(config: MTT) -> Recipe:
    """MTT: images on which a student walks in a few steps where an expert on the real data went in some epochs.

    Minimises `|θ_N - θ*_{s+M}|² / |θ*_s - θ*_{s+M}|²` (eq. 1): a student that starts from an expert's parameters θ*_s
    and takes N steps of gradient descent on the augmented images, at a learned step size.

    The images may be of any parameterisation: so IDC's mosaics, FreD (Shin et al. 2023, arXiv:2311.08819) and DDiF
    (Shin et al. 2025, arXiv:2503.04835) go by trajectories. Where theirs differ: the latter two keep the step size at
    0.001 or more, MTT and ours at 1e-6; DDiF's student sees a random part of a large set in each update, ours batches
    of all of it; more in `frequencies` and `neural_fields`.
    """
    base = named(config.parameterisation)(config.ipc, config.init)
    rate = config.learning_rate
    optimizer = optax.adam(rate) if config.optimizer == "adam" else optax.sgd(rate, momentum=0.5)
    fit = training.fitted(base, config={name: getattr(config, name) for name in ("parameterisation", "ipc", "init")})
    return family.matching(
        config,
        family.with_step_size(config, base),
        family.descent(config, **dict.fromkeys(base.learned, optimizer)),
        lambda spec: (family.experts(config, spec), *fit),
    )
