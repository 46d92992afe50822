"""What a report shows beside a distilled set: real images, and what its images were on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxdd._jax import key_of
from jaxdd.report import Growth
from jaxdd.report.facts import class_names, hard_labels
from jaxdd.synthetic import DistilledDataset
from jaxdd.types import Examples
from jaxdd.workflows.data import Real

_KEY = 0  # the same real images beside every set of a data set, whatever the seed of its run
_REAL, _REAL_IN_ALL = 3, 150
_GROWING, _GROWING_BYTES = 5, 2**19


def real_images(real: Real) -> Examples:
    """A few training images of each class in pixel space, class after class, drawn by a fixed key.

    Three of each; of very many classes one, and of no more than the first 150.
    """
    labels = real.dataset.train.labels
    order = np.asarray(jax.random.permutation(key_of(_KEY), len(labels)))
    classes = min(real.dataset.num_classes, _REAL_IN_ALL)
    each = max(1, min(_REAL, _REAL_IN_ALL // classes))
    chosen = [np.sort(order[labels[order] == label][:each]) for label in range(classes)]
    rows = np.concatenate(chosen)
    pixels: Any = real.dataset.train.pixels()
    return Examples(np.asarray(pixels[rows]), labels[rows])  # pyright: ignore[reportArgumentType]


def snapshot(real: Real) -> Callable[[Any], np.ndarray]:
    """What the engine keeps of a product on the way: a few of its images, in pixel space, float32 `(k, h, w, c)`.

    Five, evenly spaced over the set and so of several classes; fewer where they are large. None of a part whose product
    is neither images nor has them.
    """
    shape = real.dataset.image_shape

    def of(product: Any) -> np.ndarray:
        images = getattr(product, "images", product)
        if np.ndim(images) != 4 or np.shape(images)[1:] != shape:
            return np.zeros((0, *shape), np.float32)
        some = np.asarray(images, np.float32)[_spaced(np.shape(images))]
        return np.asarray(real.transform.inverse(some), np.float32)

    return of


def growth(dataset: DistilledDataset, snapshots: Mapping[int, np.ndarray]) -> Growth | None:
    """Snapshots as a report takes them; None where there are not two steps of them."""
    taken = [images for images in snapshots.values() if len(images)]
    if len(taken) < 2:
        return None
    # Of a set that is joined from parts they are those of the first part, which alone knows their places.
    rows, last = _spaced(dataset.images.shape), taken[-1]
    ours = len(rows) == len(last) and np.allclose(dataset.pixels()[rows], last, atol=1e-3)
    names, labels = class_names(dataset), hard_labels(dataset)
    return Growth(tuple(snapshots), np.stack(taken), tuple(names[labels[row]] for row in rows) if ours else None)


def _spaced(shape: tuple[int, ...]) -> np.ndarray:
    """Rows of a set of this shape `(m, h, w, c)`."""
    count = max(1, min(_GROWING, shape[0], _GROWING_BYTES // (4 * int(np.prod(shape[1:])))))
    return np.unique(np.linspace(0, shape[0] - 1, count).round().astype(int))
