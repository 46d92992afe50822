"""NCFM (Wang et al., CVPR 2025, "Dataset Distillation with Neural Characteristic Function: A Minmax Perspective")."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import inner, losses, models, training
from jaxdd.data import augmentation, class_sampler
from jaxdd.methods._hyper import at_least, between, field, positive
from jaxdd.methods._registry import method
from jaxdd.methods.match._matching import LEAN, Matching, most, see_real
from jaxdd.synthetic import Params, clipped, multi_formation, per_leaf, pixels, render
from jaxdd.types import (
    EXAMPLES,
    Array,
    Batch,
    Indices,
    Key,
    Labels,
    Method,
    Metrics,
    Network,
    NetworkState,
    RealData,
    Recipe,
    Record,
    Spec,
    Stage,
)


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
      networks: trained on real examples in a stage before, without the authors' augmentation and CutMix.
      network_steps, network_batch, network_learning_rate: of that training, by gradient descent with momentum 0.9 and
        weight decay 5e-4; the rate is multiplied by 0.2 after two thirds and five sixths of it.
    """

    target_per_class: int = 1024
    augmentation: str = "idc-match"
    learning_rate: float = 0.004
    factor: int = field(2, at_least(1))
    frequencies: int = field(4096, at_least(1))
    matching_weight: float = field(300.0, positive)
    amplitude_weight: float = field(0.5, between(0, 1))
    calibration_weight: float = field(1.0, at_least(0))
    networks: int = field(20, at_least(1))
    network_steps: int = field(23_460, at_least(1))
    network_batch: int = field(128, at_least(1))
    network_learning_rate: float = field(0.01, positive)


NETWORKS = "ncfm_networks"


class NCFMState(NamedTuple):
    params: Params
    """Of the synthetic set."""
    opt_state: optax.OptState


