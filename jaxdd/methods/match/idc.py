"""IDC (Kim et al. 2022, "Dataset Condensation via Efficient Synthetic-Data Parameterization", arXiv:2205.14959)."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import optax

from jaxdd import losses
from jaxdd.data import augmentation, cutmix, uniform_sampler
from jaxdd.methods._hyper import at_least, between, field, one_of, positive
from jaxdd.methods._registry import method
from jaxdd.methods.match._matching import AUGMENTATION, Match, Matching, match_gradients, matching, one_network
from jaxdd.synthetic import clipped, multi_formation, pixels
from jaxdd.types import Array, Key, Network, Networks, Recipe


@dataclasses.dataclass(frozen=True)
class IDC(Matching):
    """Hyper-parameters of IDC, the paper's for CIFAR-10 with 10 images per class: those of `Matching`, where
    `learning_rate` is proportional to `ipc` and in units of the transformed images (the paper's is of pixels in [0, 1]:
    divide it by the variance of the standardisation, here 5e-3 by that of .2023, .1994, .2010), and

    Attributes:
      factor: images along each side of a stored one, see `synthetic.multi_formation`; 1 is the paper's IDC-I.
      distance: between gradients, "mse" (CIFAR, SVHN) or "l1" (MNIST, Fashion-MNIST), see `losses.gradient_matching`.
      matching_steps: updates that see one network, each followed by an epoch of its training on real examples.
      network_examples, network_batch: real examples of such an epoch, and of each of its steps. All steps are whole, as
        many as it takes to see so many examples: 8 of 64 for 500.
      network_learning_rate, network_momentum, network_weight_decay: of that training.
      network_augmentation: of the examples of these steps, drawn for each of them, see `data.augmentation.named`.
      cutmix: share of these steps that see cut and mixed images.
    """

    target_per_class: int = 64
    ipc: int = 10
    augmentation: str = "idc-match"
    learning_rate: float = 0.124
    factor: int = field(2, at_least(1))
    distance: str = field("mse", one_of(("mse", "l1")))
    matching_steps: int = field(100, at_least(1))
    network_examples: int = field(2000, at_least(1))
    network_batch: int = field(64, at_least(1))
    network_learning_rate: float = field(0.01, positive)
    network_momentum: float = field(0.9, at_least(0, under=1))
    network_weight_decay: float = field(5e-4, at_least(0))
    network_augmentation: str = field("idc-train", AUGMENTATION)
    cutmix: float = field(0.5, between(0, 1))

    @property
    def network_steps(self) -> int:
        """Steps of an epoch of the network's training."""
        return math.ceil(self.network_examples / self.network_batch)


@method(IDC, revisions={2: "an epoch of its network rounds its steps up, and mosaics are resized by nearest neighbour"})
def idc(config: IDC) -> Recipe:
    """IDC: several images in each stored one, by gradient matching on networks that are trained on real data.

    The gradients are those of the convolutions' weights. All classes take their step together; the authors' code takes
    them one after the other on the same network, with a momentum that also moves the classes between.
    """
    stored = pixels(config.ipc, init=config.init, factor=config.factor)
    synthetic = clipped(stored if config.factor == 1 else multi_formation(stored, config.factor))
    return matching(
        config,
        synthetic,
        objective(config),
        functools.partial(_trained_on_real, config),
        sample=uniform_sampler(config.network_steps * config.network_batch),
    )


def objective(config: IDC) -> Match:
    """What IDC minimises."""
    distance = functools.partial(losses.gradient_matching, distance=config.distance, select=losses.convolutions)
    return match_gradients(config, distance)


def _trained_on_real(config: IDC, network: Network, num_classes: int) -> Networks:
    """One network that a number of updates see, trained on real examples in between."""
    augment = augmentation.named(config.network_augmentation)

    def prepare(key: Key, images: Array, labels: Array) -> tuple[Array, Array]:
        key_augment, key_mix = jax.random.split(key)
        images = augment.apply(images, augment.draw(key_augment, config.network_batch))
        return cutmix(key_mix, images, jax.nn.one_hot(labels, num_classes), probability=config.cutmix)

    return one_network(
        network,
        optax.chain(
            optax.add_decayed_weights(config.network_weight_decay),
            optax.sgd(config.network_learning_rate, momentum=config.network_momentum),
        ),
        matching_steps=config.matching_steps,
        steps=config.network_steps,
        batch_size=config.network_batch,
        examples=lambda shown: shown.further,
        prepare=prepare,
    )
