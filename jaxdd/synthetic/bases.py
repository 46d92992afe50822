"""Images as linear combinations of shared, low-resolution bases."""

from __future__ import annotations

import math
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd._numbers import whole
from jaxdd.errors import JaxddError
from jaxdd.synthetic.parameterisation import Params, Rendered, SyntheticSet
from jaxdd.synthetic.resizing import bilinear, map_sides
from jaxdd.types import Key, RealData


def linear_bases(
    num_bases: int, rows_per_class: int | None = None, *, ipc: int | None = None, scale: int = 2
) -> SyntheticSet:
    """Bases shared by all classes, addressed by coefficients of each class (Deng & Russakovsky 2022).

    Every image is the sum of all bases weighted by its row of coefficients, upsampled bilinearly `scale` times and
    cropped at the lower and right border if its sides do not divide. Params are `bases`
    `(num_bases, ceil(h / scale), ceil(w / scale), c)` and `coefficients` `(classes, rows per class, num_bases)`,
    Xavier-uniform as matrices of one row a basis or an image; and frozen, which need not be stored, `labels` (one-hot;
    a row's place says its class) and the upsampling of either side, `upsample_height`
    `(h, ceil(h / scale))` and `upsample_width`.

    Args:
      num_bases: bases, shared by all classes.
      rows_per_class: images per class that are rendered; or else
      ipc: the budget that they fill, in plain images per class, see `rows_for_budget`.
      scale: how much smaller the bases' sides are.

    Raises:
      JaxddError: for a bad argument; (in `init`) a scale larger than the images, or a budget too small.
    """
    whole(num_bases, "the number of bases")
    if (rows_per_class is None) == (ipc is None):
        raise JaxddError("linear_bases takes either rows_per_class or ipc, the budget that they fill.")
    if ipc is None:
        whole(rows_per_class, "rows per class")
    else:
        whole(ipc, "images per class")
    whole(scale, "the scale of bases")
    xavier = jax.nn.initializers.glorot_uniform()

    def init(key: Key, data: RealData) -> Params:
        _, height, width, channels = data.images.shape
        if scale > min(height, width):
            raise JaxddError(f"images of {height}x{width} pixels have no bases {scale} times smaller.")
        dtype, classes = data.images.dtype, data.labels.num_classes
        if ipc is None:
            rows = cast(int, rows_per_class)
        else:
            rows = rows_for_budget(ipc, num_bases, (height, width, channels), classes, scale=scale)
        low = (math.ceil(height / scale), math.ceil(width / scale), channels)
        key_bases, key_coefficients = jax.random.split(key)
        bases = xavier(key_bases, (num_bases, math.prod(low)), dtype)
        coefficients = xavier(key_coefficients, (classes * rows, num_bases), dtype)
        return {
            "bases": bases.reshape(num_bases, *low),
            "coefficients": coefficients.reshape(classes, rows, num_bases),
            "labels": jax.nn.one_hot(np.repeat(np.arange(classes), rows), classes, dtype=dtype),
            "upsample_height": jnp.asarray(bilinear(scale * low[0], low[0])[:height], dtype),
            "upsample_width": jnp.asarray(bilinear(scale * low[1], low[1])[:width], dtype),
        }

    def render(params: Params) -> Rendered:
        bases = params["bases"]
        weights = params["coefficients"].reshape(-1, len(bases))
        combined = jnp.einsum("mk,khwc->mhwc", weights, bases, precision="highest")
        sides = jax.lax.stop_gradient((params["upsample_height"], params["upsample_width"]))
        return Rendered(map_sides("hy,wx,myxc->mhwc", *sides, combined), params["labels"])

    return SyntheticSet(
        init=init,
        render=render,
        project=lambda params: params,
        num_bits=lambda params: {name: 32 * params[name].size for name in ("bases", "coefficients")},
        decoder="linear_bases",
        label_convention="hard",
        label_regime="hard",
        learned=("bases", "coefficients"),
    )


def rows_for_budget(
    ipc: int, num_bases: int, image_shape: tuple[int, int, int], num_classes: int, *, scale: int = 2
) -> int:
    """Rows per class for which bases and coefficients cost at most as many bits as `ipc` plain images per class.

    Both at 32 bits an entry. Raises JaxddError for a bad argument, or if the budget does not pay for one row.
    """
    counts = {"images per class": ipc, "the number of bases": num_bases, "classes": num_classes}
    for what, value in {**counts, "the scale of bases": scale}.items():
        whole(value, what)
    height, width, channels = image_shape
    budget = ipc * num_classes * math.prod(image_shape)
    shared = num_bases * math.ceil(height / scale) * math.ceil(width / scale) * channels
    rows = (budget - shared) // (num_classes * num_bases)
    if rows < 1:
        raise JaxddError(
            f"{ipc} images per class are {budget} numbers, of which {num_bases} bases take {shared}: "
            "not enough is left for one row of coefficients per class, so use fewer or smaller bases."
        )
    return rows
