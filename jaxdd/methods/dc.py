"""DC and DSA: gradient matching (Zhao, Mopuri & Bilen 2021; Zhao & Bilen 2021, https://arxiv.org/abs/2006.05929)."""

from __future__ import annotations

import dataclasses
import functools
import math

import optax

from jaxdd import losses
from jaxdd.data import augmentation
from jaxdd.methods._registry import method, positive, require
from jaxdd.methods.matching import Match, Matching, match_gradients, matching, one_network
from jaxdd.synthetic import pixels
from jaxdd.types import Array, Key, Network, Networks, Recipe

# Matching steps of a network and, after each but the last, its epochs on the set, from this ipc on.
_LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}


@dataclasses.dataclass(frozen=True)
class DC(Matching):
    """Hyper-parameters of DC, the paper's: those of `Matching`, and

    Attributes:
      matching_steps: updates that see one network, before a new one begins; None for the published number.
      epochs: of its training on the set after each of them; None for the published number.
      network_learning_rate: of that training, by plain gradient descent.
      network_batch: images of a step at most; an epoch has equal batches.
    """

    init: str = "noise"
    matching_steps: int | None = None
    epochs: int | None = None
    network_learning_rate: float = 0.01
    network_batch: int = 256

    def __post_init__(self):
        super().__post_init__()
        require(
            self,
            matching_steps=(self.matching_steps is None or self.matching_steps >= 1, "at least 1 or None"),
            epochs=(self.epochs is None or self.epochs >= 1, "at least 1 or None"),
            network_learning_rate=positive(self.network_learning_rate),
            network_batch=(self.network_batch >= 1, "at least 1"),
        )

    @property
    def loops(self) -> tuple[int, int]:
        """`(matching_steps, epochs)`, the published ones where there is None; between these those of the next smaller
        `ipc`."""
        matching_steps, epochs = _LOOPS[max(ipc for ipc in _LOOPS if ipc <= self.ipc)]
        return self.matching_steps or matching_steps, self.epochs or epochs


@dataclasses.dataclass(frozen=True)
class DSA(DC):
    """Hyper-parameters of DSA, the paper's: those of `DC`."""

    init: str = "real"
    augmentation: str = "dsa"


@method(DC)
def dc(config: DC) -> Recipe:
    """Dataset Condensation: match the gradients of a network that is trained on the set in between.

    Minimises `sum_c D(grad CE(real of class c), grad CE(synthetic of class c))`, D the cosine distance between the rows
    of each layer (`losses.gradient_matching`).
    """
    return _gradient_matching(config)


@method(DSA)
def dsa(config: DSA) -> Recipe:
    """Differentiable Siamese Augmentation: DC with both sides augmented alike, from real images."""
    return _gradient_matching(config)


def _gradient_matching(config: DC) -> Recipe:
    return matching(
        config,
        pixels(config.ipc, init=config.init),
        objective(config),
        functools.partial(_trained_on_set, config),
    )


def objective(config: DC) -> Match:
    """What DC and DSA minimise."""
    return match_gradients(config, losses.gradient_matching)


def _trained_on_set(config: DC, network: Network, num_classes: int) -> Networks:
    """One network that a few updates see, trained on the set in between."""
    matching_steps, epochs = config.loops
    augment = augmentation.named(config.augmentation)
    count = config.ipc * num_classes
    batches = math.ceil(count / config.network_batch)
    batch = count // batches

    def prepare(key: Key, images: Array, labels: Array) -> tuple[Array, Array]:
        return augment.apply(images, augment.draw(key, batch)), labels

    return one_network(
        network,
        optax.sgd(config.network_learning_rate),
        matching_steps=matching_steps,
        steps=epochs * batches,
        batch_size=batch,
        examples=lambda shown: shown.synthetic,
        prepare=prepare,
    )
