"""RCIG (Loo, Hasani, Lechner & Rus 2023, "Dataset Distillation with Convexified Implicit Gradients")."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import inner, kernels, losses, models
from jaxdd.data import uniform_sampler
from jaxdd.methods._hyper import HyperParameters, at_least, field, positive
from jaxdd.methods._ipc import BY_CLASS
from jaxdd.methods._registry import method
from jaxdd.synthetic import descend, learned_labels, moving_average, per_leaf, pixels, render, with_mirror_images
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
class RCIG(HyperParameters):
    """Hyper-parameters of RCIG; the authors' for images of 28 and 32 pixels, but for `ridge` and `flip`.

    Both solves are conjugate gradients, where the authors have Adam with learning rates that a search finds. The
    networks are theirs with ReLU for its smoothed form, softplus(60 x) / 60.

    Attributes:
      ipc: images per class, one number or one for each class.
      model: network that is linearised, see `models.build`.
      pool, max_age: networks in the pool, and updates after which one is replaced, see `inner.pool`.
      pool_steps: updates of a network each time it was used are uniform from 1 to this.
      pool_learning_rate: Adam's, for the networks.
      inner_steps: of the inner problem's solve.
      hessian_steps: of the solve with its Hessian.
      target_batch: real examples an update.
      learning_rate: AdaBelief's, for images and labels.
      scale_learning_rate: AdaBelief's, for the logarithm of the scale of the predictions.
      ema: decay of the moving average of the iterates, which is the result.
      flip: the support is also seen mirrored (CIFAR and larger), by the pool's networks too, as in the authors' code.
      ridge: relative to the mean diagonal of the support's kernel. The authors have 5e-4 for each synthetic image
        beside a diagonal of some 500: a relative 1e-6 for each.
    """

    ipc: int | tuple[int, ...] = field(1, BY_CLASS)
    model: str | Network = "wide_convnet(norm='none')"
    pool: int = field(30, at_least(1))
    max_age: int = field(100, at_least(1))
    pool_steps: int = field(16, at_least(1))
    pool_learning_rate: float = field(5e-5, positive)
    inner_steps: int = field(20, at_least(1))
    hessian_steps: int = field(20, at_least(1))
    target_batch: int = field(1024, at_least(1))
    learning_rate: float = field(3e-3, positive)
    scale_learning_rate: float = field(0.03, positive)
    ema: float = field(0.99, at_least(0, under=1))
    flip: bool = False
    ridge: float = field(1e-5, at_least(0))


class RCIGState(NamedTuple):
    params: dict[str, Array]
    """`images` (m, h, w, c), `labels` (m, classes)."""
    average: dict[str, Array]
    """Of the iterates of `params`; what is rendered in the end."""
    opt_state: optax.OptState
    log_scale: Array
    """Of the predictions, in cross-entropy."""
    scale_state: optax.OptState
    pool: inner.Slots
    step: Array


def head_kernel(f1: Array, f2: Array | None = None) -> Array:
    """`f1 f2ᵀ`: a head in the standard parameterisation, as the parameters of the body are."""
    return kernels.feature_kernel(f1, f2, w_std=f1.shape[1] ** 0.5)


@method(RCIG)
def rcig(config: RCIG) -> Recipe:
    """RCIG: implicit gradients through a linearised network whose head is solved exactly.

    With features Φ and Jacobian J of the logits at the parameters of a network from a pool, the model is `Φ v + J w`.
    On the support the best head leaves of `|Φ v + J w - y|² / 2 + λ |v|² / 2 + λ |w|² / 2` the strictly convex

        inner(w) = <r, (Φ Φᵀ + λI)^-1 r> / 2 + |w|² / 2,  r = y - J w  (divided by λ).

    Minimises the cross-entropy of `exp(s) (J_t w* + Φ_t Φᵀ (Φ Φᵀ + λI)^-1 (y - J w*))` on real examples over images,
    labels and s, with w* = argmin inner, and `losses.margin_loss` of the labels (as the authors' code does); then
    trains that network on the synthetic set.
    """
    synthetic = learned_labels(pixels(config.ipc, init="real", labels="centred"), "centred")
    optimizer = per_leaf({leaf: optax.adabelief(config.learning_rate) for leaf in synthetic.learned})
    scale_optimizer = optax.adabelief(config.scale_learning_rate)
    solve = functools.partial(kernels.kernel_ridge_solve, ridge=config.ridge)

    def support(params: dict[str, Array]) -> tuple[Array, Array]:
        rendered = synthetic.render(params)
        images, labels, _ = with_mirror_images(rendered) if config.flip else rendered
        return images, labels

    def bind(spec: Spec) -> Method:
        network = models.build(config.model, spec.image_shape, spec.num_classes)
        pool = inner.pool(
            network,
            optax.adam(config.pool_learning_rate),
            inner.regression(network),
            size=config.pool,
            max_age=config.max_age,
            steps=lambda shown: shown[2],
        )

        def init(key: Key, data: RealData) -> RCIGState:
            key_params, key_pool = jax.random.split(key)
            params, log_scale = synthetic.init(key_params, data), jnp.zeros(())
            opt_state, scale_state = optimizer.init(params), scale_optimizer.init(log_scale)
            return RCIGState(params, params, opt_state, log_scale, scale_state, pool.init(key_pool), jnp.int32(0))

        def meta_gradient(
            learned: tuple[dict[str, Array], Array],
            start: NetworkState,
            batch: Batch,
            axis_name: str | None,
        ):
            origin, linear = inner.linearised_body(network, start, batch.images)

            def on_support(body: inner.Body, images: Array) -> tuple[Array, Array]:
                """In float32 whatever the policy: what a solve, or its Hessian's products, are made of."""
                with models.matmul_precision("float32"):
                    return linear(body, images)

            def inner_loss(body: inner.Body, learned) -> Array:
                images, labels = support(learned[0])
                features, outputs = on_support(body, images)
                rest = labels - outputs
                return 0.5 * (jnp.vdot(rest, solve(head_kernel(features), rest)) + optax.tree.vdot(body, body))

            def outer_loss(body: inner.Body, learned) -> tuple[Array, Array]:
                params, log_scale = learned
                images, labels = support(params)
                features, outputs = on_support(body, images)
                with models.matmul_precision(spec.execution.target_precision):
                    # Once more on the way back, which is only to the body: one block's memory.
                    of_block = jax.checkpoint(functools.partial(linear, body))
                    targets, predictions = inner.map_blocks(of_block, batch.images, spec.execution.block)
                head = solve(head_kernel(features), labels - outputs)
                predictions += jnp.matmul(head_kernel(targets, features), head, precision="highest")
                loss = losses.cross_entropy(jnp.exp(log_scale) * predictions, batch.labels).mean()
                penalty = losses.margin_loss(labels, 0.5 / labels.shape[1]).mean()
                return loss + penalty, jnp.mean(jnp.argmax(predictions, axis=1) == batch.labels)

            body = inner.quadratic_minimum(lambda body: inner_loss(body, learned), origin, steps=config.inner_steps)
            return inner.implicit_gradient(
                inner_loss,
                outer_loss,
                body,
                learned,
                steps=config.hessian_steps,
                clip=True,
                has_aux=True,
                axis_name=axis_name,
            )

        def update(
            key: Key, state: RCIGState, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[RCIGState, Metrics]:
            key_choose, key_steps, key_advance = jax.random.split(key, 3)
            chosen = pool.choose(key_choose, 1)
            learned, start = (state.params, state.log_scale), pool.start(state.pool, chosen[0])
            (loss, accuracy), (grads, slope) = meta_gradient(learned, start, batch, axis_name)
            params, opt_state = descend(synthetic, optimizer, grads, state.opt_state, state.params)
            change, scale_state = scale_optimizer.update(slope, state.scale_state)
            steps = jax.random.randint(key_steps, (), 1, config.pool_steps + 1)
            slots = pool.advance(state.pool, chosen, key_advance, (*support(params), steps))
            average = moving_average(state.average, params, config.ema, state.step)
            log_scale = jnp.asarray(optax.apply_updates(state.log_scale, change))
            after = RCIGState(params, average, opt_state, log_scale, scale_state, slots, state.step + 1)
            return after, {"loss": loss, "batch_accuracy": accuracy}

        def product(state: RCIGState) -> Distilled:
            facts = (("name", TRAINED_FEATURES), ("ridge", config.ridge))
            return render(synthetic, state.average, kernel=facts, iterate="average" if config.ema else "last")

        return Method(init, uniform_sampler(config.target_batch), update, product)

    return Recipe(
        bind,
        lean=Execution(block=64, target_precision="default"),
        most=lambda spec: Execution(block=config.target_batch),
    )
