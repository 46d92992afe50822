"""What is asked of data beyond their form: whether their pixels and names can be what somebody means by them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdd.errors import JaxddError

_LOG = logging.getLogger("jaxdd")
_DARK = 32  # no image of bytes is below an eighth of white everywhere, but one that means something else by its numbers
_APART = 10  # times: splits of one kind are not, in their largest pixel and in their mean as well
_LOOKED_AT = 64  # images of a block, at least, for the mean


class Pixels:
    """The range of some images, and the mean of what they are from 0, gathered a block at a time."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self.whole = True
        self._sum, self._count = 0.0, 0.0

    @property
    def size(self) -> float:
        return self._sum / max(1, self._count)

    def add(self, block: np.ndarray) -> None:
        """Images `(b, h, w, c)`, uint8 or float32."""
        self.whole = block.dtype == np.uint8
        self.low, self.high = min(self.low, float(block.min())), max(self.high, float(block.max()))
        some = block[:: max(1, len(block) // _LOOKED_AT)]  # enough for a mean, at no cost beside the hash
        self._sum += float(np.abs(some).sum(dtype=np.float64))
        self._count += some.size

    def facts(self) -> list[float]:
        """What `take` makes the same of another one; JSON-able."""
        return [self.low, self.high, self.whole, self._sum, self._count]

    def take(self, facts: Sequence[float]) -> None:
        """Be what another one was."""
        self.low, self.high, whole, self._sum, self._count = facts
        self.whole = bool(whole)

    def __str__(self) -> str:
        return f"[{self.low:g}, {self.high:g}]"


def check_pixels(name: str, splits: Mapping[str, Pixels]) -> None:
    """Refuse images of splits with different scales; warn of what is likely to be another scale than is taken.

    Args:
      name: of the data.
      splits: by their names, for training first, and then those that have a source of their own.
    """
    train, *others = splits.values()
    for split, other in zip(list(splits)[1:], others, strict=True):
        _check_scale(name, train, split, other)
    high = max(each.high for each in splits.values())
    if train.whole and 0 < high < _DARK:
        _LOG.warning(
            "%s: the pixels are whole numbers from %g to %g, and whole numbers are taken as 0 for black to 255 for "
            "white, so all images are nearly black: scale them to 0..255, or give floats in [0, 1].",
            name,
            min(each.low for each in splits.values()),
            high,
        )


def _check_scale(name: str, train: Pixels, split: str, other: Pixels) -> None:
    furthest = [max(abs(each.low), abs(each.high)) for each in (train, other)]
    if _apart(*furthest) and _apart(train.size, other.size):
        raise JaxddError(
            f"{name}: training pixels lie in {train} but {split} pixels in {other}; scale both alike, "
            "uint8 in 0..255 or floats in [0, 1]"
        )
    unit = [each for each in (train, other) if each.low >= 0 and each.high <= 1]
    centred = [each for each in (train, other) if each.low < -0.5]
    if len(unit) == len(centred) == 1 and not train.whole:
        _LOG.warning(
            "%s: training pixels lie in %s but %s pixels in %s: are both scaled alike?", name, train, split, other
        )


def _apart(one: float, other: float) -> bool:
    small, large = sorted((one, other))
    return small > 0 and small * _APART < large


def check_text(what: str, text: Any, remedy: str) -> None:
    """Refuse names that no file can hold: of bytes that are not UTF-8, Python makes lone surrogates."""
    try:
        str(text).encode()
    except UnicodeEncodeError:
        raise JaxddError(f"{what} is not valid UTF-8, so no file or report can hold it: {remedy}") from None
