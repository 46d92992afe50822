"""Remember the Past (Deng & Russakovsky 2022, https://arxiv.org/abs/2206.02916): long unrolls, and linear bases."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax.numpy as jnp
import optax

from jaxdd import inner
from jaxdd.methods._registry import method, positive, require
from jaxdd.methods.bilevel import Bilevel, Inner, bilevel, class_batches
from jaxdd.synthetic import SyntheticSet, linear_bases, per_leaf, pixels
from jaxdd.types import Recipe

OPTIMIZERS = {"sgd": lambda rate: optax.sgd(rate, momentum=0.5), "adam": optax.adam}


@dataclasses.dataclass(frozen=True)
class LongUnroll(Bilevel):
    """What both methods have beside `Bilevel`; the paper's hyper-parameters for CIFAR-10.

    Attributes:
      steps: inner steps, all of them differentiable.
      per_class: images per class of an inner step; None for all.
      inner_learning_rate, momentum: of gradient descent on the network.
      optimizer: of the synthetic set: "sgd" (with momentum 0.5, the paper) or "adam".
      learning_rate: its rate.
    """

    steps: int = 150
    per_class: int | None = None
    inner_learning_rate: float = 0.01
    momentum: float = 0.9
    optimizer: str = "sgd"
    learning_rate: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        require(
            self,
            steps=(self.steps >= 1, "at least 1"),
            per_class=(self.per_class is None or self.per_class >= 1, "at least 1 or None"),
            inner_learning_rate=positive(self.inner_learning_rate),
            learning_rate=positive(self.learning_rate),
            momentum=(0 <= self.momentum < 1, "at least 0 and under 1"),
            optimizer=(self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}"),
        )


@dataclasses.dataclass(frozen=True)
class BPTT(LongUnroll):
    """Hyper-parameters of backpropagation through a long inner training with momentum: those of `LongUnroll`, and

    Attributes:
      init: of the images, see `synthetic.pixels`.
    """

    init: str = "noise"


@method(BPTT)
def bptt(config: BPTT) -> Recipe:
    """Backpropagation through a long inner training with momentum, to free pixels."""
    return _through_time(config, pixels(config.ipc, init=config.init))


@dataclasses.dataclass(frozen=True)
class LinBa(LongUnroll):
    """Hyper-parameters of linear bases: those of `LongUnroll`, where
    `ipc` is the budget: bases and coefficients cost no more than so many plain images per class would; and

    Attributes:
      bases: how many are shared by all classes, at `1 / scale` of the image size.
      coefficient_decay: L2 penalty on the coefficients.
    """

    per_class: int | None = 32
    bases: int = 16
    scale: int = 2
    coefficient_decay: float = 1e-4

    def __post_init__(self):
        super().__post_init__()
        require(self, coefficient_decay=(0 <= self.coefficient_decay < math.inf, "at least 0 and finite"))


@method(LinBa)
def linba(config: LinBa) -> Recipe:
    """Images as learned combinations of shared low-resolution bases, by long backpropagation through time."""
    bases = linear_bases(config.bases, ipc=config.ipc, scale=config.scale)

    def penalty(params):
        return config.coefficient_decay * jnp.sum(jnp.square(params["coefficients"]))

    return _through_time(config, bases, penalty)


def _through_time(config: LongUnroll, synthetic: SyntheticSet, penalty: Callable | None = None) -> Recipe:
    optimizer = OPTIMIZERS[config.optimizer]
    return bilevel(
        config,
        synthetic,
        per_leaf({leaf: optimizer(config.learning_rate) for leaf in synthetic.learned}),
        Inner(
            inner.sgd(config.momentum),
            class_batches(config.per_class, config.steps),
            learning_rate=config.inner_learning_rate,
        ),
        penalty=penalty,
    )
