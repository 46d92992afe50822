"""RFAD (Loo, Hasani, Amini & Rus 2022, "Efficient Dataset Distillation Using Random Feature Approximation")."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import inner, kernels, losses, models
from jaxdd.data import balanced_sampler
from jaxdd.methods._hyper import HyperParameters, at_least, field, one_of, positive
from jaxdd.methods._ipc import BY_CLASS
from jaxdd.methods._registry import method
from jaxdd.synthetic import descend, learned_labels, per_leaf, pixels, render
from jaxdd.types import (
    RANDOM_FEATURES,
    Array,
    Batch,
    Distilled,
    Execution,
    Key,
    Method,
    Metrics,
    RealData,
    Recipe,
    Spec,
)


@dataclasses.dataclass(frozen=True)
class RFAD(HyperParameters):
    """Hyper-parameters of RFAD; the paper's, without its learned linear map of the pixels.

    Attributes:
      ipc: images per class, one number or one for each class.
      model: network whose features are taken, with new random weights in every update, see `models.build`.
      networks: how many.
      target_batch: real examples an update, class-balanced.
      loss: "cross_entropy" of the predictions times a learned scale (Platt), or "squared_error".
      learning_rate: AdaBelief's, for images and labels.
      scale_learning_rate: AdaBelief's, for the logarithm of the scale.
      w_std, b_std: of the last layer, see `kernels.feature_kernel`.
      ridge: relative to the mean diagonal of the support's kernel.
      float64: solve in float64.
    """

    ipc: int | tuple[int, ...] = field(1, BY_CLASS)
    model: str = "convnet(width=256, norm='none', initializer='he')"
    networks: int = field(8, at_least(1))
    target_batch: int = field(5120, at_least(1))
    loss: str = field("cross_entropy", one_of(("cross_entropy", "squared_error")))
    learning_rate: float = field(1e-3, positive)
    scale_learning_rate: float = field(1e-2, positive)
    w_std: float = 2**0.5
    b_std: float = 0.1
    ridge: float = field(5e-3, at_least(0))
    float64: bool = True


class RFADState(NamedTuple):
    params: dict[str, Array]
    """`images` (m, h, w, c), `labels` (m, classes)."""
    opt_state: optax.OptState
    log_scale: Array
    """Of the predictions, in cross-entropy."""
    scale_state: optax.OptState


@method(RFAD)
def rfad(config: RFAD) -> Recipe:
    """Random Feature Approximation: kernel ridge regression with the NNGP kernel of random finite networks.

    Minimises the cross-entropy of `exp(s) K_ts (K_ss + λI)^-1 y_s`, where K is the mean conjugate kernel of networks
    that are drawn anew for every update (sections 3.1 and 3.2).
    """
    synthetic = learned_labels(pixels(config.ipc, init="real", labels="centred"), "centred")
    optimizer = per_leaf({leaf: optax.adabelief(config.learning_rate) for leaf in synthetic.learned})
    scale_optimizer = optax.adabelief(config.scale_learning_rate)
    kernel = functools.partial(kernels.feature_kernel, w_std=config.w_std, b_std=config.b_std)
    predict = functools.partial(kernels.kernel_ridge_predict, ridge=config.ridge, float64=config.float64)

    def init(key: Key, data: RealData) -> RFADState:
        params, log_scale = synthetic.init(key, data), jnp.zeros(())
        return RFADState(params, optimizer.init(params), log_scale, scale_optimizer.init(log_scale))

    def product(state: RFADState) -> Distilled:
        facts: dict[str, Any] = {"w_std": config.w_std, "b_std": config.b_std}
        facts |= {"ridge": config.ridge, "float64": config.float64}
        # To be measured with more networks than one update sees, and always the same.
        facts |= {"name": RANDOM_FEATURES, "model": config.model, "networks": 4 * config.networks, "seed": 0}
        return render(synthetic, state.params, kernel=tuple(sorted(facts.items())))

    def bind(spec: Spec) -> Method:
        network = models.build(config.model, spec.image_shape, spec.num_classes)

        def objective(learned: tuple[dict[str, Array], Array], keys: Key, batch: Batch):
            params, log_scale = learned
            images, labels, _ = synthetic.render(params)

            def features(images: Array, block: int | None = None) -> Array:
                """Of all networks side by side: their kernel is the mean of the networks' own."""

                @jax.checkpoint  # once more on the way back: the memory of the networks that are side by side
                def of_network(key: Key) -> Array:
                    theta, stats = network.init(jax.random.clone(key))  # the same networks for both sets of images
                    return inner.map_blocks(lambda rows: network.features(theta, rows, stats)[0], images, block)

                each = inner.each_network(of_network, keys, batch_size=spec.execution.side_by_side)
                return jnp.moveaxis(each, 0, 1).reshape(len(images), -1)

            support = features(images)
            with models.matmul_precision(spec.execution.target_precision):
                targets = features(batch.images, spec.execution.block)
            predictions = predict(kernel(targets, support), kernel(support), labels)
            if config.loss == "cross_entropy":
                loss = losses.cross_entropy(jnp.exp(log_scale) * predictions, batch.labels)
            else:
                loss = losses.squared_error(predictions, losses.centred_one_hot(batch.labels, labels.shape[1]))
            return loss.mean(), jnp.mean(jnp.argmax(predictions, axis=1) == batch.labels)

        def update(
            key: Key, state: RFADState, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[RFADState, Metrics]:
            learned, keys = (state.params, state.log_scale), jax.random.split(key, config.networks)
            results = jax.value_and_grad(objective, has_aux=True)(learned, keys, batch)
            (loss, accuracy), (grads, slope) = inner.pmean(results, axis_name)
            params, opt_state = descend(synthetic, optimizer, grads, state.opt_state, state.params)
            change, scale_state = scale_optimizer.update(slope, state.scale_state)
            metrics = {"loss": loss, "batch_accuracy": accuracy}
            log_scale = jnp.asarray(optax.apply_updates(state.log_scale, change))
            return RFADState(params, opt_state, log_scale, scale_state), metrics

        return Method(init, balanced_sampler(config.target_batch), update, product)

    return Recipe(
        bind,
        lean=Execution(block=64, side_by_side=1, target_precision="default"),
        most=lambda spec: Execution(block=config.target_batch, side_by_side=config.networks),
    )
