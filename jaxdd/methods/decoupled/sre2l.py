"""SRe2L (Yin, Xing & Shen, NeurIPS 2023, "Squeeze, Recover and Relabel: Dataset Condensation at ImageNet Scale From A
New Perspective", arXiv:2306.13092)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import losses, models, training
from jaxdd.data import augmentation
from jaxdd.methods._hyper import HyperParameters, accepted_by, at_least, between, elements, field, one_of, positive
from jaxdd.methods._ipc import ALIKE
from jaxdd.methods._registry import method
from jaxdd.synthetic import labelled_by, pixel_range
from jaxdd.types import (
    Array,
    Batch,
    Content,
    Cost,
    Distilled,
    Indices,
    Key,
    Labels,
    Method,
    Metrics,
    Network,
    NetworkState,
    Parts,
    PyTree,
    RealData,
    Recipe,
    Spec,
    Stage,
)

TEACHER = "teacher"


@dataclasses.dataclass(frozen=True)
class SRe2L(HyperParameters):
    """Hyper-parameters of SRe2L; by default the authors' for CIFAR-100.

    Attributes:
      ipc: images per class.
      model: the teacher, a network with batch normalisation, see `models.build`.
      classes_together: of which one image each is recovered, a block: statistics are those of a block.
      learning_rate: of Adam (0.5, 0.9) on the images; it falls to zero along half a cosine.
      decay_steps: steps of each block until it is zero: as many as are run, `run.steps`.
      statistics_weight: of the distance of statistics beside the cross-entropy; 0 inverts by cross-entropy alone.
      first_weight: of the first normalisation within it.
      jitter: pixels by which the images of a step are rolled at most.
      crop: shares of the area of random resized crops, with flips, before that; None for none, as for CIFAR.
      labels: "view", the teacher's of every view of an image that a network is trained on, or "image", one an image.
      teacher_epochs, teacher_batch, teacher_learning_rate, teacher_weight_decay, teacher_augmentation: of its training
        in a stage before, by gradient descent with momentum 0.9, along half a cosine.
    """

    ipc: int = field(10, ALIKE)
    model: str | Network = "resnet18"
    classes_together: int = field(100, at_least(1))
    learning_rate: float = field(0.25, positive)
    decay_steps: int = field(1000, at_least(1))
    statistics_weight: float = field(0.01, at_least(0))
    first_weight: float = field(10.0, at_least(0))
    jitter: int = field(4, at_least(0))
    crop: tuple[float, float] | None = field(None, elements(between(0, 1)))
    labels: str = field("view", one_of(("view", "image")))
    teacher_epochs: int = field(200, at_least(1))
    teacher_batch: int = field(128, at_least(1))
    teacher_learning_rate: float = field(0.1, positive)
    teacher_weight_decay: float = field(5e-4, at_least(0))
    teacher_augmentation: str = field("crop-flip", accepted_by(augmentation.named))

    def check(self):
        _augmentation(self)

    def blocks(self, num_classes: int) -> tuple[int, int]:
        """How many make an image of every class, of which the last one may be padded, and the images of each."""
        size = min(self.classes_together, num_classes)
        return -(-num_classes // size), size


class SRe2LState(NamedTuple):
    """Of one block: an image of each of its classes."""

    images: Array
    opt_state: optax.OptState
    labels: Indices
    inside: Array
    """Whether there is such a class, which of the last block not all are."""
    lowest: Array
    highest: Array
    """The range of real pixels `(c,)`."""


@method(SRe2L)
def sre2l(config: SRe2L) -> Recipe:
    """SRe2L: images that a trained network takes for their class and whose statistics it remembers, labelled by it.

    Minimises `CE(teacher(A(x)), y) + α sum_l w_l (|mean_l - running mean_l| + |variance_l - running variance_l|)`
    (eq. 5 and 6, `losses.statistics_matching`) over x from noise, one block of images after the other, each with a new
    optimiser. Images stay floats, where the authors' go through a JPEG; the real pixels of the data bound them, where
    theirs are bounded by black and white.
    """
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.decay_steps)
    optimizer, augment = optax.adam(schedule, b1=0.5, b2=0.9), _augmentation(config)

    def sample(key: Key, labels: Labels) -> dict[str, Indices]:
        return {}  # recovering sees no real data

    def bind(spec: Spec) -> Method:
        recover = objective(config, models.build(config.model, spec.image_shape, spec.num_classes))
        blocks, together = config.blocks(spec.num_classes)

        def init(key: Key, data: RealData, part: Array) -> SRe2LState:
            images = jax.random.normal(key, (together, *spec.image_shape))
            labels = part % blocks * together + jnp.arange(together)
            inside = labels < spec.num_classes
            first = optimizer.init(images)
            return SRe2LState(images, first, jnp.where(inside, labels, 0), inside, *pixel_range(data.images))

        def update(
            key: Key, state: SRe2LState, batch: Batch, *, axis_name: str | None = None
        ) -> tuple[SRe2LState, Metrics]:
            drawn = augment.draw(key, 1)

            def loss(images: Array) -> tuple[Array, Metrics]:
                return recover(batch.assets[TEACHER], augment.apply(images, drawn), state.labels, state.inside)

            (value, terms), slope = jax.value_and_grad(loss, has_aux=True)(state.images)
            updates: Any
            updates, opt_state = optimizer.update(slope, state.opt_state)
            lowest, highest = (bound[None, None, None] for bound in (state.lowest, state.highest))
            images = jnp.clip(state.images + updates, lowest, highest)
            return state._replace(images=images, opt_state=opt_state), {"loss": value, **terms}

        return Method(init, sample, update, lambda state: state.images)

    def parts(spec: Spec) -> Parts:
        def join(blocks: Array, assets: Mapping[str, PyTree]) -> Distilled:
            by_image = blocks.reshape(config.ipc, -1, *spec.image_shape)[:, : spec.num_classes]
            images = by_image.swapaxes(0, 1).reshape(-1, *spec.image_shape)  # class after class
            labelling, of_labels = labelled_by(
                config.model, assets[TEACHER], images, spec.num_classes, views=config.labels == "view"
            )
            bits = Cost.of({"images": 32 * images.size, "labels": of_labels})
            return Distilled(Content(images, {"images": images}), labelling, cost=bits)

        return Parts(config.ipc * config.blocks(spec.num_classes)[0], join)

    return Recipe(bind, stages=lambda spec: (teacher(config, spec),), parts=parts)


def objective(config: SRe2L, network: Network) -> Callable[..., tuple[Array, Metrics]]:
    """What SRe2L minimises: `recover(teacher, views, labels, inside) -> (loss, its terms)`, over views `(n, h, w, c)`.

    Args of `recover`:
      inside: bool `(n,)`, which of them count.
    """

    def recover(teacher: NetworkState, views: Array, labels: Indices, inside: Array) -> tuple[Array, Metrics]:
        logits, norms = network.norms(teacher.theta, views, teacher.stats, mask=inside)
        each = jnp.where(inside, losses.cross_entropy(logits, labels), 0)
        terms = {
            "cross_entropy": each.sum() / inside.sum(),
            "statistics": losses.statistics_matching(norms.batch, norms.running, first_weight=config.first_weight),
        }
        return terms["cross_entropy"] + config.statistics_weight * terms["statistics"], terms

    return recover


def teacher(config: SRe2L, spec: Spec) -> Stage:
    """The stage that trains it."""
    return training.teacher(
        TEACHER,
        config.model,
        spec,
        epochs=config.teacher_epochs,
        batch_size=config.teacher_batch,
        learning_rate=config.teacher_learning_rate,
        weight_decay=config.teacher_weight_decay,
        augment=config.teacher_augmentation,
    )


def _augmentation(config: SRe2L) -> augmentation.Augmentation:
    """One draw for all images of a step, as the authors' code has it."""
    roll = augmentation.roll(config.jitter)
    return roll if config.crop is None else augmentation.chain(augmentation.resized_crop(config.crop), roll)
