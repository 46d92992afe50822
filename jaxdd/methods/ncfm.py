"""NCFM (Wang et al., CVPR 2025, "Dataset Distillation with Neural Characteristic Function: A Minmax Perspective")."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxdd import inner, losses, models
from jaxdd.data import augmentation
from jaxdd.methods._registry import method, positive, require
from jaxdd.methods.matching import Classes, Match, Matching, MatchingState, match_layers, matching
from jaxdd.synthetic import clipped, multi_formation, pixels
from jaxdd.types import Array, Key, Method, Network, Networks, NetworkState, PyTree, RealData, Recipe, Spec


@dataclasses.dataclass(frozen=True)
class NCFM(Matching):
    """Hyper-parameters of NCFM, the loss as in the authors' released settings: those of `Matching`, where
    `learning_rate` is AdamW's in units of the transformed images (theirs is 0.001 of pixels), and

    Attributes:
      factor: images along each side of a stored one, see `synthetic.multi_formation`.
      frequencies: at which the characteristic functions are compared, standard normal; new ones in every update.
      matching_weight: of their distance.
      amplitude_weight: of its part in the amplitudes; the rest is the phases'.
      calibration_weight: of the cross-entropy of the synthetic set on trained networks.
      networks: trained on real examples before the first update, plainly: without the authors' augmentation, weight
        decay and schedule.
      network_steps, network_batch, network_learning_rate: of that training, by gradient descent with momentum 0.9.
    """

    target_per_class: int = 1024
    target_block: int | None = 128
    augmentation: str = "idc-match"
    learning_rate: float = 0.004
    factor: int = 2
    frequencies: int = 4096
    matching_weight: float = 300.0
    amplitude_weight: float = 0.5
    calibration_weight: float = 1.0
    networks: int = 20
    network_steps: int = 11_700
    network_batch: int = 256
    network_learning_rate: float = 0.01

    def __post_init__(self):
        super().__post_init__()
        require(
            self,
            factor=(self.factor >= 1, "at least 1"),
            frequencies=(self.frequencies >= 1, "at least 1"),
            matching_weight=positive(self.matching_weight),
            amplitude_weight=(0 <= self.amplitude_weight <= 1, "between 0 and 1"),
            calibration_weight=(self.calibration_weight >= 0, "at least 0"),
            networks=(self.networks >= 1, "at least 1"),
            network_steps=(self.network_steps >= 1, "at least 1"),
            network_batch=(self.network_batch >= 1, "at least 1"),
            network_learning_rate=positive(self.network_learning_rate),
        )


@method(NCFM, revisions={2: "mosaics are resized by nearest neighbour"})
def ncfm(config: NCFM) -> Recipe:
    """NCFM: match the characteristic functions of features, on networks between their initial and trained weights.

    Minimises `sum_c (w CF(f(real of class c), f(synthetic of class c)) + v CE(synthetic of class c; trained network))`,
    with features f of norm one and `losses.characteristic_function_matching`. As in the released settings the
    frequencies are normal; the paper's adversarial sampler is `losses.frequency_sampler`. One step for all of it, where
    the authors' code takes two for every class; the rate does not fall on plateaus.
    """
    stored = pixels(config.ipc, init=config.init)
    synthetic = clipped(stored if config.factor == 1 else multi_formation(stored, config.factor))
    optimizer = optax.adamw(config.learning_rate, weight_decay=5e-4)
    recipe = matching(config, synthetic, objective(config), lambda network, _: _among(config), optimizer=optimizer)

    def bind(spec: Spec) -> Method:
        method, network = recipe.bind(spec), models.build(config.model, spec.image_shape, spec.num_classes)

        def init(key: Key, data: RealData) -> MatchingState:
            keys = jax.random.split(jax.random.split(key)[1], config.networks)
            networks = jax.lax.map(lambda key: _trained(config, network, key, data), keys)
            return method.init(key, data)._replace(networks=networks)

        return method._replace(init=init)

    return Recipe(bind)


def objective(config: NCFM, frequencies: Callable[[Key, tuple[int, int]], Array] = jax.random.normal) -> Match:
    """What NCFM minimises, at networks `(between, trained)`.

    Args:
      frequencies: `frequencies(key, (count, dim))`, at which the characteristic functions of an update are compared.
    """
    compare = functools.partial(
        losses.characteristic_function_matching,
        amplitude_weight=config.amplitude_weight,
        phase_weight=1 - config.amplitude_weight,
    )

    def see(layers: tuple[Array, ...]) -> Array:
        return losses.l2_normalize(layers[-2])

    def distance(real: Array, synthetic: Array, key: Key) -> Array:
        at = frequencies(key, (config.frequencies, real.shape[-1]))
        return config.matching_weight * jax.vmap(compare, (0, 0, None))(real, synthetic, at).sum()

    by_layers, augment = match_layers(config, see, distance), augmentation.named(config.augmentation)

    def match(
        network: Network,
        starts: tuple[NetworkState, NetworkState],
        classes: Classes,
        key: Key,
        axis_name: str | None = None,
    ):
        between, (theta, stats) = starts
        key_match, key_draw = jax.random.split(key)
        keys = jax.random.split(key_draw, len(classes.images))

        def calibration(images: Array) -> Array:
            augmented = jax.vmap(lambda key, images: augment.apply(images, augment.draw(key, 1)))(keys, images)
            augmented = augmented.reshape(-1, *images.shape[2:])
            logits = inner.map_blocks(lambda rows: network.apply(theta, rows, stats)[0], augmented, None)
            labels = jnp.repeat(jnp.arange(len(images)), images.shape[1])
            return config.calibration_weight * losses.cross_entropy(logits, labels).sum() / images.shape[1]

        parts = (
            by_layers(network, between, classes, key_match, axis_name),
            jax.value_and_grad(calibration)(classes.images),
        )
        return jax.tree.map(jnp.add, *parts)

    return match


def _trained(config: NCFM, network: Network, key: Key, data: RealData) -> tuple[NetworkState, NetworkState]:
    """A network as it begins, and trained on real examples."""
    optimizer = optax.sgd(config.network_learning_rate, momentum=0.9)
    key_init, key_train = jax.random.split(key)
    first = network.init(key_init)

    def step(t: Array, carry: PyTree) -> PyTree:
        theta, stats, opt_state = carry
        rows = jax.random.randint(jax.random.fold_in(key_train, t), (config.network_batch,), 0, len(data.images))

        def loss(theta: PyTree) -> tuple[Array, PyTree]:
            logits, after = network.apply(theta, data.images[rows], stats, train=True)
            return losses.cross_entropy(logits, data.labels.values[rows]).mean(), after

        grads, stats = jax.grad(loss, has_aux=True)(theta)
        updates, opt_state = optimizer.update(grads, opt_state, theta)
        return optax.apply_updates(theta, updates), stats, opt_state

    theta, stats, _ = jax.lax.fori_loop(0, config.network_steps, step, (*first, optimizer.init(first[0])))
    return NetworkState(*first), NetworkState(theta, stats)


def _among(config: NCFM) -> Networks:
    """In each update one of the networks, on its way from its initialisation to where it is trained."""

    def start(kept: tuple[NetworkState, NetworkState], key: Key) -> tuple[NetworkState, NetworkState]:
        key_choose, key_place = jax.random.split(key)
        chosen = jax.random.randint(key_choose, (), 0, config.networks)
        first, trained = jax.tree.map(lambda leaf: leaf[chosen], kept)
        return inner.between(first, trained, jax.random.uniform(key_place)), trained

    return Networks(init=lambda key: (), choose=inner.tickets, start=start)
