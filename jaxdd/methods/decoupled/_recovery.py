"""What the decoupled family shares: images that are recovered from trained networks, block after block."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import losses, models
from jaxdd._jax import key_of
from jaxdd.data import augmentation
from jaxdd.errors import JaxddError
from jaxdd.methods._hyper import at_least, between, elements, field, positive
from jaxdd.methods.decoupled._taught import Taught, labelled, teacher_name, teachers
from jaxdd.synthetic import pixel_range
from jaxdd.types import (
    UNNAMED,
    Array,
    Batch,
    Distilled,
    Execution,
    Indices,
    Key,
    Labels,
    Method,
    Metrics,
    Moments,
    Network,
    NetworkState,
    Parts,
    PyTree,
    RealData,
    Recipe,
    Spec,
    Stage,
)


class Block(NamedTuple):
    """Images that are recovered together, so that their statistics are those of one batch."""

    part: Array
    """int32, its number."""
    labels: Indices
    """int32 `(b,)`."""
    index: Indices
    """int32 `(b,)`, which image of its class each is, of `ipc`."""
    inside: Array
    """bool `(b,)`, which of the last block not all are."""
    lowest: Array
    highest: Array
    """The range of real pixels `(c,)`."""

    def clipped(self, images: Array) -> Array:
        return jnp.clip(images, self.lowest[None, None, None], self.highest[None, None, None])


class Recovered(NamedTuple):
    """A block on its way."""

    params: dict[str, Array]
    """What is learned: `images`, or what they are made of."""
    moments: optax.OptState
    step: Array
    """int32, how many updates there were."""
    block: Block
    given: dict[str, PyTree]
    """What is not learned and a method stands on."""

    @property
    def images(self) -> Array:
        return self.params["images"]


class Blocks(NamedTuple):
    """Which images are recovered together."""

    count: int
    of: Callable[[Array], tuple[Indices, Indices, Array]]
    """`of(part) -> (labels, index, inside)`, each `(b,)`, see `Block`."""
    arranged: Callable[[Array], Array]
    """From images by block `(count, b, ..)` to those of the set, class after class."""


def across(ipc: int, classes: int, together: int) -> Blocks:
    """An image each of up to `together` classes: block after block of classes, then the next image of each."""
    size = min(together, classes)
    blocks = -(-classes // size)

    def of(part: Array) -> tuple[Indices, Indices, Array]:
        labels = part % blocks * size + jnp.arange(size)
        inside = labels < classes
        return jnp.where(inside, labels, 0), jnp.broadcast_to(part // blocks, (size,)), inside

    def arranged(images: Array) -> Array:
        by_image = images.reshape(ipc, -1, *images.shape[2:])[:, :classes]
        return by_image.swapaxes(0, 1).reshape(-1, *images.shape[2:])

    return Blocks(ipc * blocks, of, arranged)


def within(ipc: int, classes: int) -> Blocks:
    """All images of a class."""
    return Blocks(
        classes,
        lambda part: (jnp.broadcast_to(part, (ipc,)), jnp.arange(ipc), jnp.ones(ipc, bool)),
        lambda images: images.reshape(-1, *images.shape[2:]),
    )


ADAM = optax.scale_by_adam(b1=0.5, b2=0.9)


@dataclasses.dataclass(frozen=True)
class Recovery(Taught):
    """What those of them have that learn images; by default the numbers of SRe2L's authors for CIFAR-100.

    Attributes:
      learning_rate: of Adam (0.5, 0.9) on the images; it falls to zero along half a cosine.
      decay_steps: steps of each block until it is zero: as many as are run, `run.steps`.
      statistics_weight: of the distance of statistics beside the cross-entropy; 0 inverts by cross-entropy alone.
      first_weight: of the first normalisation within it.
      jitter: pixels by which the images of a step are rolled at most.
      crop: shares of the area of random resized crops, with flips, before that; None for none, as for CIFAR.
    """

    learning_rate: float = field(0.25, positive)
    decay_steps: int = field(1000, at_least(1))
    statistics_weight: float = field(0.01, at_least(0))
    first_weight: float = field(10.0, at_least(0))
    jitter: int = field(4, at_least(0))
    crop: tuple[float, float] | None = field(None, elements(between(0, 1)))

    def check(self):
        super().check()
        self.views(0.0)

    def views(self, done: Array | float) -> augmentation.Augmentation:
        """How a step sees its images, of the share of steps that are done: one draw for all images, as the authors'
        code has it."""
        roll = augmentation.roll(self.jitter)
        return roll if self.crop is None else augmentation.chain(augmentation.resized_crop(self.crop), roll)


@dataclasses.dataclass(frozen=True)
class Across(Recovery):
    """Of those whose blocks go across classes.

    Attributes:
      classes_together: of which one image each is recovered, a block: statistics are those of a block.
    """

    classes_together: int = field(100, at_least(1))

    def blocks(self, spec: Spec) -> Blocks:
        return across(self.ipc, spec.num_classes, self.classes_together)


class Begun(NamedTuple):
    """Where a block begins, see `Recovered`."""

    params: dict[str, Array]
    given: dict[str, PyTree] = {}  # noqa: RUF012  # never written to


Start = Callable[[Key, RealData, Block], Begun]
Objective = Callable[[Mapping[str, PyTree], Array, Recovered], tuple[Array, Metrics]]
"""`objective(assets, views, state) -> (loss, its terms)`, of views `(b, h, w, c)` of a block's images."""


