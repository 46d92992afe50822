"""Differentiable siamese augmentation (Zhao & Bilen 2021), FRePo's, and crops that are resized.

All operations of a strategy are one pipeline, `colour -> one affine resampling -> cutout`, in which whatever was not
drawn has the parameters of the identity. So the cost does not depend on how many operations there are, under `vmap`
neither, and the identity, flips and shifts by whole pixels give the very bits of the input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxdd._jax import Tracer
from jaxdd.data.augmentation.contract import Augmentation
from jaxdd.errors import JaxddError, unknown
from jaxdd.types import Array, Key

DSA = "color_crop_cutout_flip_scale_rotate"
"""The strategy of DSA for Fashion-MNIST, CIFAR-10 and CIFAR-100."""
DSA_DIGITS = "color_crop_cutout_scale_rotate"
"""The same for digits (MNIST, SVHN), which must not be mirrored."""
FREPO = "flip_color_crop_rotate_translate_cutout"
"""What FRePo's networks are evaluated with; "flip_" is left out for MNIST and Fashion-MNIST."""

# Up to this many pixels one resampling for all images is a matrix product: its gradient is one too, the same bits at
# every call, where that of a gather adds up in any order on GPUs. Beyond it the matrix (pixels squared) is too large.
_MATRIX_PIXELS = 32 * 32


class Draw(NamedTuple):
    """Parameters of one call, for `n` images or (n = 1) for any number of them. Sizes are in images, not in pixels.

    Attributes:
      brightness: `(n,)`, what is added to every pixel.
      saturation: `(n,)`, the factor on the distance from the mean of a pixel's channels.
      contrast: `(n,)`, the factor on the distance from the image's mean.
      matrix: `(n, 2, 2)`, rows before columns: where a place of the result lies in the image, both seen from the
        centre and in half sizes.
      shift: `(n, 2)`, added to that, as fractions of height and width.
      hole: `(n, 2)`, where a hole lies among all places along height and width, in [0, 1), or -1 for none.
    """

    brightness: Array
    saturation: Array
    contrast: Array
    matrix: Array
    shift: Array
    hole: Array


class _Family(NamedTuple):
    """One publication's operations and how they meet pixels."""

    operations: dict[str, Callable[[Key, int], dict[str, Array]]]
    """By name, `(key, count)` to those fields of a `Draw` that it sets."""
    pixels: Callable[[Array, int], Array]
    """`(fraction, size)` to a shift in pixels."""
    hole: Callable[[Array, int], tuple[Array, int]]
    """`(place, size)` to the first row or column of a hole, and how many there are."""
    edges: bool
    """Whether pixels outside of the image are those at its edge, else zero."""


def siamese(strategy: str = DSA, *, always: str = "") -> Augmentation:
    """Differentiable siamese augmentation (Zhao & Bilen 2021).

    Each call draws one operation of the strategy, uniformly, for all images; its parameters are drawn for each of the
    `count` images. With `u` uniform in [0, 1), `h` and `w` the image's size:

    * `color`: brightness `x + u - 0.5`, then saturation `(x - m) 2u + m` with `m` the mean of the pixel's channels
      (nothing for one channel), then contrast `(x - m)(u + 0.5) + m` with `m` the mean of the image;
    * `crop`: a shift by -s to s whole pixels along each axis, `s = int(h / 8 + 0.5)`, zero fill;
    * `cutout`: a zero box of `int(h / 2 + 0.5)` rows by `int(w / 2 + 0.5)` columns around a centre anywhere;
    * `flip`: left to right with probability 1/2;
    * `scale`: by 1/1.2 to 1.2 along each axis by itself;
    * `rotate`: by -15 to 15 degrees, in coordinates relative to the image's size.

    `scale` and `rotate` interpolate bilinearly between centres of pixels (`align_corners=False`, as PyTorch does from
    1.3 on; the original's 1.2 used the corners), zero fill.

    The gradient in the images of a draw for each image, or of images larger than 32 x 32, is a scatter: on GPUs ask
    XLA for deterministic operations where the same bits matter.

    Args:
      strategy: operations joined by "_"; "" or "none" is the identity.
      always: those of them that are applied at every call; one of the others is drawn besides. IDC and NCFM (Kim et
        al. 2022; Wang et al. 2025) always apply flip, color and cutout. Colour comes first, then flip, scale, rotate
        and crop in one resampling, then cutout.

    Raises:
      JaxddError: for an unknown or repeated operation, or one in `always` that is not in the strategy.
    """
    return _augmentation(strategy, always, _DSA_FAMILY)