@method(
    NCFM,
    revisions={
        2: "mosaics are resized by nearest neighbour",
        3: "two steps for every class, as the authors take them; networks are trained in a stage, with their decay",
    },
)
def ncfm(config: NCFM) -> Recipe:
    """NCFM: match the characteristic functions of features, on networks between their initial and trained weights.

    Minimises `sum_c (w CF(f(real of class c), f(synthetic of class c)) + v CE(synthetic of class c; trained network))`,
    with features f of norm one and `losses.characteristic_function_matching`. As in the released settings the
    frequencies are normal; the paper's adversarial sampler is `losses.frequency_sampler`. As in the authors' code an
    update is two steps of one AdamW for every class, first all that match, then all that calibrate: each has the
    gradient of its class alone, while the moments, and a decay towards black, move all images. Unlike there, all
    matching steps of an update compare at the same frequencies, and the rate does not fall on plateaus.
    """
    stored = pixels(config.ipc, init=config.init, factor=config.factor)
    synthetic = clipped(stored if config.factor == 1 else multi_formation(stored, config.factor))
    optimizer = per_leaf({"images": optax.adam(config.learning_rate)})
    match, calibrate = objectives(config)
    of_classes, augment = class_sampler(config.target_per_class), augmentation.named(config.augmentation)

    def sample(key: Key, labels: Labels) -> dict[str, Indices]:
        key_classes, key_networks = jax.random.split(key)
        chosen = jax.random.randint(key_networks, (1, 1), 0, config.networks)
        return {EXAMPLES: of_classes(key_classes, labels), NETWORKS: 2 * chosen + jnp.arange(2)[None]}

    def bind(spec: Spec) -> Method:
        network, count = models.build(config.model, spec.image_shape, spec.num_classes), spec.num_classes

        def init(key: Key, data: RealData) -> NCFMState:
            params = synthetic.init(key, data)
            return NCFMState(params, optimizer.init(params))

        def step(state: NCFMState, loss: Callable[[Array], Array], label: Array) -> tuple[NCFMState, Array]:
            """One step by the loss of the images of a class."""

            def of_class(images: Array) -> Array:
                return loss(synthetic.render({**state.params, "images": images}).images)

            of_all = state.params["images"]
            own = jax.lax.dynamic_slice_in_dim(of_all, label * config.ipc, config.ipc)
            value, slope = jax.value_and_grad(of_class)(own)
            grads = jax.lax.dynamic_update_slice_in_dim(jnp.zeros_like(of_all), slope, label * config.ipc, 0)
            frozen = {name: jnp.zeros_like(leaf) for name, leaf in state.params.items()}
            updates: Any
            updates, opt_state = optimizer.update({**frozen, "images": grads}, state.opt_state, state.params)
            black = state.params["lowest"][None, None, None]
            images = of_all - config.learning_rate * _DECAY * (of_all - black) + updates["images"]
            return NCFMState({**state.params, "images": images}, opt_state), value

        def update(
            key: Key, state: NCFMState, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[NCFMState, Metrics]:
            key_draw, key_calibrate, key_place, key_frequencies = jax.random.split(key, 4)
            # The same network on every device of a named axis.
            pair = jax.tree.map(lambda leaf: leaf[0], inner.all_gather(batch.tables[NETWORKS], axis_name))
            first, trained = (jax.tree.map(lambda leaf, k=k: leaf[k], pair) for k in range(2))
            start = inner.between(first, trained, jax.random.uniform(key_place))
            of_match, of_calibration = (
                jax.vmap(lambda key: augment.draw(key, 1))(jax.random.split(key, count))
                for key in (key_draw, key_calibrate)
            )
            real = batch.images.reshape(count, -1, *batch.images.shape[1:])
            real = see_real(config, match.see, network, start, real, of_match, axis_name, spec.execution)
            at = match.frequencies(key_frequencies, real.shape[-1])

            def matched(state: NCFMState, of_class: tuple) -> tuple[NCFMState, Array]:
                label, theirs, drawn = of_class
                return step(state, lambda ours: match(network, start, theirs, augment.apply(ours, drawn), at), label)

            def calibrated(state: NCFMState, of_class: tuple) -> tuple[NCFMState, Array]:
                label, drawn = of_class
                return step(state, lambda ours: calibrate(network, trained, augment.apply(ours, drawn), label), label)

            labels = jnp.arange(count)
            state, losses_of_match = jax.lax.scan(matched, state, (labels, real, of_match))
            state, losses_of_calibration = jax.lax.scan(calibrated, state, (labels, of_calibration))
            metrics = {"match": losses_of_match.sum(), "calibration": losses_of_calibration.sum()}
            state = state._replace(params=synthetic.project(state.params))
            return state, {"loss": metrics["match"] + metrics["calibration"], **metrics}

        return Method(init, sample, update, lambda state: render(synthetic, state.params))

    return Recipe(
        bind,
        stages=lambda spec: (networks(config, spec),),
        lean=dataclasses.replace(LEAN, block=128),
        most=functools.partial(most, config),
    )


_DECAY = 5e-4  # AdamW's; the authors' images are pixels in [0, 1], so that it pulls towards black


def networks(config: NCFM, spec: Spec) -> Stage:
    """The stage that trains them: two rows for each, of its initialisation and of its end."""
    steps = config.network_steps
    schedule = optax.piecewise_constant_schedule(
        config.network_learning_rate, {2 * steps // 3: 0.2, 5 * steps // 6: 0.2}
    )
    optimizer = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(schedule, momentum=0.9))
    facts = {name: getattr(config, name) for name in ("network_batch", "network_learning_rate")}
    return Stage(
        NETWORKS,
        training.supervised(config.model, optimizer, batch_size=config.network_batch),
        steps=steps,
        parts=config.networks,
        config={"model": models.identity(config.model, spec.image_shape), **facts},
        record=Record(steps, lambda state: state.network),
    )


class MatchFeatures(NamedTuple):
    """The matching part of what NCFM minimises, for the images of one class."""

    see: Callable[[tuple[Array, ...]], Array]
    """What is compared, of a network's layers."""
    frequencies: Callable[[Key, int], Array]
    """`frequencies(key, dim)`, at which the characteristic functions are compared."""
    compare: Callable[[Array, Array, Array], Array]
    """`compare(real, synthetic, frequencies)`."""

    def __call__(self, network: Network, start: NetworkState, real: Array, images: Array, at: Array) -> Array:
        """The loss of augmented images, beside what is seen of real ones."""
        seen = self.see(network.layers(start.theta, images, start.stats, mode="batch")[0])
        return self.compare(real, seen, at)


def objectives(
    config: NCFM, frequencies: Callable[[Key, tuple[int, int]], Array] = jax.random.normal
) -> tuple[MatchFeatures, Callable[..., Array]]:
    """The two losses of NCFM, each of the images of one class.

    Args:
      frequencies: `frequencies(key, (count, dim))`, at which the characteristic functions of an update are compared.
    """
    distance = functools.partial(
        losses.characteristic_function_matching,
        amplitude_weight=config.amplitude_weight,
        phase_weight=1 - config.amplitude_weight,
    )

    def calibrate(network: Network, trained: NetworkState, images: Array, label: Array) -> Array:
        logits, _ = network.apply(trained.theta, images, trained.stats)
        return config.calibration_weight * losses.cross_entropy(logits, jnp.full(len(images), label)).mean()

    match = MatchFeatures(
        lambda layers: losses.l2_normalize(layers[-2]),
        lambda key, dim: frequencies(key, (config.frequencies, dim)),
        lambda real, synthetic, at: config.matching_weight * distance(real, synthetic, at),
    )
    return match, calibrate
