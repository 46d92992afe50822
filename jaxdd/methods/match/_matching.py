"""The matching family: make a network see the synthetic set as it sees real data, class by class."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import inner, losses, models
from jaxdd.data import augmentation, class_sampler
from jaxdd.methods._hyper import HyperParameters, accepted_by, at_least, field, positive
from jaxdd.methods._ipc import ALIKE
from jaxdd.synthetic import Continued, Params, SyntheticSet, descend, per_leaf, render
from jaxdd.types import (
    AT_ONCE,
    EXAMPLES,
    Array,
    Batch,
    Examples,
    Execution,
    Indices,
    Key,
    Labels,
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

FURTHER = f"{EXAMPLES}/further"
"""The draw of real examples that are not matched."""
AUGMENTATION = accepted_by(augmentation.named)
"""What a field that names an augmentation may be."""
LEAN = Execution(block=16, side_by_side=1, target_precision="default")
"""So few real examples of a class in one pass that a network's maps stay in a CPU's cache, one class after the other;
devices share the classes."""
_FOR_STATISTICS = 16  # real examples of each class


@dataclasses.dataclass(frozen=True)
class Matching(HyperParameters):
    """Hyper-parameters that every method of the family has.

    Attributes:
      ipc: images per class.
      init: of the images, see `synthetic.pixels`.
      model: network through which images are seen, in training mode and without a key, so without dropout; see
        `models.build`.
      target_per_class: real examples of each class an update.
      augmentation: of both sides alike (siamese), see `data.augmentation.named`; "none" for none.
      learning_rate: of gradient descent on the images, with momentum 0.5.
    """

    ipc: int = field(1, ALIKE)
    init: str | Continued = "real"
    model: str | Network = "convnet"
    target_per_class: int = field(256, at_least(1))
    augmentation: str = field("none", AUGMENTATION)
    learning_rate: float = field(0.1, positive)


class Shown(NamedTuple):
    """What an update shows its networks in the end."""

    synthetic: Examples
    """The set after this update."""
    further: Examples | None
    """Real examples that are not matched, if any were asked for."""


def fresh(network: Network, num_classes: int) -> Networks:
    """A new random initialisation in every update."""
    del num_classes
    return inner.fresh(network)


def one_network(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    matching_steps: int,
    steps: int,
    batch_size: int,
    examples: Callable[[Shown], Any],
    prepare: Callable[[Key, Array, Array], tuple[Array, Array]],
) -> Networks:
    """One network that a number of updates see, trained by cross-entropy in between.

    Args:
      matching_steps: updates that see it, before a new one begins.
      steps: of its training after each of them but the last.
      batch_size: of these, without replacement within an epoch.
      examples: of what is shown, those that it is trained on.
      prepare: `prepare(key, images, labels)`, what a step makes of its batch.
    """

    def loss(theta: PyTree, stats: PyTree, shown: PyTree, step: Array, key: Key) -> tuple[Array, PyTree]:
        seen, plan = shown
        images, labels = prepare(key, *jax.tree.map(lambda leaf: leaf[plan[step]], seen))
        logits, stats = network.apply(theta, images, stats, mode="train")
        return losses.cross_entropy(logits, labels).mean(), stats

    pool = inner.pool(network, optimizer, loss, size=1, max_age=(matching_steps - 1) * steps, steps=steps)

    def choose(key: Key, count: int) -> Indices:
        return jnp.zeros(count, jnp.int32)

    def advance(slots: inner.Slots, chosen: Indices, key: Key, shown: Shown) -> inner.Slots:
        key_plan, key_advance = jax.random.split(key)
        seen = examples(shown)
        plan = inner.epoch_plan(key_plan, len(seen.labels), batch_size, steps)
        return pool.advance(slots, chosen, key_advance, (seen, plan))

    return pool._replace(choose=choose, advance=advance)


class Classes(NamedTuple):
    """What is matched: images `(classes, ipc, h, w, c)` and as many real ones of each `(classes, b, h, w, c)`."""

    images: Array
    real: Array


Match = Callable[..., tuple[Array, Array]]
"""`match(network, start, classes, key, axis_name=None) -> (loss, its gradient at the synthetic images)`; under a named
axis `classes.real` are those of one device, and the loss is that of all. One that also takes `execution` is given it,
with numbers in all fields: `block` real examples of a class in one pass, `side_by_side` classes."""


class MatchingState(NamedTuple):
    params: Params
    """Of the synthetic set."""
    opt_state: optax.OptState
    networks: PyTree


def matching(
    config: Matching,
    synthetic: SyntheticSet,
    match: Match,
    networks: Callable[[Network, int], Networks] = fresh,
    *,
    optimizer: optax.GradientTransformation | None = None,
    sample: Callable[[Key, Labels], Indices] | None = None,
    lean: Execution = LEAN,
) -> Recipe:
    """A method that minimises a matching loss over the images of a set with fixed hard labels.

    Args:
      synthetic: what is learned; it renders as many images of each class, class after class.
      match: the loss and its gradient at the rendered images.
      networks: `networks(network, num_classes)`, where networks come from; they are shown `Shown`.
      optimizer: of every learned leaf; gradient descent with momentum 0.5 by default.
      sample: further real examples an update, which `Networks.advance` sees.
      lean: see `types.Recipe`.
    """
    if optimizer is None:
        optimizer = optax.sgd(config.learning_rate, momentum=0.5)
    optimizer = per_leaf(dict.fromkeys(synthetic.learned, optimizer))
    of_classes = class_sampler(config.target_per_class)

    def draw(key: Key, labels: Labels) -> Indices | dict[str, Indices]:
        if sample is None:
            return of_classes(key, labels)
        key_classes, key_rest = jax.random.split(key)
        return {EXAMPLES: of_classes(key_classes, labels), FURTHER: sample(key_rest, labels)}

    def bind(spec: Spec) -> Method:
        network = models.build(config.model, spec.image_shape, spec.num_classes)
        source = networks(network, spec.num_classes)
        takes = "execution" in inspect.signature(match).parameters
        matched = functools.partial(match, execution=spec.execution) if takes else match

        def init(key: Key, data: RealData) -> MatchingState:
            key_params, key_networks = jax.random.split(key)
            params = synthetic.init(key_params, data)
            return MatchingState(params, optimizer.init(params), source.init(key_networks))

        def update(
            key: Key, state: MatchingState, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[MatchingState, Metrics]:
            key_start, key_match, key_advance = jax.random.split(key, 3)
            rendered, to_params = jax.vjp(lambda params: synthetic.render(params).images, state.params)
            classes = Classes(*(of.reshape(spec.num_classes, -1, *of.shape[1:]) for of in (rendered, batch.images)))
            tickets = source.choose(key_start, 1)
            start = source.start(state.networks, jax.tree.map(lambda leaf: leaf[0], tickets))
            loss, slopes = matched(network, start, classes, key_match, axis_name)
            (grads,) = to_params(slopes.reshape(rendered.shape))
            params, opt_state = descend(synthetic, optimizer, grads, state.opt_state, state.params)
            images = synthetic.render(params).images
            after = Examples(images, jnp.repeat(jnp.arange(spec.num_classes), len(images) // spec.num_classes))
            # All of them on every device of a named axis, so that networks which see them stay the same.
            shown = Shown(after, inner.all_gather(batch.tables.get(FURTHER), axis_name))
            kept = source.advance(state.networks, tickets, key_advance, shown)
            return MatchingState(params, opt_state, kept), {"loss": loss, "gradient_norm": optax.tree.norm(grads)}

        return Method(init, draw, update, lambda state: render(synthetic, state.params))

    return Recipe(bind, lean=lean, most=functools.partial(most, config))


def most(config: Matching, spec: Spec) -> Execution:
    """All real examples of a class in one pass, all classes at once, see `types.Recipe`."""
    return Execution(block=config.target_per_class, side_by_side=spec.num_classes)


def match_gradients(config: Matching, distance: Callable[[PyTree, PyTree], Array]) -> Match:
    """The sum over classes of a distance between the gradients of the cross-entropy on both sides.

    Both sides are normalised by themselves where a network has no running statistics. One that has them, as batch
    normalisation does, is frozen: by the statistics of 16 real images of each class of the update together, as Zhao et
    al. (2021) do it, since a batch of one class says little of what a network sees in training.

    Args:
      distance: `distance(of the real examples, of the synthetic ones)`, two pytrees like theta.
    """
    augment = augmentation.named(config.augmentation)

    def match(
        network: Network,
        start: NetworkState,
        classes: Classes,
        key: Key,
        axis_name: str | None = None,
        execution: Execution = AT_ONCE,
    ) -> tuple[Array, Array]:
        theta, stats = start
        mode = "batch"
        if jax.tree.leaves(stats):
            mode, seen_first = "eval", inner.all_gather(classes.real[:, :_FOR_STATISTICS], axis_name, axis=1)
            mixed = seen_first[:, :_FOR_STATISTICS].reshape(-1, *classes.real.shape[2:])
            stats = models.frozen_statistics(network, theta, mixed, stats)

        def cross_entropy(theta: PyTree, batch: Examples) -> tuple[Array, tuple[()]]:
            logits, _ = network.apply(theta, batch.images, stats, mode=mode)
            return losses.cross_entropy(logits, batch.labels).mean(), ()

        def one(of_class: tuple[Array, Array, Array, Key]) -> tuple[Array, Array]:
            images, real, label, key = of_class
            drawn = augment.draw(key, 1)

            def seen(images: Array) -> Examples:
                return Examples(augment.apply(images, drawn), jnp.full(len(images), label))

            with models.matmul_precision(execution.target_precision):
                of_real = jax.grad(inner.mean_over_blocks, argnums=1, has_aux=True)
                target, _ = of_real(cross_entropy, theta, seen(real), execution.block)
            target = inner.pmean(target, axis_name)

            def loss(images: Array) -> Array:
                gradient = inner.fwdrev_grad(lambda theta, batch: cross_entropy(theta, batch)[0])
                return distance(target, gradient(theta, seen(images)))

            return jax.value_and_grad(loss)(images)

        count = len(classes.images)
        over = (*classes, jnp.arange(count), jax.random.split(key, count))
        per_class, slopes = inner.each_network(one, over, batch_size=execution.side_by_side)
        return per_class.sum(), slopes

    return match


See = Callable[[tuple[Array, ...]], PyTree]
"""From `Network.layers` of some images to what is compared: leaves of one row an image, or of one row for all of them,
of which there is then one for each block."""


def _seeing(see: See, network: Network, start: NetworkState) -> Callable[[Array], PyTree]:
    """What is seen of images, from images."""
    return lambda images: see(network.layers(start.theta, images, start.stats, mode="batch")[0])


def see_real(
    config: Matching,
    see: See,
    network: Network,
    start: NetworkState,
    real: Array,
    drawn: PyTree,
    axis_name: str | None,
    execution: Execution = AT_ONCE,
) -> PyTree:
    """What is seen of the real images `(classes, b, h, w, c)` of every class, leaves `(classes, rows, ..)`.

    Args:
      drawn: of the augmentation, one for each class.
      execution: `block` images of a class in one pass, `side_by_side` classes.
    """
    augment = augmentation.named(config.augmentation)

    seen = _seeing(see, network, start)

    def one(of_class: tuple[Array, PyTree]) -> PyTree:
        return inner.map_blocks(seen, augment.apply(*of_class), execution.block, stats=start.stats)

    with models.matmul_precision(execution.target_precision):
        found = inner.each_network(one, (real, drawn), batch_size=execution.side_by_side)
    return inner.all_gather(found, axis_name, axis=1)


def match_layers(config: Matching, see: See, distance: Callable[[PyTree, PyTree, Key], Array]) -> Match:
    """A distance between what both sides give in a network's layers.

    Args:
      see: what is compared.
      distance: `distance(real, synthetic, key)`, of what is seen of all classes: leaves `(classes, rows, ..)`.
    """
    augment = augmentation.named(config.augmentation)

    def match(
        network: Network,
        start: NetworkState,
        classes: Classes,
        key: Key,
        axis_name: str | None = None,
        execution: Execution = AT_ONCE,
    ) -> tuple[Array, Array]:
        key_draw, key_distance = jax.random.split(key)
        drawn = jax.vmap(lambda key: augment.draw(key, 1))(jax.random.split(key_draw, len(classes.images)))
        real = see_real(config, see, network, start, classes.real, drawn, axis_name, execution)

        seen = _seeing(see, network, start)

        def loss(images: Array) -> Array:
            augmented = jax.vmap(augment.apply)(images, drawn)
            return distance(real, inner.each_network(seen, augmented), key_distance)

        return jax.value_and_grad(loss)(classes.images)

    return match