def frepo(strategy: str = FREPO) -> Augmentation:
    """The augmentation of FRePo's and RCIG's evaluation (Zhou et al. 2022; Loo et al. 2023), for square images.

    One operation is drawn as by `siamese`, with a parameter for each image: `flip` as there; `color`: brightness
    -0.25 to 0.25, contrast and saturation log-uniform in [exp(-1/4), exp(1/4)]; `crop`: a zoom log-uniform in
    [0.8, 1.25] at a place as far off the centre as it leaves room for; `rotate` by -15 to 15 degrees; `translate` by up
    to 1/8 of the size, by fractions of a pixel too; `cutout`: a zero box of a quarter of each side inside the image.
    Interpolation is bilinear, with the nearest pixel of the image outside of it.

    Raises:
      JaxddError: as `siamese`.
    """
    return _augmentation(strategy, "", _FREPO_FAMILY)


def resized_crop(
    scale: tuple[float | Array, float] = (0.08, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3), *, flip: bool = True
) -> Augmentation:
    """A box of the image, resized to all of it, as torchvision's RandomResizedCrop takes it, and a flip of one in two.

    The box has a share of the area uniform in `scale` and an aspect log-uniform in `ratio`, cut off at the image's
    sides, at a place that is uniform among those where it fits. Sizes and places are no whole pixels, and bilinear
    interpolation sees past the edge of the box, where torchvision's sees its edge twice.

    Args:
      scale: the smallest share may be traced: `resized_crop((crop_curriculum("cosine")(t / steps), 1.0))`.
      ratio: height to width and the other way round.
      flip: with the flip.

    Raises:
      JaxddError: if the shares of the area are not increasing within (0, 1], or the aspects not positive.
    """
    known = not isinstance(scale[0], Tracer)
    if (known and not 0 < scale[0] <= scale[1] <= 1) or not 0 < ratio[0] <= ratio[1]:
        raise JaxddError(f"a crop needs shares 0 < low <= high <= 1 and aspects 0 < low <= high, got {scale}, {ratio}.")

    def crop(key: Key, count: int) -> dict[str, Array]:
        key_area, key_aspect, key_place = jax.random.split(key, 3)
        area = jax.random.uniform(key_area, (count,), minval=scale[0], maxval=scale[1])
        logs = jax.random.uniform(key_aspect, (count,), minval=math.log(ratio[0]), maxval=math.log(ratio[1]))
        sides = jnp.minimum(jnp.sqrt(area[:, None] * jnp.exp(jnp.stack([-logs, logs], -1))), 1)
        place = jax.random.uniform(key_place, (count, 2), minval=-0.5, maxval=0.5)
        return {"matrix": _diagonal(sides[:, 0], sides[:, 1]), "shift": place * (1 - sides)}

    family = _FREPO_FAMILY._replace(operations={"crop": crop, "flip": _flip})
    return _augmentation("crop_flip" if flip else "crop", "crop_flip" if flip else "crop", family)


def _augmentation(strategy: str, always: str, family: _Family) -> Augmentation:
    operations, certain = _operations(strategy, family), _operations(always, family)
    for operation in certain:
        if operation not in operations:
            raise JaxddError(f"operation {operation!r} is always applied but not in the strategy {strategy!r}.")
    drawn = [operation for operation in operations if operation not in certain]

    def draw(key: Key, count: int) -> Draw:
        key_choice, key_parameters = jax.random.split(key)
        choice = jax.random.randint(key_choice, (), 0, max(1, len(drawn)))
        result = _identity(count)
        for k, operation in enumerate(certain + drawn):
            parameters = family.operations[operation](jax.random.fold_in(key_parameters, k), count)
            chosen = True if operation in certain else choice == drawn.index(operation)
            result = _compose(result, parameters, chosen)
        return result

    def apply(images: Array, draw: Draw) -> Array:
        if len(draw.shift) not in (1, len(images)):
            raise JaxddError(
                f"a draw for {len(draw.shift)} images cannot be applied to {len(images)}; draw 1 or as many."
            )
        if "color" in operations:
            images = _colour(images, draw)
        if any(operation not in ("color", "cutout") for operation in operations):
            images = _resample(images, draw, family)
        if "cutout" in operations:
            images = _cutout(images, draw, family)
        return images

    name = "_".join(operations) or "none"
    return Augmentation(draw, apply, f"{name} (always {'_'.join(certain)})" if certain else name)


def _operations(strategy: str, family: _Family) -> list[str]:
    operations = [] if strategy in ("", "none") else strategy.split("_")
    for operation in operations:
        if operation not in family.operations:
            raise unknown("operation of augmentation", operation, family.operations)
        if operations.count(operation) > 1:
            raise JaxddError(f"operation {operation!r} occurs twice in the strategy {strategy!r}.")
    return operations


