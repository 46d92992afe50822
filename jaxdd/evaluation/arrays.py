"""Test sets in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxdd.errors import JaxddError
from jaxdd.training.seen import BLOCK
from jaxdd.types import Distilled, Examples, HostArray


def blocks(data: Examples) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cut data, on host or device, into blocks of equal size; the last is filled up with images of the class -1.

    Equal sizes mean that every block runs the same compiled program, and no prediction is ever -1. Images that stay on
    the host are read block by block.
    """
    images: Any = data.images if isinstance(data.images, HostArray) else np.asarray(data.images)
    labels = np.asarray(data.labels)
    size = min(BLOCK, len(images))
    for start in range(0, len(images), size):
        missing = max(0, start + size - len(images))
        yield (
            np.pad(images[start : start + size], ((0, missing), (0, 0), (0, 0), (0, 0))),
            np.pad(labels[start : start + size], (0, missing), constant_values=-1),
        )


def every(stride: int, data: Examples) -> Examples:
    """Each `stride`-th example; images that stay on the host stay there."""
    images: Any = data.images
    of_host = isinstance(images, HostArray)
    images = images.take(np.arange(0, len(images), stride)) if of_host else images[::stride]
    return Examples(images, data.labels[::stride])


def rows_of(array: Any, rows: Any) -> Any:
    """`array[rows]`; where it lies on a device by one program, of a handful of operations."""
    return _rows_of(array, rows) if isinstance(array, jax.Array) else array[rows]


@jax.jit
def _rows_of(array, rows):
    return array[rows]


def check_has_classes(distilled: Distilled) -> None:
    """Refuse a set that no accuracy can be measured of.

    Raises:
      JaxddError: for labels that are features, and images that are still as their source has them, uint8.
    """
    if distilled.label_convention == "features":
        raise JaxddError(
            "this set's labels are features, which know no classes: pretrain networks on it and measure these "
            "(`evaluation.pretrain`, `evaluation.transfer`)."
        )
    if getattr(distilled.images, "dtype", None) == np.uint8:
        raise JaxddError(
            "this set's images are uint8, as their source has them, and not what networks see: apply the data's "
            "transform, as `DistilledDataset.distilled` does."
        )


def check_in_memory(images: Any, what: str) -> None:
    """Refuse images that stay on the host for what takes all of them at once."""
    if isinstance(images, HostArray):
        raise JaxddError(f"{what} need all real images in memory; load the data without streaming for that.")
