"""The bilevel family: train networks on the synthetic set, measure them on real data, differentiate through it all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import inner, losses, models
from jaxdd.data import uniform_sampler
from jaxdd.errors import JaxddError
from jaxdd.inner import InnerOptimizer, Source
from jaxdd.methods._registry import require
from jaxdd.synthetic import SyntheticSet, descend, render
from jaxdd.types import (
    Array,
    Batch,
    Distilled,
    Indices,
    Key,
    Method,
    Metrics,
    Network,
    PyTree,
    RealData,
)

Params = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Bilevel:
    """Hyper-parameters that every method of the family has.

    Attributes:
      ipc: images per class.
      model: network that is trained, see `models.build`.
      networks: how many an update trains; their gradients are averaged.
      networks_per_batch: how many of them side by side, see `inner.map_networks`; None for all.
      target_batch: real examples an update.
      target_block: real examples of one forward pass, which bounds the memory if it divides `target_batch`; None for
        all.
      gradient, remat: see `inner.unroll`.
    """

    ipc: int = 1
    model: str | Network = "convnet"
    networks: int = 1
    networks_per_batch: int | None = 1
    target_batch: int = 1024
    target_block: int | None = 256
    gradient: str = "fwdrev"
    remat: str = "step"

    def __post_init__(self):
        require(
            self,
            ipc=(self.ipc >= 1, "at least 1"),
            networks=(self.networks >= 1, "at least 1"),
            networks_per_batch=(self.networks_per_batch is None or self.networks_per_batch >= 1, "at least 1 or None"),
            target_batch=(self.target_batch >= 1, "at least 1"),
            target_block=(self.target_block is None or self.target_block >= 1, "at least 1 or None"),
            gradient=(self.gradient in inner.GRADIENTS, f"one of {', '.join(inner.GRADIENTS)}"),
            remat=(self.remat in inner.REMATS, f"one of {', '.join(inner.REMATS)}"),
        )


@dataclasses.dataclass(frozen=True)
class Inner:
    """How a network is trained on the synthetic set.

    Attributes:
      optimizer: of the network.
      plan: `plan(key, num_images, num_classes) -> int32 (steps, b)`, the rows of the rendered set that each inner step
        sees.
      learning_rate: one for all steps; None if the set learns its own.
      window: differentiable steps among all; None for all of them.
      place: where they lie, see `inner.window_start`.
      start: the first place of a "random" or "fixed" window.
    """

    optimizer: InnerOptimizer
    plan: Callable[[Key, int, int], Indices]
    learning_rate: float | None = None
    window: int | None = None
    place: str = "full"
    start: int = 0


class BilevelState(NamedTuple):
    params: Params
    """Of the synthetic set."""
    opt_state: optax.OptState
    kept: PyTree
    """What the source of networks keeps: a fixed initialisation, trained networks, or nothing."""


def bilevel(
    config: Bilevel,
    synthetic: SyntheticSet,
    optimizer: optax.GradientTransformation,
    training: Inner,
    *,
    source: Callable[[Network], Source] = inner.fresh,
    penalty: Callable[[Params], Array] | None = None,
    relabel: Callable[[Array], Array] | None = None,
    describe: Callable[[int, PyTree], dict[str, Any]] | None = None,
) -> Method:
    """A method that minimises the cross-entropy on real data of networks trained on the synthetic set.

    `min_params mean_theta0 CE(real; theta_T)`, `theta_{t+1} = step(theta_t, grad CE(synthetic rows of step t))`.

    Args:
      synthetic: what is learned.
      optimizer: of its params.
      training: the inner loop.
      source: where networks come from.
      penalty: added to the loss.
      relabel: what the real labels are taken for; for attacks.
      describe: `describe(num_images, kept)`, further fields of `Distilled`, from what the source keeps.
    """

    def network_for(images: Array, num_classes: int) -> Network:
        _, height, width, channels = images.shape
        return models.build(config.model, (height, width, channels), num_classes)

    def init(key: Key, data: RealData) -> BilevelState:
        key_params, key_source = jax.random.split(key)
        params = synthetic.init(key_params, data)
        kept = source(network_for(data.images, data.labels.num_classes)).init(key_source)
        return BilevelState(params, optimizer.init(params), kept)

    def trained(params: Params, network: Network, start: tuple[PyTree, PyTree], key: Key) -> PyTree:
        """A network's parameters at the end of the window."""
        images, labels, learned_rates = synthetic.render(params)
        rates = [rate for rate in (training.learning_rate, learned_rates) if rate is not None]
        if len(rates) != 1:
            raise JaxddError(
                "inner training needs either a learning rate or a synthetic set that learns its own, and not both."
            )
        key_plan, key_window = jax.random.split(key)
        plan = training.plan(key_plan, *labels.shape)
        steps = training.window or len(plan)
        theta, stats = start
        return inner.unroll(
            inner.classification(network, stats),
            training.optimizer,
            theta,
            inner.planned((images, labels), plan, rates[0]),
            steps,
            prefix=inner.window_start(training.place, key_window, steps, len(plan), start=training.start),
            gradient=config.gradient,
            remat=config.remat,
        ).theta

    def objective(params: Params, network: Network, start, batch: Batch, key: Key) -> tuple[Array, Array]:
        theta = trained(params, network, start, key)

        def on_real(theta: PyTree, block: Batch) -> tuple[Array, Array]:
            logits, _ = network.apply(theta, block.images, start[1], train=True)
            accuracy = jnp.mean(jnp.argmax(logits, axis=1) == block.labels)
            return losses.cross_entropy(logits, block.labels).mean(), accuracy

        loss, accuracy = inner.mean_over_blocks(on_real, theta, batch, config.target_block)
        return loss + (penalty(params) if penalty else 0.0), accuracy

    def update(
        key: Key, state: BilevelState, batch: Batch, *, axis_name: str | None = None
    ) -> tuple[BilevelState, Metrics]:
        num_classes = jax.eval_shape(synthetic.render, state.params).labels.shape[1]
        network = network_for(batch.images, num_classes)
        draw = source(network).draw
        if relabel is not None:
            batch = batch._replace(labels=relabel(batch.labels))

        def one(key: Key):
            key_draw, key_train = jax.random.split(key)
            start = draw(state.kept, key_draw)
            return jax.value_and_grad(objective, has_aux=True)(state.params, network, start, batch, key_train)

        keys = jax.random.split(key, config.networks)
        (loss, accuracy), grads = inner.map_networks(
            one, keys, batch_size=config.networks_per_batch, axis_name=axis_name
        )
        params, opt_state = descend(synthetic, optimizer, grads, state.opt_state, state.params)
        norm = optax.tree.norm({leaf: grads[leaf] for leaf in synthetic.learned})
        metrics = {"loss": loss, "batch_accuracy": accuracy, "gradient_norm": norm}
        return BilevelState(params, opt_state, state.kept), metrics

    def distilled(state: BilevelState) -> Distilled:
        num_images = len(jax.eval_shape(synthetic.render, state.params).images)
        facts = describe(num_images, state.kept) if describe else {}
        return render(synthetic, state.params, **facts)

    return Method(init=init, sample=uniform_sampler(config.target_batch), update=update, distilled=distilled)


def class_batches(per_class: int | None, steps: int) -> Callable[[Key, int, int], Indices]:
    """A plan of random mini-batches with `per_class` images of every class, or all images at each step.

    All of them with None, and where a class has no more.
    """

    def plan(key: Key, num_images: int, num_classes: int) -> Indices:
        ipc = num_images // num_classes
        if per_class is None or per_class >= ipc:
            return inner.epoch_plan(key, num_images, num_images, steps)
        return inner.balanced_plan(key, num_classes, ipc, per_class, steps)

    return plan
