"""TESLA (Cui et al., ICML 2023, "Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory",
arXiv:2211.10586)."""

from __future__ import annotations

import dataclasses

import jax

from jaxdd.methods._registry import method
from jaxdd.methods.trajectory import _trajectory as family
from jaxdd.synthetic import Continued
from jaxdd.types import Array, Network, NetworkState, Recipe


@dataclasses.dataclass(frozen=True)
class TESLA(family.Trajectory):
    """Hyper-parameters of TESLA, beside those of `Trajectory`; the authors' for 1 image per class of CIFAR-10.

    Attributes:
      init: of the images, see `synthetic.pixels`.
      teacher_labels: label the images, at every update, by what the expert at the goal makes of them, which the paper
        does for ImageNet; a set keeps labels of its classes.
      gradient: see `inner.unroll`; the paper's is "detached".
    """

    ipc: int | tuple[int, ...] = 1
    init: str | Continued = "real"
    steps: int = 50
    max_start: int = 5
    learning_rate: float = 500.0
    rate_learning_rate: float = 1e-7
    inner_learning_rate: float = 0.01
    gradient: str = "detached"
    teacher_labels: bool = False


def soft(network: Network, goal: NetworkState, images: Array) -> Array:
    """What an expert makes of images, probabilities `(m, classes)`; a constant to the gradient."""
    return jax.lax.stop_gradient(jax.nn.softmax(network.apply(goal.theta, images, goal.stats)[0]))


@method(TESLA)
def tesla(config: TESLA) -> Recipe:
    """TESLA: MTT with a gradient that needs no graph of the student's steps: each step's parameters count as constants.

    The loss is MTT's. Its gradient leaves out how a step depends on the parameters that it starts from (`inner.
    detached_grad`), which the paper (eq. 6 to 8) takes for the whole gradient; docs/trajectories.md says how far the
    two are apart. Where ours differs from the authors' code (justincui03/tesla): there the gradient of the images lacks
    the factor 2 of a square, so that their rate of 1000 is our `learning_rate` of 500.
    """
    return family.matching(
        config,
        family.images(config, config.init),
        family.descent(config),
        lambda spec: (family.experts(config, spec),),
        label=soft if config.teacher_labels else None,
    )
