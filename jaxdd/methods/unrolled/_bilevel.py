"""The bilevel family: train networks on the synthetic set, measure them on real data, differentiate through it all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import inner, losses, models
from jaxdd.data import augmentation, uniform_sampler
from jaxdd.errors import JaxddError
from jaxdd.inner import InnerOptimizer
from jaxdd.inner.unroll import Feed
from jaxdd.methods._hyper import HyperParameters, accepted_by, at_least, field, one_of, require
from jaxdd.methods._ipc import BY_CLASS
from jaxdd.synthetic import SyntheticSet, descend, render
from jaxdd.types import (
    Array,
    Batch,
    Distilled,
    Examples,
    Execution,
    Indices,
    Key,
    Method,
    Metrics,
    Network,
    Networks,
    NetworkState,
    PyTree,
    RealData,
    Recipe,
    Spec,
)

Params = dict[str, Array]

LEAN = Execution(block=256, side_by_side=1, remat="step")
"""Real examples of one forward pass, networks."""

AUGMENTED = {2: "inner steps and real batches are augmented by default"}
"""A revision of the methods that had no `augmentation`."""


@dataclasses.dataclass(frozen=True)
class Bilevel(HyperParameters):
    """Hyper-parameters that every method of the family has.

    Attributes:
      ipc: images per class, one number or one for each class.
      model: network that is trained, see `models.build`.
      networks: how many an update trains; their gradients are averaged.
      target_batch: real examples an update; a network with batch normalisation sees all of them in one pass.
      gradient: see `inner.unroll`.
      augmentation: of the images of each inner step and of the real batch, see `data.augmentation.named`; drawn as
        `Inner.siamese` says.
    """

    ipc: int | tuple[int, ...] = field(1, BY_CLASS)
    model: str | Network = "convnet"
    networks: int = field(1, at_least(1))
    target_batch: int = field(1024, at_least(1))
    gradient: str = field("fwdrev", one_of(inner.GRADIENTS))
    augmentation: str = field("none", accepted_by(augmentation.named))


@dataclasses.dataclass(frozen=True)
class Inner:
    """How a network is trained on the synthetic set.

    Attributes:
      optimizer: of the network.
      plan: `plan(key, num_images, num_classes) -> int32 (steps, b)`, the rows of the rendered set that each inner step
        sees.
      learning_rate: one for all steps; None if the set learns its own.
      windows: which steps are differentiable.
      siamese: whether an augmentation draws once for a network, the same for all images of all steps and for the real
        ones (Deng & Russakovsky 2022); else for each image of each step, and each real one (Feng et al. 2024).
    """

    optimizer: InnerOptimizer
    plan: Callable[[Key, int, int], Indices]
    learning_rate: float | None = None
    windows: inner.Windows = inner.ALL_STEPS
    siamese: bool = False


class BilevelState(NamedTuple):
    params: Params
    """Of the synthetic set."""
    opt_state: optax.OptState
    kept: PyTree
    """What the source of networks keeps: a fixed initialisation, trained networks, or nothing."""
    windows: PyTree = ()
    """What windows of differentiable steps carry."""


def bilevel(
    config: Bilevel,
    synthetic: SyntheticSet,
    optimizer: optax.GradientTransformation,
    training: Inner,
    *,
    networks: Callable[[Network], Networks] = inner.fresh,
    penalty: Callable[[Params], Array] | None = None,
    relabel: Callable[[Array], Array] | None = None,
    describe: Callable[[int, PyTree], dict[str, Any]] | None = None,
    lean: Execution = LEAN,
) -> Recipe:
    """A method that minimises the cross-entropy on real data of networks trained on the synthetic set.

    `min_params mean_theta0 CE(real; theta_T)`, `theta_{t+1} = step(theta_t, grad CE(synthetic rows of step t))`.

    Args:
      synthetic: what is learned.
      optimizer: of its params.
      training: the inner loop.
      networks: where networks come from.
      penalty: added to the loss.
      relabel: what the real labels are taken for; for attacks.
      describe: `describe(num_images, kept)`, fields of `types.Training`, from what the networks' source keeps.
      lean: see `types.Recipe`; a block that does not divide `target_batch` is all of it.
    """
    augment, windows = augmentation.named(config.augmentation), training.windows

    def of_step(key: Key, t: Array | int, count: int) -> Any:
        """What is drawn for each of `count` images at a step, of a network's key."""
        return augment.draw(jax.random.fold_in(key, t), count)

    def bind(spec: Spec) -> Method:
        network = models.build(config.model, spec.image_shape, spec.num_classes)
        source = networks(network)

        def init(key: Key, data: RealData) -> BilevelState:
            key_params, key_source = jax.random.split(key)
            params = synthetic.init(key_params, data)
            return BilevelState(params, optimizer.init(params), source.init(key_source), windows.init())

        def fed(params: Params, key_plan: Key, key_draw: Key) -> tuple[Feed, int]:
            """What a network sees at each step, and how many there are."""
            images, labels, learned_rates = synthetic.render(params)
            rates = [rate for rate in (training.learning_rate, learned_rates) if rate is not None]
            if len(rates) != 1:
                raise JaxddError(
                    "inner training needs either a learning rate or a synthetic set that learns its own, and not both."
                )
            plan = training.plan(key_plan, *labels.shape)
            if training.siamese:  # the same at all steps: once, before them
                images = augment.apply(images, augment.draw(key_draw, 1))
                return inner.planned((images, labels), plan, rates[0]), len(plan)
            feed, count = inner.planned((images, labels), plan, rates[0]), plan.shape[1]
            return inner.augmented(feed, augment, lambda t: of_step(key_draw, t, count)), len(plan)

        def trained(params: Params, start: NetworkState, key: Key, window: PyTree) -> PyTree:
            """A network's parameters at the end of the window."""
            key_plan, key_window = jax.random.split(key)
            feed, total = fed(params, key_plan, jax.random.fold_in(key, 2))
            prefix, length = windows.place(key_window, window, total)
            return inner.unroll(
                inner.classification(network, start.stats),
                training.optimizer,
                start.theta,
                feed,
                windows.longest or total,
                prefix=prefix,
                length=length,
                gradient=config.gradient,
                remat=spec.execution.remat,
            ).theta

        def norms(state: BilevelState, key: Key) -> Array:
            """Of the gradients of a network's steps."""
            key_start, key_plan, key_draw = jax.random.split(key, 3)
            start = source.one(state.kept, key_start)
            feed, total = fed(state.params, key_plan, key_draw)
            loss = inner.classification(network, start.stats)
            return inner.gradient_norms(loss, training.optimizer, start.theta, feed, total)

        def objective(
            params: Params, start: NetworkState, examples: Examples, key: Key, window: PyTree
        ) -> tuple[Array, Array]:
            theta = trained(params, start, key, window)
            if training.siamese:  # of the steps' key, since one draw is for all
                of_real = augment.draw(jax.random.fold_in(key, 2), 1)
            else:
                of_real = of_step(jax.random.fold_in(key, 3), 0, len(examples.labels))

            def on_real(theta: PyTree, shown: tuple[Examples, Any]) -> tuple[Array, Array]:
                block, of_block = shown
                images = augment.apply(block.images, of_real if training.siamese else of_block)
                logits, _ = network.apply(theta, images, start.stats, mode="batch")
                accuracy = jnp.mean(jnp.argmax(logits, axis=1) == block.labels)
                return losses.cross_entropy(logits, block.labels).mean(), accuracy

            rows = (examples, None if training.siamese else of_real)
            loss, accuracy = inner.mean_over_blocks(on_real, theta, rows, spec.execution.block, stats=start.stats)
            return loss + (penalty(params) if penalty else 0.0), accuracy

        def update(
            key: Key, state: BilevelState, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[BilevelState, Metrics]:
            examples = batch.examples
            if relabel is not None:
                examples = examples._replace(labels=relabel(examples.labels))

            key_window = jax.random.fold_in(key, config.networks)  # no network's
            window = windows.begin(key_window, state.windows, lambda key: norms(state, key))

            def one(key: Key):
                key_start, key_train = jax.random.split(key)
                start = source.one(state.kept, key_start)
                return jax.value_and_grad(objective, has_aux=True)(state.params, start, examples, key_train, window)

            keys = jax.random.split(key, config.networks)
            (loss, accuracy), grads = inner.map_networks(
                one, keys, batch_size=spec.execution.side_by_side, axis_name=axis_name
            )
            params, opt_state = descend(synthetic, optimizer, grads, state.opt_state, state.params)
            norm = optax.tree.norm({leaf: grads[leaf] for leaf in synthetic.learned})
            metrics = {"loss": loss, "batch_accuracy": accuracy, "gradient_norm": norm}
            after = BilevelState(params, opt_state, state.kept, windows.end(window, accuracy))
            return after, {**metrics, **windows.facts(window)}

        def product(state: BilevelState) -> Distilled:
            num_images = len(jax.eval_shape(synthetic.render, state.params).images)
            facts = describe(num_images, state.kept) if describe else {}
            return render(synthetic, state.params, **facts)

        return Method(init, uniform_sampler(config.target_batch), update, product)

    def most(spec: Spec) -> Execution:
        return Execution(block=config.target_batch, side_by_side=config.networks)

    return Recipe(bind, lean=lean, most=most)


def check_batches(config: Any) -> None:
    """Raises JaxddError for batches of so many images of every class, `config.per_class`, where classes have numbers of
    their own."""
    alike = not isinstance(config.ipc, tuple) or config.per_class is None
    require(config, per_class=(alike, "None, all images at each step, where ipc is by class"))


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
