"""Data sets at another size of image."""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np

from jaxdd.data.dataset import Dataset, Split
from jaxdd.data.transforms import blocks, pixel_space
from jaxdd.errors import JaxddError
from jaxdd.types import HostArray


def resized(dataset: Dataset, image_shape: tuple[int, int, int]) -> Dataset:
    """A data set whose images `(h, w, c)` have this shape, so that networks for another one take them.

    They are interpolated bilinearly in pixel space, `jax.image.resize`, which smooths images that become smaller, and
    are float32 then; uint8 sources lie in [0, 1]. A data set of that shape passes through.

    Raises:
      JaxddError: for another number of channels, or images that stay on the host.
    """
    if dataset.image_shape == tuple(image_shape):
        return dataset
    if dataset.image_shape[2] != image_shape[2]:
        raise JaxddError(
            f"images of {dataset.name} have {dataset.image_shape[2]} channels and {image_shape[2]} are needed: take a "
            "data set with as many."
        )

    def of_split(split: Split) -> Split:
        if isinstance(split.images, HostArray):
            raise JaxddError(f"images of {dataset.name} are resized in memory: load the data without streaming.")
        out = np.empty((len(split), *image_shape), np.float32)
        for rows, block in blocks(split.images):
            out[rows] = _resize(pixel_space(block), image_shape)
        return dataclasses.replace(split, images=out)

    splits = {name: of_split(getattr(dataset, name)) for name in ("train", "validation", "test")}
    return dataclasses.replace(dataset, **splits)


@functools.partial(jax.jit, static_argnames="image_shape")
def _resize(images: jax.Array, image_shape: tuple[int, int, int]) -> jax.Array:
    return jax.image.resize(images, (len(images), *image_shape), "bilinear")
