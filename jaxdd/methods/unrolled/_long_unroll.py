"""Long inner trainings with momentum, all of whose steps are differentiated."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import optax

from jaxdd import inner
from jaxdd.methods._hyper import at_least, field, one_of, positive
from jaxdd.methods.unrolled._bilevel import Bilevel, Inner, bilevel, check_batches, class_batches
from jaxdd.synthetic import SyntheticSet, per_leaf
from jaxdd.types import Recipe

OPTIMIZERS = {"sgd": lambda rate: optax.sgd(rate, momentum=0.5), "adam": optax.adam}


@dataclasses.dataclass(frozen=True)
class LongUnroll(Bilevel):
    """What BPTT and LinBa have beside `Bilevel`; their paper's hyper-parameters for CIFAR-10.

    Otherwise than in the authors' code, gradients are not cut to a norm of 2.

    Attributes:
      steps: inner steps, all of them differentiable.
      per_class: images per class of an inner step; None for all.
      inner_learning_rate, momentum: of gradient descent on the network.
      optimizer: of the synthetic set: "sgd" (with momentum 0.5, the paper) or "adam".
      learning_rate: its rate.
      augmentation: flips or rotations by up to 15 degrees: one of the two with one draw for a network, of all images at
        all steps and of the real ones too, as in the authors' code, whose commands leave it to the user ("none" there).
    """

    augmentation: str = "flip_rotate"
    steps: int = field(150, at_least(1))
    per_class: int | None = field(None, at_least(1))
    inner_learning_rate: float = field(0.01, positive)
    momentum: float = field(0.9, at_least(0, under=1))
    optimizer: str = field("sgd", one_of(OPTIMIZERS))
    learning_rate: float = field(0.1, positive)

    def check(self):
        super().check()
        check_batches(self)


def through_time(config: LongUnroll, synthetic: SyntheticSet, penalty: Callable | None = None) -> Recipe:
    """Backpropagation through all steps, to any parameterisation.

    Args:
      penalty: see `bilevel`.
    """
    optimizer = OPTIMIZERS[config.optimizer]
    return bilevel(
        config,
        synthetic,
        per_leaf({leaf: optimizer(config.learning_rate) for leaf in synthetic.learned}),
        Inner(
            inner.sgd(config.momentum),
            class_batches(config.per_class, config.steps),
            learning_rate=config.inner_learning_rate,
            siamese=True,
        ),
        penalty=penalty,
    )