def _identity(count: int) -> Draw:
    zeros, ones = jnp.zeros(count), jnp.ones(count)
    matrix = jnp.broadcast_to(jnp.eye(2), (count, 2, 2))
    return Draw(zeros, ones, ones, matrix, jnp.zeros((count, 2)), jnp.full((count, 2), -1.0))


def _compose(draw: Draw, parameters: dict[str, Array], chosen: bool | Array) -> Draw:
    """The draw with one more operation, if it is chosen; of two operations none but the matrix set the same field."""
    fields = {}
    for name, value in parameters.items():
        before = getattr(draw, name)
        if name == "matrix":  # in elementary operations: a matrix product on a GPU would round the cosines
            value = (before[:, :, :, None] * value[:, None, :, :]).sum(2)
        fields[name] = jnp.where(chosen, value, before)
    return draw._replace(**fields)


def _diagonal(rows: Array, columns: Array) -> Array:
    """`(n, 2, 2)` from two `(n,)`."""
    zeros = jnp.zeros_like(rows)
    return jnp.stack([jnp.stack([rows, zeros], -1), jnp.stack([zeros, columns], -1)], -2)


def _flip(key: Key, count: int) -> dict[str, Array]:
    mirrored = jax.random.bernoulli(key, 0.5, (count,))
    return {"matrix": _diagonal(jnp.ones(count), jnp.where(mirrored, -1.0, 1.0))}


def _rotate(key: Key, count: int) -> dict[str, Array]:
    angle = jnp.deg2rad(jax.random.uniform(key, (count,), minval=-15.0, maxval=15.0))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return {"matrix": jnp.stack([jnp.stack([cos, sin], -1), jnp.stack([-sin, cos], -1)], -2)}


def _hole(key: Key, count: int) -> dict[str, Array]:
    return {"hole": jax.random.uniform(key, (count, 2))}


def _dsa_color(key: Key, count: int) -> dict[str, Array]:
    brightness, saturation, contrast = jax.random.uniform(key, (3, count))
    return {"brightness": brightness - 0.5, "saturation": 2 * saturation, "contrast": contrast + 0.5}


def _dsa_crop(key: Key, count: int) -> dict[str, Array]:
    return {"shift": jax.random.uniform(key, (count, 2), minval=-0.125, maxval=0.125)}


def _dsa_scale(key: Key, count: int) -> dict[str, Array]:
    return {"matrix": _diagonal(*jax.random.uniform(key, (2, count), minval=1 / 1.2, maxval=1.2))}


def _dsa_pixels(fraction: Array, size: int) -> Array:
    largest = int(size * 0.125 + 0.5)
    return jnp.floor((fraction * 8 + 1) / 2 * (2 * largest + 1)) - largest


def _dsa_hole(place: Array, size: int) -> tuple[Array, int]:
    side = int(size * 0.5 + 0.5)
    return jnp.floor(place * (size + 1 - side % 2)) - side // 2, side


def _frepo_color(key: Key, count: int) -> dict[str, Array]:
    brightness, saturation, contrast = jax.random.uniform(key, (3, count), minval=-0.25, maxval=0.25)
    return {"brightness": brightness, "saturation": jnp.exp(saturation), "contrast": jnp.exp(contrast)}


def _frepo_crop(key: Key, count: int) -> dict[str, Array]:
    key_zoom, key_place = jax.random.split(key)
    zoom = jnp.exp(jax.random.uniform(key_zoom, (count,), minval=math.log(0.8), maxval=math.log(1.25)))
    place = jax.random.uniform(key_place, (count, 2), minval=-0.5, maxval=0.5)
    return {"matrix": _diagonal(1 / zoom, 1 / zoom), "shift": place * (jnp.abs(zoom - 1) / zoom)[:, None]}


def _frepo_hole(place: Array, size: int) -> tuple[Array, int]:
    side = size // 4
    return jnp.floor(place * (size - side + 1)), side


_DSA_FAMILY = _Family(
    {"color": _dsa_color, "crop": _dsa_crop, "cutout": _hole, "flip": _flip, "scale": _dsa_scale, "rotate": _rotate},
    pixels=_dsa_pixels,
    hole=_dsa_hole,
    edges=False,
)
_FREPO_FAMILY = _Family(
    {
        "flip": _flip,
        "color": _frepo_color,
        "crop": _frepo_crop,
        "rotate": _rotate,
        "translate": _dsa_crop,
        "cutout": _hole,
    },
    pixels=lambda fraction, size: fraction * size,
    hole=_frepo_hole,
    edges=True,
)


OPERATIONS = tuple(_DSA_FAMILY.operations)
"""Those of `siamese`."""


