"""KRR-ST (Lee et al., ICLR 2024, "Self-Supervised Dataset Distillation for Transfer Learning", arXiv:2310.06511)."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import inner, kernels, losses, models, training
from jaxdd.data import uniform_sampler
from jaxdd.data.augmentation import named
from jaxdd.methods._hyper import HyperParameters, accepted_by, at_least, field, one_of, positive
from jaxdd.methods._registry import method
from jaxdd.synthetic import Params, descend, pairs, per_leaf, render
from jaxdd.training.selfsupervised import ENCODER, TARGETS
from jaxdd.types import (
    EXAMPLES,
    Array,
    Batch,
    Execution,
    Indices,
    Key,
    Labels,
    Method,
    Metrics,
    Network,
    NetworkState,
    PyTree,
    RealData,
    Recipe,
    Record,
    Spec,
    Stage,
)


@dataclasses.dataclass(frozen=True)
class KRRST(HyperParameters):
    """Hyper-parameters of KRR-ST; by default the authors' for CIFAR-100, with an encoder that is trained here.

    Attributes:
      images: pairs of an image and a target vector. They have no labels: there are no images per class.
      model: network whose features are regressed on and whose outputs are the targets, see `models.build`.
      pool, max_age: networks in the pool, and updates after which one is replaced, see `inner.pool`.
      pool_learning_rate: of gradient descent with momentum 0.9 and weight decay 1e-3, for the networks.
      target_batch: real examples an update.
      augmentation: of the real images of an update, see `data.augmentation.named`.
      targets: of real images. "stored": the encoder's features of them as they are, computed once; "augmented": of what
        the augmentation made of them, at every update.
      learning_rate: Adam's, for images and targets.
      decay_steps: updates over which it falls to a thousandth, linearly: the length of the run.
      ridge: relative to the trace of the support's kernel (not to its mean diagonal).
      float64: solve in float64.
      encoder: network of the encoder, see `models.build`; its features are the targets.
      encoder_steps, encoder_batch, encoder_learning_rate: of its training by `training.barlow_twins`, by Adam, whose
        rate falls by a cosine to zero.
      encoder_augmentation, projector, off_diagonal: see `training.barlow_twins`.
    """

    images: int = field(1000, at_least(1))
    model: str | Network = "wide_convnet"
    pool: int = field(10, at_least(1))
    max_age: int = field(1000, at_least(1))
    pool_learning_rate: float = field(0.1, positive)
    target_batch: int = field(1024, at_least(1))
    augmentation: str = field("crop-flip", accepted_by(named))
    targets: str = field("stored", one_of(("stored", "augmented")))
    learning_rate: float = field(1e-4, positive)
    decay_steps: int = field(160_000, at_least(1))
    ridge: float = field(1e-6, at_least(0))
    float64: bool = False
    encoder: str | Network = "resnet18"
    encoder_steps: int = field(40_000, at_least(1))
    encoder_batch: int = field(256, at_least(2))
    encoder_learning_rate: float = field(1e-3, positive)
    encoder_augmentation: str = field("views", accepted_by(named))
    projector: int = field(512, at_least(2))
    off_diagonal: float = field(5e-3, positive)


class KRRSTState(NamedTuple):
    params: Params
    """`images` (m, h, w, c), `labels` (m, d), the target vectors."""
    opt_state: optax.OptState
    pool: inner.Slots


@method(KRRST)
def krr_st(config: KRRST) -> Recipe:
    """KRR-ST: images and target features on which an encoder is trained by regression, without labels.

    Minimises `mean (f_r f_sᵀ (f_s f_sᵀ + λI)^-1 y_s - y_r)^2` (eq. 5), the mean over examples and entries, where f are
    features, with a one appended, of a network of a pool in evaluation mode, λ is 1e-6 times the trace of the kernel
    (a constant to the gradient), and the targets y_r of augmented real images are the features that an encoder, trained
    by Barlow Twins, has of them. Then that network takes one step on the mean squared error of its outputs on the set.

    Targets of augmented real images are by default those of the images as they are; in the authors' code (db-Lee/
    selfsup_dd) the encoder sees the augmented ones, which is `targets="augmented"`. Where ours differs from that code:
    the pool's networks start untrained, with ages that are spread, where theirs are first trained for as many steps;
    distilled images start in the space that networks see, theirs as pixels; `wide_convnet` normalises before
    convolutions, theirs after. Their AdamW has no decay either.
    """
    synthetic = pairs(config.images, targets=TARGETS)
    schedule = optax.linear_schedule(config.learning_rate, 1e-3 * config.learning_rate, config.decay_steps)
    optimizer = per_leaf({leaf: optax.adam(schedule) for leaf in synthetic.learned})
    of_pool = optax.chain(optax.add_decayed_weights(1e-3), optax.sgd(config.pool_learning_rate, momentum=0.9))
    augment, draw = named(config.augmentation), uniform_sampler(config.target_batch)

    def sample(key: Key, labels: Labels) -> dict[str, Indices]:
        rows = draw(key, labels)
        return {EXAMPLES: rows, TARGETS: rows}

    def bind(spec: Spec) -> Method:
        outputs = spec.tables[TARGETS].shape[-1]
        network = models.build(config.model, spec.image_shape, outputs)
        encoder = models.build(config.encoder, spec.image_shape, config.projector)
        pool = inner.pool(network, of_pool, _regression(network), size=config.pool, max_age=config.max_age)

        def init(key: Key, data: RealData) -> KRRSTState:
            key_params, key_pool = jax.random.split(key)
            params = synthetic.init(key_params, data)
            return KRRSTState(params, optimizer.init(params), pool.init(key_pool))

        def real(key: Key, batch: Batch) -> tuple[Array, Array]:
            """Augmented images and their targets."""
            images = augment.apply(batch.images, augment.draw(key, len(batch.images)))
            if config.targets == "stored":
                return images, batch.tables[TARGETS]
            theta, stats = batch.assets[ENCODER]
            return images, inner.map_blocks(
                lambda images: encoder.features(theta, images, stats)[0], images, spec.execution.block
            )

        def objective(params: Params, start: NetworkState, images: Array, targets: Array) -> Array:
            def features(images: Array) -> Array:
                found, _ = network.features(start.theta, images, start.stats)
                return jnp.concatenate([found, jnp.ones((len(found), 1), found.dtype)], 1)

            with models.matmul_precision(spec.execution.target_precision):
                of_real = jax.lax.stop_gradient(inner.map_blocks(features, images, spec.execution.block))
            support = features(params["images"])
            kernel = kernels.feature_kernel(support)
            constant = jax.lax.stop_gradient(config.ridge * jnp.trace(kernel))
            predictions = kernels.kernel_ridge_predict(
                kernels.feature_kernel(of_real, support),
                kernel + constant * jnp.eye(len(kernel)),
                params["labels"],
                ridge=0.0,
                float64=config.float64,
            )
            return losses.mean_squared_error(predictions, targets).mean()

        def update(
            key: Key, state: KRRSTState, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[KRRSTState, Metrics]:
            key_choose, key_advance, key_draw = jax.random.split(key, 3)
            chosen = pool.choose(key_choose, 1)
            images, targets = real(key_draw, batch)

            def one(slot: Array) -> tuple[Array, Params]:
                start = pool.start(state.pool, slot)
                return jax.value_and_grad(objective)(state.params, start, images, targets)

            loss, grads = inner.map_networks(one, chosen, axis_name=axis_name)
            params, opt_state = descend(synthetic, optimizer, grads, state.opt_state, state.params)
            slots = pool.advance(state.pool, chosen, key_advance, (params["images"], params["labels"]))
            return KRRSTState(params, opt_state, slots), {"loss": loss}

        return Method(init, sample, update, lambda state: render(synthetic, state.params))

    return Recipe(
        bind,
        stages=lambda spec: stages(config, spec),
        lean=Execution(block=64, target_precision="default"),
        most=lambda spec: Execution(block=config.target_batch),
    )


def _regression(network: Network) -> inner.Loss:
    """The mean squared error of a network in training mode on the whole set, as a pool advances by."""

    def mean_loss(theta: PyTree, stats: PyTree, shown: tuple, step: Array, key: Key) -> tuple[Array, PyTree]:
        images, targets = shown
        outputs, stats = network.apply(theta, images, stats, mode="train")
        return losses.mean_squared_error(outputs, targets).mean(), stats

    return mean_loss


def stages(config: KRRST, spec: Spec) -> tuple[Stage, Stage]:
    """The encoder's training, and its features of every example."""
    names = ("encoder_batch", "encoder_learning_rate", "encoder_augmentation", "projector", "off_diagonal")
    facts = {"model": models.identity(config.encoder, spec.image_shape), **{n: getattr(config, n) for n in names}}
    schedule = optax.cosine_decay_schedule(config.encoder_learning_rate, config.encoder_steps)
    encoder = training.barlow_twins(
        config.encoder,
        optax.adam(schedule),
        batch_size=config.encoder_batch,
        augment=config.encoder_augmentation,
        projector=config.projector,
        off_diagonal=config.off_diagonal,
    )
    targets = training.encoded(config.encoder, outputs=config.projector, block=_BLOCK)
    return (
        Stage(ENCODER, encoder, steps=config.encoder_steps, config=facts),
        Stage(
            TARGETS,
            targets,
            steps=training.num_blocks(spec, _BLOCK),
            config={**facts, "block": _BLOCK},
            record=Record(1, lambda state: state.features, first=False, block=_BLOCK),
        ),
    )


_BLOCK = 500  # examples whose features are computed at once
