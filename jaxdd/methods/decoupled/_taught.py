"""What the decoupled family shares: networks that are trained first, and label the set that comes of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd import training
from jaxdd.data import augmentation
from jaxdd.methods._hyper import HyperParameters, accepted_by, at_least, field, one_of, positive
from jaxdd.methods._ipc import ALIKE
from jaxdd.synthetic import label_bits, labelled_by
from jaxdd.types import Array, Content, Cost, Distilled, Labelling, Network, PyTree, Spec, Stage

TEACHER = "teacher"


@dataclasses.dataclass(frozen=True)
class Taught(HyperParameters):
    """What all of them have; by default the numbers of SRe2L's authors for CIFAR-100.

    Attributes:
      ipc: images per class.
      model: the teacher, a network with batch normalisation, see `models.build`.
      labels: "view", the teachers' of every view of an image that a network is trained on; "image", theirs of the
        image; "hard", its class; or "both", its class with the teachers beside it, for protocols that learn from both,
        such as "edc".
      teacher_epochs, teacher_batch, teacher_learning_rate, teacher_weight_decay, teacher_augmentation: of its training
        in a stage before, by gradient descent with momentum 0.9, along half a cosine.
    """

    ipc: int = field(10, ALIKE)
    model: str | Network = "resnet18"
    labels: str = field("view", one_of(("view", "image", "hard", "both")))
    teacher_epochs: int = field(200, at_least(1))
    teacher_batch: int = field(128, at_least(1))
    teacher_learning_rate: float = field(0.1, positive)
    teacher_weight_decay: float = field(5e-4, at_least(0))
    teacher_augmentation: str = field("crop-flip", accepted_by(augmentation.named))

    def teachers(self) -> tuple[str | Network, ...]:
        """All of them."""
        return (self.model,)

    def votes(self) -> dict[str, Any]:
        """How their labels are made one, see `synthetic.labelled_by`."""
        return {}


@dataclasses.dataclass(frozen=True)
class Committee(Taught):
    """Of those that may have several teachers.

    Attributes:
      others: teachers beside `model`.
      by_batch: whether labels of views are by teachers that normalise by what a student sees at once, half a batch in
        the protocol "cv-dd"; else in evaluation mode.
    """

    others: tuple[str | Network, ...] = ()
    by_batch: bool = False

    def teachers(self) -> tuple[str | Network, ...]:
        return (self.model, *self.others)

    def votes(self) -> dict[str, Any]:
        return {"by_batch": self.by_batch}


def teacher_name(number: int) -> str:
    """Of the stage of a teacher, and of its asset. The first one's is that of a method with one alone, so that methods
    share it."""
    return TEACHER if number == 0 else f"{TEACHER}_{number}"


def teachers(config: Taught, spec: Spec) -> tuple[Stage, ...]:
    """The stages that train them."""
    return tuple(
        training.teacher(
            teacher_name(number),
            model,
            spec,
            epochs=config.teacher_epochs,
            batch_size=config.teacher_batch,
            learning_rate=config.teacher_learning_rate,
            weight_decay=config.teacher_weight_decay,
            augment=config.teacher_augmentation,
        )
        for number, model in enumerate(config.teachers())
    )


def labelled(config: Taught, spec: Spec, images: Array, assets: Mapping[str, PyTree]) -> Distilled:
    """The set of images `(m, h, w, c)`, as many of each class, class after class, labelled as the config says."""
    classes, names = spec.num_classes, [teacher_name(number) for number in range(len(config.teachers()))]
    numbers = jnp.repeat(jnp.arange(classes, dtype=jnp.int32), len(images) // classes)
    one_hot = jax.ShapeDtypeStruct((len(images), classes), numbers.dtype)
    labelling, of_labels = Labelling(numbers), label_bits("hard", one_hot)
    if config.labels != "hard":
        theirs, of_theirs = labelled_by(
            config.teachers(),
            [assets[name] for name in names],
            images,
            classes,
            views=config.labels != "image",
            **config.votes(),
        )
        if config.labels == "both":
            labelling = dataclasses.replace(theirs, values=numbers, convention="hard")
            of_labels += of_theirs
        else:
            labelling, of_labels = theirs, of_theirs
    bits = Cost.of({"images": 32 * images.size, "labels": of_labels})
    return Distilled(Content(images, {"images": images}), labelling, cost=bits)
