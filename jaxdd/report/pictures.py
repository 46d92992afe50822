"""Distilled images as pictures for people: 8 bits, clipped to the range in which real pixels lie, or to less of it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from jaxdd.errors import JaxddError
from jaxdd.report.facts import class_names, hard_labels, pixel_range
from jaxdd.synthetic import DistilledDataset

if TYPE_CHECKING:
    from PIL import Image

# More images of a class than this make a picture that nobody reads.
SHOWN_PER_CLASS = 20
_CELL = 72  # pixels that an image should roughly take
_GAP, _BETWEEN, _MARGIN = 4, 12, 16
_FONT, _NAME, _NAME_WIDTH, _LONGEST = 16, 22, 150, 200  # the height of names, their width, and letters that are read
_PAPER, _INK = "white", "#1f2328"


@dataclasses.dataclass(frozen=True)
class ClassImages:
    """The images of one class that are shown.

    Attributes:
      label: number of the class.
      name: of the class.
      indices: their places in the set, int `(k,)`.
      hidden: how many more there are.
    """

    label: int
    name: str
    indices: np.ndarray
    hidden: int


def by_class(dataset: DistilledDataset) -> list[ClassImages]:
    """The first `SHOWN_PER_CLASS` images of every class that has any, in the order of the classes."""
    labels, names = hard_labels(dataset), class_names(dataset)
    groups = []
    for label in np.unique(labels):
        indices = np.flatnonzero(labels == label)
        hidden = max(0, len(indices) - SHOWN_PER_CLASS)
        groups.append(ClassImages(int(label), names[label], indices[:SHOWN_PER_CLASS], hidden))
    return groups


def shown_range(dataset: DistilledDataset) -> tuple[float, float]:
    """What is black and white in a picture of this set.

    The pixel range of the source, except for a set that hardly uses it: if 99 % of the values take less than three
    quarters of it, that part alone is shown, the same for all images, or the picture would be almost black.
    """
    low, high = pixel_range(dataset)
    darkest, brightest = np.nanquantile(dataset.pixels(), (0.005, 0.995)) if dataset.images.size else (low, high)
    darkest, brightest = max(low, float(darkest)), min(high, float(brightest))
    return (darkest, brightest) if 0.01 < (brightest - darkest) / (high - low) < 0.75 else (low, high)


def to_8_bit(pixels: np.ndarray, black_white: tuple[float, float]) -> np.ndarray:
    """Pixels as uint8 of the same shape: black and white become 0 and 255, what lies outside is clipped."""
    low, high = black_white
    scaled = (np.nan_to_num(pixels, nan=low) - low) / (high - low)
    return np.rint(255 * scaled.clip(0, 1)).astype(np.uint8)


def clipped_share(dataset: DistilledDataset, black_white: tuple[float, float]) -> float:
    """The share of values that `to_8_bit` clips by more than half a grey level."""
    low, high = black_white
    tolerance = (high - low) / 510
    pixels = dataset.pixels()
    inside = (pixels >= low - tolerance) & (pixels <= high + tolerance)
    return 1 - float(inside.mean())


def enlargement(dataset: DistilledDataset) -> int:
    """How many times an image is enlarged so that it can be seen: 84 pixels for 28, 64 for 32."""
    return max(1, round(_CELL / max(dataset.images.shape[1:3])))


def to_image(pixels: np.ndarray) -> Image.Image:
    """One uint8 image `(h, w, c)`: grey or RGB, and grey by the mean over channels where there are neither 1 nor 3."""
    from PIL import Image

    if pixels.shape[-1] == 3:
        return Image.fromarray(pixels)
    grey = pixels[..., 0] if pixels.shape[-1] == 1 else np.rint(pixels.mean(-1)).astype(np.uint8)
    return Image.fromarray(grey)


def grid_image(dataset: DistilledDataset, *, columns_per_class: int = 10, scale: int | None = None) -> Image.Image:
    """The distilled images by class, the name of each class above its images, which lie in rows.

    Pixels are clipped to the pixel range of the source data, so a picture shows the brightness that the file holds;
    only of a set that uses little of that range the contrast is raised, for all images alike. Where a class has few
    images, several classes share a line. At most 20 images a class are shown.

    Args:
      columns_per_class: images in a row, at most.
      scale: by which factor every pixel is enlarged, without smoothing; by default an image takes some 72 pixels.

    Raises:
      JaxddError: for arguments below 1, or a set without images.
    """
    from PIL import Image, ImageDraw, ImageFont

    scale = enlargement(dataset) if scale is None else scale
    if min(columns_per_class, scale) < 1:
        raise JaxddError(f"columns_per_class and scale must be at least 1, got {columns_per_class} and {scale}.")
    groups = by_class(dataset)
    if not groups:
        raise JaxddError("this distilled set holds no images to show.")
    height, width = (scale * size for size in dataset.images.shape[1:3])
    font = ImageFont.load_default(size=_FONT)
    across = min(columns_per_class, max(len(group.indices) for group in groups))
    names = [_shortened(group.name, font, max(_NAME_WIDTH, across * width)) for group in groups]
    widest = max(int(np.ceil(font.getlength(name))) for name in names)
    # Classes side by side: as many as make a line of about that many images, names and gaps between them included.
    blocks = min(len(groups), max(1, columns_per_class // (across + 1)))
    block = max(across * (width + _GAP) - _GAP, widest) + _BETWEEN
    lines = [groups[start : start + blocks] for start in range(0, len(groups), blocks)]
    heights = [_NAME + (height + _GAP) * max(-(-len(g.indices) // across) for g in line) + _BETWEEN for line in lines]

    size = (blocks * block - _BETWEEN + 2 * _MARGIN, sum(heights) - _BETWEEN - _GAP + 2 * _MARGIN)
    picture = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(picture)
    pixels = to_8_bit(dataset.pixels(), shown_range(dataset))
    top = _MARGIN
    for number, line in enumerate(lines):
        for place, group in enumerate(line):
            left = _MARGIN + place * block
            draw.text((left, top), names[number * blocks + place], _INK, font)
            for position, index in enumerate(group.indices):
                row, column = divmod(position, across)
                tile = to_image(pixels[index]).resize((width, height), Image.Resampling.NEAREST)
                picture.paste(tile, (left + column * (width + _GAP), top + _NAME + row * (height + _GAP)))
        top += heights[number]
    return picture


def _shortened(name: str, font, room: int) -> str:
    """A name that fits above the images, on one line."""
    name = " ".join(name[:_LONGEST].split())
    if font.getlength(name) <= room:
        return name
    while name and font.getlength(f"{name}...") > room:
        name = name[:-1]
    return f"{name.rstrip()}..."
