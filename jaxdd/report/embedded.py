"""Pictures that a page holds itself, as data URIs: the set by class beside real images, and how it grew."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdd.report.facts import class_names, has_no_classes, pixel_range
from jaxdd.report.pictures import by_class, clipped_share, shown_range, to_8_bit, to_image
from jaxdd.synthetic import DistilledDataset
from jaxdd.types import Examples

_REAL_WITHOUT_CLASSES = 10


class Growth(NamedTuple):
    """A few images of a set on the way.

    Attributes:
      steps: at which they were taken, in order.
      images: float `(steps, k, h, w, c)` in pixel space.
      names: of their classes, `k` of them; None where these are not known.
    """

    steps: tuple[int, ...]
    images: np.ndarray
    names: tuple[str, ...] | None


def class_pictures(dataset: DistilledDataset, real: Examples | None) -> list[dict[str, Any]]:
    """For each class its name and its images as data URIs, with their labels in words, and real ones beside them.

    Args:
      real: a few real images in pixel space with their classes, or None.
    """
    names, pixels = class_names(dataset), to_8_bit(dataset.pixels(), shown_range(dataset))
    classes, bare = [], has_no_classes(dataset)
    beside: Any = () if real is None else to_8_bit(np.asarray(real.images), pixel_range(dataset))
    labels = np.zeros(0) if real is None else np.asarray(real.labels)
    for group in by_class(dataset):
        images = []
        for index in group.indices:
            words = "" if bare else _label_in_words(dataset.labels[index], names)
            images.append({"uri": _uri(pixels[index]), "label": words})
        rows = range(len(labels))[:_REAL_WITHOUT_CLASSES] if bare else np.flatnonzero(labels == group.label)
        found = [_uri(beside[row]) for row in rows]
        classes.append({"name": group.name, "images": images, "hidden": group.hidden, "real": found})
    return classes


def growth_pictures(dataset: DistilledDataset, growth: Growth | None) -> dict[str, Any] | None:
    """The steps, and for each image its class and its pictures; all in the range in which the set itself is shown."""
    if growth is None:
        return None
    pixels = to_8_bit(growth.images, shown_range(dataset))
    names = growth.names or ("",) * pixels.shape[1]
    rows = [{"name": name, "uris": list(map(_uri, pixels[:, k]))} for k, name in enumerate(names)]
    return {"steps": [f"{step:,}" for step in growth.steps], "rows": rows}


def pictures_note(dataset: DistilledDataset, real: Examples | None) -> str:
    """What a reader must know of the pictures."""
    shown, whole, channels = shown_range(dataset), pixel_range(dataset), dataset.images.shape[-1]
    share = clipped_share(dataset, shown)
    sentences = [f"Black is {shown[0]:.3g} and white is {shown[1]:.3g}, as in the real images."]
    if shown != whole:
        sentences = [
            f"Contrast is raised: black is {shown[0]:.3g} and white is {shown[1]:.3g} in these pictures, "
            f"{whole[0]:.3g} and {whole[1]:.3g} in the real images."
        ]
    if share:
        amount = "less than 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"
        sentences.append(f"Of the values {amount} lie outside and are clipped, here only.")
    if channels not in (1, 3):
        sentences.append(f"Shown in grey: the mean of {channels} channels.")
    if dataset.labels.ndim == 2 and not has_no_classes(dataset):
        sentences.append("An image stands with the class of its largest label entry.")
    if real is not None:
        sentences.append(
            "The real images are drawn from the training data, the same ones beside every set, and shown as they are."
        )
    return " ".join(sentences)


def _label_in_words(label: np.ndarray, names: Sequence[str]) -> str:
    """The largest entries of a soft label, the name of a hard one."""
    if label.ndim == 0:
        return names[int(label)]
    return ", ".join(f"{names[k]} {label[k]:.2f}" for k in np.argsort(-label, kind="stable")[:3])


def _uri(pixels: np.ndarray) -> str:
    """One uint8 image `(h, w, c)` as a PNG file in a URI."""
    file = io.BytesIO()
    to_image(pixels).save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