def _colour(images: Array, draw: Draw) -> Array:
    """Saturation and contrast keep each other's means and commute; as corrections they are exact at the identity."""
    brightness, saturation, contrast = (
        parameter.astype(images.dtype)[:, None, None, None]
        for parameter in (draw.brightness, draw.saturation, draw.contrast)
    )
    mean = images.mean((1, 2, 3), keepdims=True)
    if images.shape[-1] > 1:
        images = images + (saturation - 1) * (images - images.mean(-1, keepdims=True))
    return images + (contrast - 1) * (images - mean) + brightness


def _cutout(images: Array, draw: Draw, family: _Family) -> Array:
    inside = []
    for axis in (0, 1):
        size = images.shape[1 + axis]
        first, side = family.hole(draw.hole[:, axis], size)
        place = jnp.arange(size, dtype=first.dtype)[None] - first[:, None]
        inside.append((place >= 0) & (place < side))  # without a hole (place -1) it lies outside of the image
    hole = inside[0][:, :, None, None] & inside[1][:, None, :, None]
    return jnp.where(hole, jnp.zeros((), images.dtype), images)


def _resample(images: Array, draw: Draw, family: _Family) -> Array:
    """Bilinear samples at an affine map of the places of the result."""
    height, width = images.shape[1:3]
    shift = [family.pixels(draw.shift[:, axis], size) for axis, size in enumerate((height, width))]

    def resampled(images: Array) -> Array:
        rows, columns = _places(draw.matrix, shift, height, width)
        if family.edges:
            rows, columns = jnp.clip(rows, 0, height - 1), jnp.clip(columns, 0, width - 1)
        if len(rows) == 1 and height * width <= _MATRIX_PIXELS:
            return _by_matrix(images, rows[0], columns[0])
        return _by_gather(images, rows, columns)

    moved = (draw.matrix != jnp.eye(2)[None]).any() | (shift[0] != 0).any() | (shift[1] != 0).any()
    return lax.cond(moved, resampled, lambda images: images, images)


def _places(matrix: Array, shift: list[Array], height: int, width: int) -> tuple[Array, Array]:
    """Where in the image each place of the result lies, `(n, height, width)` each, in pixels from the first centre."""
    matrix = matrix[:, :, :, None, None]
    middle = (height - 1) / 2, (width - 1) / 2
    y, x = (jnp.arange(size, dtype=matrix.dtype) - m for size, m in zip((height, width), middle, strict=True))
    y, x = y[None, :, None], x[None, None, :]
    rows = matrix[:, 0, 0] * y + (matrix[:, 0, 1] * (height / width)) * x + shift[0][:, None, None] + middle[0]
    columns = (matrix[:, 1, 0] * (width / height)) * y + matrix[:, 1, 1] * x + shift[1][:, None, None] + middle[1]
    return rows, columns


def _weights(places: Array, size: int) -> Array:
    """Of the `size` pixels of an axis in the bilinear sample at each place, `(n, size)`; all zero far outside."""
    return jax.nn.relu(1 - jnp.abs(places[:, None] - jnp.arange(size, dtype=places.dtype)[None]))


def _by_matrix(images: Array, rows: Array, columns: Array) -> Array:
    """The same places `(height, width)` for all images, as one matrix product over pixels."""
    count, height, width, channels = images.shape
    by_row, by_column = _weights(rows.ravel(), height), _weights(columns.ravel(), width)
    weights = (by_row[:, :, None] * by_column[:, None, :]).reshape(height * width, height * width)
    flat = images.reshape(count, height * width, channels)
    return jnp.einsum("pq,nqc->npc", weights.astype(images.dtype), flat, precision="highest").reshape(images.shape)


def _by_gather(images: Array, rows: Array, columns: Array) -> Array:
    """Places `(n or 1, height, width)`, as four gathers."""
    height, width, channels = images.shape[1:]

    def one(image: Array, rows: Array, columns: Array) -> Array:
        flat, result = image.reshape(height * width, channels), 0.0
        for row in (jnp.floor(rows), jnp.floor(rows) + 1):
            for column in (jnp.floor(columns), jnp.floor(columns) + 1):
                inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
                weight = (1 - jnp.abs(rows - row)) * (1 - jnp.abs(columns - column)) * inside
                index = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
                pixels = flat.at[index.astype(jnp.int32)].get(mode="promise_in_bounds")
                result = result + weight[..., None].astype(image.dtype) * pixels
        return result

    shared = len(rows) == 1
    axes = (0, None, None) if shared else (0, 0, 0)
    return jax.vmap(one, in_axes=axes)(images, *((rows[0], columns[0]) if shared else (rows, columns)))
