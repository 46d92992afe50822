"""What the decoupled family shares: networks that are trained first, and label the set that comes of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from jaxdd import training
from jaxdd.data import augmentation
from jaxdd.methods._hyper import HyperParameters, accepted_by, at_least, field, one_of, positive
from jaxdd.methods._ipc import ALIKE
from jaxdd.synthetic import labelled_by
from jaxdd.types import Array, Content, Cost, Distilled, Network, PyTree, Spec, Stage

TEACHER = "teacher"


@dataclasses.dataclass(frozen=True)
class Taught(HyperParameters):
    """What all of them have; by default the numbers of SRe2L's authors for CIFAR-100.

    Attributes:
      ipc: images per class.
      model: the teacher, a network with batch normalisation, see `models.build`.
      labels: "view", the teacher's of every view of an image that a network is trained on, or "image", one an image.
      teacher_epochs, teacher_batch, teacher_learning_rate, teacher_weight_decay, teacher_augmentation: of its training
        in a stage before, by gradient descent with momentum 0.9, along half a cosine.
    """

    ipc: int = field(10, ALIKE)
    model: str | Network = "resnet18"
    labels: str = field("view", one_of(("view", "image")))
    teacher_epochs: int = field(200, at_least(1))
    teacher_batch: int = field(128, at_least(1))
    teacher_learning_rate: float = field(0.1, positive)
    teacher_weight_decay: float = field(5e-4, at_least(0))
    teacher_augmentation: str = field("crop-flip", accepted_by(augmentation.named))

    def teachers(self) -> tuple[str | Network, ...]:
        """All of them."""
        return (self.model,)


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
    """The set of images `(m, h, w, c)`, class after class, with the labels that the first teacher gives them."""
    labelling, of_labels = labelled_by(
        config.model, assets[TEACHER], images, spec.num_classes, views=config.labels == "view"
    )
    bits = Cost.of({"images": 32 * images.size, "labels": of_labels})
    return Distilled(Content(images, {"images": images}), labelling, cost=bits)
