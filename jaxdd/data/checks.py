"""What arrays from outside must be, and how a split is cut from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxdd.data.mapped import DecodedSource
from jaxdd.data.pictures import FileSource
from jaxdd.data.plausible import Pixels
from jaxdd.data.streaming import ArraySource, RowReader
from jaxdd.errors import JaxddError


def is_pair(value: Any) -> bool:
    """Whether this is images with their labels, not images alone."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    images, labels = (getattr(each, "ndim", 0) for each in value)
    return images > 2 and 0 < labels < images


def checked_source(name: str, x: Any, y: Any, suffix: str, pixels: Pixels | None) -> tuple[Any, np.ndarray]:
    """Images and labels of one split, checked by themselves and against each other; a `RowReader` if streamed."""
    images = _checked_images(f"{name}: x{suffix}", x, pixels)
    labels = _checked_labels(f"{name}: y{suffix}", y)
    if images.shape[0] != len(labels):
        raise JaxddError(f"{name}: x{suffix} has {images.shape[0]} images but y{suffix} has {len(labels)} labels")
    return images, labels


def _to_array(what: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
    except Exception as error:  # ragged lists, tensors on a device, whatever __array__ raises
        raise JaxddError(f"{what} is not an array: {error}") from error
    if array.dtype == object:
        raise JaxddError(f"{what} holds Python objects, not numbers; give one rectangular array of numbers")
    return array


def _checked_images(what: str, values: Any, pixels: Pixels | None) -> np.ndarray | RowReader:
    """uint8 or float32 `(n, height, width, channels)` without an empty axis.

    All finite, and told to `pixels`; without those they are streamed, and the scan that is to come looks at that.
    """
    if isinstance(values, FileSource | DecodedSource):
        return values
    images = _to_array(what, values)
    if images.ndim not in (3, 4):
        raise JaxddError(
            f"{what} must have shape (n, height, width, channels) or (n, height, width), got {images.shape}"
        )
    if images.size == 0:
        raise JaxddError(f"{what} holds no images: its shape is {images.shape}")
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[1] <= 4 and images.shape[3] > 4 and images.shape[2] > 4:
        raise JaxddError(
            f"{what} of shape {images.shape} looks channels-first; it must be (n, height, width, channels): "
            "use numpy.moveaxis(x, 1, -1)"
        )
    if images.dtype.kind not in "iuf":
        raise JaxddError(f"{what} must be uint8 or float, got {images.dtype}")
    source = ArraySource.of(what, images, values)
    if pixels is None:
        return source
    for _, block in source.blocks():  # which raises
        pixels.add(block)
    return source.converted(images)


def _checked_labels(what: str, values: Any) -> np.ndarray:
    """int32 `(n,)`, none negative; a column `(n, 1)` of integers, as Keras and MedMNIST have it, is one."""
    labels = _to_array(what, values)
    if labels.ndim == 2 and labels.shape[1] == 1 and labels.dtype.kind in "iu":
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise JaxddError(
            f"{what} must be a vector (n,) of class numbers, got shape {labels.shape}{_of_several(labels)}"
        )
    if labels.size == 0:
        raise JaxddError(f"{what} holds no labels")
    if labels.dtype.kind not in "iu":
        whole = labels.dtype.kind == "f" and bool(np.all(labels == np.trunc(labels)))
        hint = "; they are whole numbers, so cast them: y.astype('int32')" if whole else ""
        raise JaxddError(f"{what} must be integers, got {labels.dtype}{hint}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        where = int(np.argmax(labels < 0))
        raise JaxddError(f"{what} must be in 0..classes-1, but label {where} is {int(labels[where])}")
    if high > np.iinfo(np.int32).max:
        raise JaxddError(f"{what} has the label {high}, which is out of range")
    return np.ascontiguousarray(labels, np.int32)


def _of_several(labels: np.ndarray) -> str:
    """What to do about labels that are rows of numbers."""
    if labels.ndim != 2:
        return ""
    if labels.shape[1] == 1:
        return "; use y.ravel()"
    if labels.dtype.kind in "biuf" and bool((np.count_nonzero(labels, axis=1) == 1).all()):
        return "; for one-hot labels use y.argmax(axis=1)"
    return "; an image has one class here, so tasks with several labels an image cannot be distilled as they are"


def check_alike(name: str, splits: Sequence[str], sources: Sequence[np.ndarray | RowReader]) -> None:
    """Refuse splits whose images differ in shape or type from those of the first."""
    train = sources[0]
    for split, images in zip(splits[1:], sources[1:], strict=True):
        if train.shape[1:] != images.shape[1:]:
            raise JaxddError(
                f"{name}: training images have shape {train.shape[1:]} but {split} images {images.shape[1:]}"
            )
        if train.dtype != images.dtype:
            raise JaxddError(
                f"{name}: training images are {train.dtype} but {split} images {images.dtype}; "
                "uint8 is scaled by 1/255 and floats are not, so they must agree"
            )


def checked_classes(name: str, labels: list[np.ndarray], class_names: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the classes, after checking that labels and names agree and that every class can be learned."""
    highest = max(int(of_split.max()) for of_split in labels)
    num_classes = highest + 1 if class_names is None else len(class_names)
    if highest >= num_classes:
        raise JaxddError(
            f"{name}: label {highest} is out of range for {num_classes} class names (labels are 0..{num_classes - 1})"
        )
    if num_classes < 2:
        raise JaxddError(f"{name}: all labels are 0, a single class; a data set needs at least 2 classes")
    # np.unique, not bincount: a wild label must not ask for gigabytes.
    present = np.unique(labels[0])
    if len(present) < num_classes:
        gaps = np.flatnonzero(present != np.arange(len(present)))
        first = int(gaps[0]) if len(gaps) else len(present)
        raise JaxddError(
            f"{name}: class {first} has no training example; labels must be 0..{num_classes - 1} with every class "
            f"present, and {num_classes - len(present)} of {num_classes} are absent"
        )
    if class_names is None:
        return tuple(str(k) for k in range(num_classes))
    return tuple(str(k) for k in class_names)


def check_fraction(what: str, value: float, *, zero_allowed: bool) -> None:
    """Refuse what is no fraction, with what is."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not (0 <= value < 1) or (value == 0 and not zero_allowed):
        interval = "[0, 1)" if zero_allowed else "(0, 1)"
        raise JaxddError(f"{what} must be a fraction in {interval}, got {value!r}")


def cut(
    rows: np.ndarray, labels: np.ndarray, fraction: float, entropy: list[int], complaint: str
) -> tuple[np.ndarray, np.ndarray]:
    """Some rows of all `labels` in two parts, `(cut, rest)`, stratified by class; both keep their order."""
    labels = labels[rows]
    # Raw bits of a bit generator: unlike Generator.permutation, NumPy guarantees their stream for good.
    scores = np.random.PCG64(np.random.SeedSequence(entropy)).random_raw(len(rows))
    order = np.lexsort((scores, labels))
    counts = np.bincount(labels)
    take = np.minimum(counts - 1, np.maximum(1, np.floor(fraction * counts + 0.5).astype(int)))
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)  # within its class, as `order` has it
    chosen = np.zeros(len(rows), bool)
    chosen[order] = rank < np.repeat(take, counts)
    if not chosen.any():
        raise JaxddError(f"{complaint}, because every class has a single example")
    return rows[chosen], rows[~chosen]
