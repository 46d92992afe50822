"""FRePo (Zhou, Nezhadarya & Ba 2022, "Dataset Distillation using Neural Feature Regression", arXiv:2206.00719)."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import inner, kernels, losses, models
from jaxdd.data import uniform_sampler
from jaxdd.methods._hyper import HyperParameters, at_least, field, positive, require
from jaxdd.methods._ipc import BY_CLASS
from jaxdd.methods._registry import method
from jaxdd.synthetic import descend, learned_labels, per_leaf, pixels, render, with_mirror_images
from jaxdd.types import (
    TRAINED_FEATURES,
    Array,
    Batch,
    Distilled,
    Execution,
    Key,
    Method,
    Metrics,
    Network,
    NetworkState,
    RealData,
    Recipe,
    Spec,
)


@dataclasses.dataclass(frozen=True)
class FRePo(HyperParameters):
    """Hyper-parameters of FRePo; by default those that the authors' code has for Fashion-MNIST.

    Unlike theirs the pool's networks see all images of the set at once, not 1,000 of them.

    Attributes:
      ipc: images per class, one number or one for each class.
      model: network whose features are regressed on, see `models.build`.
      pool, max_age: networks in the pool, and updates after which one is replaced, see `inner.pool`.
      pool_learning_rate: Adam's, for the networks.
      networks: of the pool, that an update uses; its gradient is their mean.
      target_batch: real examples an update.
      learning_rate: LAMB's, for images and labels.
      decay_steps: updates over which it falls to a tenth, by a cosine: the length of the run.
      flip: the support of the regression is also seen mirrored (CIFAR and larger); the pool's networks are trained on
        the images as they are, as in the authors' code.
      ridge: relative to the mean diagonal of the support's kernel.
      float64: solve in float64.
    """

    ipc: int | tuple[int, ...] = field(1, BY_CLASS)
    model: str | Network = "wide_convnet"
    pool: int = field(10, at_least(1))
    max_age: int = field(100, at_least(1))
    pool_learning_rate: float = field(3e-4, positive)
    networks: int = field(1, at_least(1))
    target_batch: int = field(1024, at_least(1))
    learning_rate: float = field(3e-4, positive)
    decay_steps: int = field(500_000, at_least(1))
    flip: bool = False
    ridge: float = field(1e-6, at_least(0))
    float64: bool = False

    def check(self):
        require(self, networks=(self.networks <= self.pool, f"at least 1 and at most the pool, {self.pool}"))


class FRePoState(NamedTuple):
    params: dict[str, Array]
    """`images` (m, h, w, c), `labels` (m, classes)."""
    opt_state: optax.OptState
    pool: inner.Slots


@method(FRePo)
def frepo(config: FRePo) -> Recipe:
    """FRePo: kernel ridge regression on the features of networks that are trained on the set as it is learned.

    Minimises `mean 0.5 |K_ts (K_ss + λI)^-1 y_s - y_t|^2` (eq. 4), with the conjugate kernel of a network from a pool,
    and `losses.margin_loss` of the labels (as the authors' code does); then trains that network on the set.
    """
    synthetic = learned_labels(pixels(config.ipc, init="real", labels="centred"), "centred")
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.decay_steps, alpha=0.1)
    optimizer = per_leaf({leaf: optax.lamb(schedule) for leaf in synthetic.learned})
    solver = {"ridge": config.ridge, "float64": config.float64}
    predict = functools.partial(kernels.kernel_ridge_predict, **solver)

    def bind(spec: Spec) -> Method:
        network = models.build(config.model, spec.image_shape, spec.num_classes)
        pool = inner.pool(
            network,
            optax.adam(config.pool_learning_rate),
            inner.regression(network),
            size=config.pool,
            max_age=config.max_age,
            batch_size=spec.execution.side_by_side,
        )

        def init(key: Key, data: RealData) -> FRePoState:
            key_params, key_pool = jax.random.split(key)
            params = synthetic.init(key_params, data)
            params["labels"] = params["labels"] / math.sqrt(spec.num_classes / 10)
            return FRePoState(params, optimizer.init(params), pool.init(key_pool))

        def objective(params: dict[str, Array], start: NetworkState, batch: Batch) -> tuple[Array, Array]:
            rendered = synthetic.render(params)
            penalty = losses.margin_loss(rendered.labels, 1 / spec.num_classes).mean()
            images, labels, _ = with_mirror_images(rendered) if config.flip else rendered

            def features(images: Array) -> Array:
                return network.features(start.theta, images, start.stats)[0]

            with models.matmul_precision(spec.execution.target_precision):
                targets = inner.map_blocks(features, batch.images, spec.execution.block)
            support = features(images)
            predictions = predict(kernels.feature_kernel(targets, support), kernels.feature_kernel(support), labels)
            loss = losses.squared_error(predictions, losses.centred_one_hot(batch.labels, spec.num_classes)).mean()
            return loss + penalty, jnp.mean(jnp.argmax(predictions, axis=1) == batch.labels)

        def update(
            key: Key, state: FRePoState, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[FRePoState, Metrics]:
            key_choose, key_advance = jax.random.split(key)
            chosen = pool.choose(key_choose, config.networks)

            def one(slot: Array):
                start = pool.start(state.pool, slot)
                return jax.value_and_grad(objective, has_aux=True)(state.params, start, batch)

            (loss, accuracy), grads = inner.map_networks(
                one, chosen, batch_size=spec.execution.side_by_side, axis_name=axis_name
            )
            params, opt_state = descend(synthetic, optimizer, grads, state.opt_state, state.params)
            slots = pool.advance(state.pool, chosen, key_advance, synthetic.render(params))
            return FRePoState(params, opt_state, slots), {"loss": loss, "batch_accuracy": accuracy}

        def product(state: FRePoState) -> Distilled:
            return render(synthetic, state.params, kernel=(("name", TRAINED_FEATURES), *solver.items()))

        return Method(init, uniform_sampler(config.target_batch), update, product)

    return Recipe(
        bind,
        lean=Execution(block=64, side_by_side=1, target_precision="default"),
        most=lambda spec: Execution(block=config.target_batch, side_by_side=config.networks),
    )
