"""Images by the discrete cosine coefficients in which their class varies most."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd._numbers import by_class, of_each, whole
from jaxdd.errors import JaxddError
from jaxdd.synthetic.continued import Continued
from jaxdd.synthetic.parameterisation import Params, Rendered, SyntheticSet
from jaxdd.synthetic.pixels import pixels
from jaxdd.synthetic.resizing import map_sides
from jaxdd.types import Array, Key, RealData


def frequencies(
    ipc: int | Sequence[int], coefficients: int, *, init: str | Continued = "real", labels: str = "hard"
) -> SyntheticSet:
    """A few DCT coefficients of each image and channel (Shin et al. 2023, FreD).

    Each class and channel keeps the positions of the orthonormal DCT-II in which its real images have the largest
    variance; all other coefficients are zero. (The paper's code shares the positions among channels, and takes the
    variance over the few images that it starts from. Its DCT is not normalised: a rate r of its coefficients is
    `r / (4 h w)` here where both frequencies are above zero.) Params are
    `coefficients` `(m, coefficients, c)` of m images, by rising position; and frozen, but stored, `mask`
    `(classes, h, w, c)`, 1 at kept positions, and `labels`. The ledger: 32 bits a coefficient, an index of
    `ceil(log2(h * w))` bits a kept position.

    Args:
      ipc: images per class, as in `pixels`. For the bits of one plain image per class, about `h * w / coefficients`.
      coefficients: kept of each image and channel, at most h * w.
      init, labels: as in `pixels`; the coefficients start as those of such images.

    Raises:
      JaxddError: for a bad argument; (in `init`) more coefficients than an image has pixels.
    """
    whole(coefficients, "the number of coefficients")
    numbers = by_class(ipc, "images per class")
    base = pixels(numbers, init=init, labels=labels)

    def init_fn(key: Key, data: RealData) -> Params:
        _, height, width, _ = data.images.shape
        if coefficients > height * width:
            raise JaxddError(
                f"{coefficients} coefficients were asked for, but images of {height}x{width} have {height * width}."
            )
        variances = _variances(data)
        flat = variances.reshape(len(variances), height * width, -1)
        rank = jnp.argsort(jnp.argsort(-flat, axis=1), axis=1)
        mask = (rank < coefficients).astype(flat.dtype).reshape(variances.shape)
        start = base.init(key, data)
        spectrum = _dct(start["images"]).reshape(-1, *flat.shape[1:])
        kept = jnp.take_along_axis(spectrum, _positions(mask, coefficients, numbers), axis=1)
        return {"coefficients": kept, "mask": mask, "labels": start["labels"]}

    def render(params: Params) -> Rendered:
        kept, mask = params["coefficients"], params["mask"]
        _, height, width, channels = mask.shape
        positions = _positions(mask, coefficients, numbers)
        empty = jnp.zeros((len(kept), height * width, channels), kept.dtype)
        spectrum = jnp.put_along_axis(empty, positions, kept, axis=1, inplace=False)
        spectrum = spectrum.reshape(-1, height, width, channels)
        return Rendered(
            map_sides("yh,xw,myxc->mhwc", _dct_matrix(height), _dct_matrix(width), spectrum), params["labels"]
        )

    def num_bits(params: Params) -> dict[str, int]:
        classes, height, width, channels = params["mask"].shape
        index = math.ceil(math.log2(height * width))
        return {
            "coefficients": 32 * params["coefficients"].size,
            "mask": index * classes * channels * coefficients,
            "labels": base.num_bits({"images": params["coefficients"], "labels": params["labels"]})["labels"],
        }

    return base._replace(
        init=init_fn, render=render, num_bits=num_bits, decoder="frequencies", learned=("coefficients",)
    )


def _positions(mask: Array, coefficients: int, ipc: int | tuple[int, ...]) -> Array:
    """The kept positions of each of m images, rising: int `(m, coefficients, c)`."""
    flat = mask.reshape(len(mask), -1, mask.shape[3])
    of_rows = np.repeat(np.arange(len(mask)), of_each(ipc, len(mask), "images per class"))
    return jnp.argsort(-flat, axis=1, stable=True)[:, :coefficients][of_rows]


def _variances(data: RealData) -> Array:
    """The variance of each DCT coefficient within each class, `(classes, h, w, c)`; one class in memory at a time."""
    counts, starts = (jnp.asarray(values) for values in (data.labels.counts, data.labels.starts))
    places = jnp.arange(max(data.labels.counts))

    def of(label: Array) -> Array:
        members = data.labels.order[(starts[label] + places) % len(data.labels.order)]
        images = data.images[members]
        weights = (places < counts[label]) / counts[label].astype(images.dtype)
        mean = jnp.einsum("n,nhwc->hwc", weights, images)
        return jnp.einsum("n,nhwc->hwc", weights, _dct(images - mean[None]) ** 2)

    return jax.lax.map(of, jnp.arange(data.labels.num_classes))


def _dct(images: Array) -> Array:
    return map_sides("yh,xw,nhwc->nyxc", _dct_matrix(images.shape[1]), _dct_matrix(images.shape[2]), images)


@functools.cache
def _dct_matrix(size: int) -> np.ndarray:
    """The orthonormal DCT-II; its transpose is its inverse."""
    frequency = np.arange(size)[:, None]
    matrix = np.sqrt(2 / size) * np.cos(np.pi * frequency * (np.arange(size) + 0.5) / size)
    matrix[0] /= np.sqrt(2)
    return matrix
