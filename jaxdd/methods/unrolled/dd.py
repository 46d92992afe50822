"""Dataset Distillation (Wang, Zhu, Torralba & Efros 2018, https://arxiv.org/abs/1811.10959)."""

from __future__ import annotations

import dataclasses
from typing import Any

import optax

from jaxdd import inner
from jaxdd.methods._hyper import at_least, field, more_than, one_of, positive, require
from jaxdd.methods._registry import method
from jaxdd.methods.unrolled._bilevel import LEAN, Bilevel, Inner, bilevel
from jaxdd.synthetic import Continued, SyntheticSet, clip_by_running_norm, learning_rates, per_leaf, pixels
from jaxdd.types import Indices, Network, PyTree, Recipe, leaves_by_path

INITIALISATIONS = ("random", "fixed")


@dataclasses.dataclass(frozen=True)
class DD(Bilevel):
    """Hyper-parameters of Dataset Distillation, beside those of `Bilevel`; the paper's for MNIST.

    `ipc / steps` images of each class belong to each step, by its own number where each has one. `networks` is for
    random initialisations.

    Attributes:
      initialisation: "random": for any network, new ones at every update; "fixed": for one, which travels with the
        result.
      steps: gradient descent steps in an epoch, each on images of its own.
      epochs: passes over these steps. Every step of every epoch learns its own learning rate.
      inner_learning_rate: where those start.
      init: of the images, see `synthetic.pixels`.
      learning_rate: Adam's (with b1 = 0.5), for images and rates.
      decay_every: updates after which it is halved, again and again; 40 epochs of MNIST in the paper.
      clip: gradients longer than so many times their running norm are cut, see `synthetic.clip_by_running_norm`; None
        for the paper, which does not. Where learned rates grow past 1 a step may jump; with 2 the last iterate is
        steadier (docs/results/meta.md).
    """

    ipc: int | tuple[int, ...] = 10
    model: str | Network = "lenet"
    networks: int = 4
    initialisation: str = field("random", one_of(INITIALISATIONS))
    steps: int = field(10, at_least(1))
    epochs: int = field(3, at_least(1))
    inner_learning_rate: float = field(0.02, positive)
    init: str | Continued = "noise"
    learning_rate: float = field(0.01, positive)
    decay_every: int = field(2360, at_least(1))
    clip: float | None = field(None, more_than(1))

    def check(self):
        super().check()
        counts = self.ipc if isinstance(self.ipc, tuple) else (self.ipc,)
        require(self, steps=(all(n % self.steps == 0 for n in counts), f"a divisor of ipc, {self.ipc}"))


@method(DD)
def dd(config: DD) -> Recipe:
    """Dataset Distillation: images and learning rates for a few steps of gradient descent."""
    return gradient_descent_set(config, pixels(config.ipc, init=config.init))


def gradient_descent_set(config: DD, synthetic: SyntheticSet) -> Recipe:
    """`dd` for any parameterisation that renders `config.ipc` images for its classes."""
    synthetic = learning_rates(synthetic, config.inner_learning_rate, (config.epochs * config.steps,))
    schedule = optax.exponential_decay(config.learning_rate, config.decay_every, 0.5, staircase=True)
    optimizer = optax.adam(schedule, b1=0.5)
    if config.clip is not None:
        optimizer = optax.chain(clip_by_running_norm(factor=config.clip), optimizer)
    fixed = config.initialisation == "fixed"

    def plan(num_images: int) -> Indices:
        if isinstance(config.ipc, tuple):
            seen = tuple(count // config.steps for count in config.ipc)
            return inner.ordered_plan(len(config.ipc), config.ipc, seen, config.epochs)
        return inner.ordered_plan(num_images // config.ipc, config.ipc, config.ipc // config.steps, config.epochs)

    def describe(num_images: int, kept: PyTree) -> dict[str, Any]:
        if not fixed:
            return {"schedule": plan(num_images)}
        theta0, _ = kept
        return {"schedule": plan(num_images), "theta0": leaves_by_path(theta0)}

    return bilevel(
        dataclasses.replace(config, networks=1) if fixed else config,
        synthetic,
        per_leaf(dict.fromkeys(synthetic.learned, optimizer)),
        Inner(inner.sgd(), lambda key, num_images, num_classes: plan(num_images)),
        networks=inner.fixed if fixed else inner.fresh,
        describe=describe,
        lean=dataclasses.replace(LEAN, block=None),  # a LeNet's maps are small
    )
