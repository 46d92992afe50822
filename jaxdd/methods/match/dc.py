"""DC (Zhao, Mopuri & Bilen 2021, "Dataset Condensation with Gradient Matching", https://arxiv.org/abs/2006.05929)."""

from __future__ import annotations

import dataclasses
import functools
import math

import optax

from jaxdd import losses
from jaxdd.data import augmentation
from jaxdd.methods._hyper import at_least, field, positive
from jaxdd.methods._registry import method
from jaxdd.methods.match._matching import Match, Matching, match_gradients, matching, one_network
from jaxdd.synthetic import Continued, pixels
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

    init: str | Continued = "noise"
    matching_steps: int | None = field(None, at_least(1))
    epochs: int | None = field(None, at_least(1))
    network_learning_rate: float = field(0.01, positive)
    network_batch: int = field(256, at_least(1))

    @property
    def loops(self) -> tuple[int, int]:
        """`(matching_steps, epochs)`, the published ones where there is None; between these those of the next smaller
        `ipc`."""
        matching_steps, epochs = _LOOPS[max(ipc for ipc in _LOOPS if ipc <= self.ipc)]
        return self.matching_steps or matching_steps, self.epochs or epochs


@method(DC)
def dc(config: DC) -> Recipe:
    """Dataset Condensation: match the gradients of a network that is trained on the set in between.

    Minimises `sum_c D(grad CE(real of class c), grad CE(synthetic of class c))`, D the cosine distance between the rows
    of each layer (`losses.gradient_matching`).
    """
    return gradient_matching(config)


def gradient_matching(config: DC) -> Recipe:
    """`dc`, for DSA too."""
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