def noise(key: Key, data: RealData, block: Block) -> Begun:
    """From standard normal pixels."""
    return Begun({"images": jax.random.normal(key, (*block.labels.shape, *data.images.shape[1:]))})


def real(data: RealData, block: Block) -> Array:
    """Real images, of each class the next one in the order of the data."""
    labels = data.labels
    starts, counts = jnp.asarray(labels.starts)[block.labels], jnp.asarray(labels.counts)[block.labels]
    return data.images[labels.order[starts + block.index % counts]]


def clipped(params: dict[str, Array], state: Recovered) -> dict[str, Array]:
    """Images that stay in the range of real pixels."""
    return {"images": state.block.clipped(params["images"])}


def recovering(
    config: Recovery,
    blocks: Callable[[Spec], Blocks],
    *,
    start: Start = noise,
    objective: Callable[[Spec], Objective] | None = None,
    render: Callable[[Recovered], Array] = lambda state: state.images,
    project: Callable[[dict[str, Array], Recovered], dict[str, Array]] = clipped,
    before: Callable[[Spec], Callable[[Key, Mapping[str, PyTree], Recovered], Recovered]] | None = None,
    product: Callable[[Recovered], PyTree] = lambda state: state.images,
    stages: Callable[[Spec], tuple[Stage, ...]] | None = None,
    join: Callable[[Spec, PyTree, Mapping[str, PyTree]], Distilled] | None = None,
    one_by_one: bool = False,
) -> Recipe:
    """Images by Adam (0.5, 0.9) on what trained networks make of them, block after block, each with moments of its own.

    Args:
      blocks: which images are recovered together.
      start: where a block begins.
      objective: what is minimised; by default the one teacher's `inversion`.
      render: a block's images `(b, h, w, c)`, differentiable in its params.
      project: `project(params, state)`, what is made of params after an update.
      before: `before(key, assets, state)`, what happens to a block before an update.
      product: what a block leaves.
      stages: the runs before; by default the teachers.
      join: `join(spec, products by block, assets)`, the set; by default the blocks' images, labelled by the teachers.
      one_by_one: whether a device goes through its blocks one after the other, unless somebody says otherwise: what
        depends on a block or a step, whose teacher it is, is computed for all that it could be where they are side by
        side.
    """
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.decay_steps)

    def sample(key: Key, labels: Labels) -> dict[str, Indices]:
        return {}  # recovering sees no real data

    def bind(spec: Spec) -> Method:
        recover = committee(config, spec) if objective is None else objective(spec)
        laid, prepare = blocks(spec), None if before is None else before(spec)

        def init(key: Key, data: RealData, part: Array) -> Recovered:
            block = Block(part, *laid.of(part), *pixel_range(data.images))
            begun = start(key, data, block)
            return Recovered(begun.params, ADAM.init(begun.params), jnp.zeros((), jnp.int32), block, begun.given)

        def update(
            key: Key, state: Recovered, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[Recovered, Metrics]:
            if prepare is not None:
                state = prepare(key, batch.assets, state)
            augment = config.views(state.step / config.decay_steps)
            drawn = augment.draw(key, 1)

            def loss(params: dict[str, Array]) -> tuple[Array, Metrics]:
                now = state._replace(params=params)
                return recover(batch.assets, augment.apply(render(now), drawn), now)

            (value, terms), slope = jax.value_and_grad(loss, has_aux=True)(state.params)
            updates: Any
            updates, moments = ADAM.update(slope, state.moments)
            rate = -jnp.asarray(schedule(state.step))
            params = {name: leaf + rate * updates[name] for name, leaf in state.params.items()}
            params = project(params, state)
            return state._replace(params=params, moments=moments, step=state.step + 1), {"loss": value, **terms}

        return Method(init, sample, update, product)

    def parts(spec: Spec) -> Parts:
        laid = blocks(spec)

        def joined(products: PyTree, assets: Mapping[str, PyTree]) -> Distilled:
            if join is not None:
                return join(spec, products, assets)
            return labelled(config, spec, laid.arranged(products), assets)

        return Parts(laid.count, joined)

    def checked(spec: Spec) -> tuple[Stage, ...]:
        for model in config.teachers():
            _check_remembers(model, spec.image_shape, spec.num_classes)
        return teachers(config, spec) if stages is None else stages(spec)

    asked = Execution(side_by_side=1) if one_by_one else UNNAMED
    return Recipe(bind, stages=checked, parts=parts, asked=asked)


@functools.cache
def _check_remembers(model: str | Network, image_shape: tuple[int, ...], classes: int) -> None:
    """Check that a teacher has statistics to be matched, before it is trained.

    Raises:
      JaxddError: if it has none.
    """
    network = models.build(model, image_shape, classes)
    theta, stats = jax.eval_shape(network.init, key_of(0))
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    try:
        jax.eval_shape(lambda *inputs: network.norms(*inputs)[1].batch, theta, image, stats)
    except JaxddError as error:
        name = repr(model) if isinstance(model, str) else "of one's own"
        raise JaxddError(
            f"images are recovered from what a teacher's batch normalisation remembers; {name}: {error}"
        ) from error


def inversion(
    config: Recovery,
    network: Network,
    teacher: NetworkState,
    views: Array,
    block: Block,
    *,
    running: Sequence[Moments] | None = None,
    variance_weight: float = 1.0,
) -> tuple[Array, Metrics]:
    """What SRe2L minimises (eq. 5 and 6): cross-entropy, and the distance of a block's statistics from remembered ones.

    Args:
      views: `(b, h, w, c)`, of the block's images.
      running: what is remembered, by default the teacher's own.
      variance_weight: of the variances' distance beside the means'.

    Returns:
      The loss, and its terms: "cross_entropy", "statistics".
    """
    logits, norms = network.norms(teacher.theta, views, teacher.stats, mask=block.inside)
    each = jnp.where(block.inside, losses.cross_entropy(logits, block.labels), 0)
    terms = {
        "cross_entropy": each.sum() / block.inside.sum(),
        "statistics": losses.statistics_matching(
            norms.batch,
            norms.running if running is None else running,
            first_weight=config.first_weight,
            variance_weight=variance_weight,
        ),
    }
    return terms["cross_entropy"] + config.statistics_weight * terms["statistics"], terms


def committee(
    config: Recovery,
    spec: Spec,
    ballots: Sequence[Mapping[int, float]] = ({0: 1.0},),
    whose: Callable[[Recovered], Array | int] = lambda state: 0,
    **options: Any,
) -> Objective:
    """An `Objective`: the sum of some teachers' inversions, each times its weight.

    Args:
      ballots: each by teacher, its weight.
      whose: the number of the ballot that counts, of a block, or of a step of it.
      **options: of `inversion`.
    """
    networks = [models.build(model, spec.image_shape, spec.num_classes) for model in config.teachers()]

    def by(ballot: Mapping[int, float]) -> Objective:
        def minimised(assets: Mapping[str, PyTree], views: Array, state: Recovered) -> tuple[Array, Metrics]:
            found = [
                jax.tree.map(
                    lambda leaf, weight=weight: weight * leaf,
                    inversion(config, networks[k], assets[teacher_name(k)], views, state.block, **options),
                )
                for k, weight in ballot.items()
            ]
            return functools.reduce(lambda a, b: jax.tree.map(jnp.add, a, b), found)

        return minimised

    branches = [by(ballot) for ballot in ballots]
    if len(branches) == 1:
        return branches[0]
    return lambda assets, views, state: jax.lax.switch(whose(state), branches, assets, views, state)
