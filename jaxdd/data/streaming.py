"""Images that stay in their files and are read when a step needs them, and the one scan that checks them all."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxdd._files import Digest, digest
from jaxdd.data.plausible import Pixels
from jaxdd.data.transforms import block_rows, value_counts
from jaxdd.errors import JaxddError
from jaxdd.types import HostArray


class Reading(NamedTuple):
    """How images that lie in files are read."""

    stream: bool = False
    """Leave them where they are."""
    cache: bool = False
    """Keep pictures as they are decoded, see `decoded`."""


class Notes(Protocol):
    """Where what a scan has found is kept for the next one of the same images."""

    def recall(self, key: str) -> dict[str, Any] | None: ...

    def keep(self, key: str, facts: Mapping[str, Any]) -> None: ...


class RowReader(Protocol):
    """Images, uint8 or float32, that are read by rows."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The images of some rows, integers `(b,)`; raises a JaxddError that names what cannot be read."""
        ...

    def fill(self, rows: np.ndarray, out: np.ndarray) -> None:
        """As `read`, into an array `(b, height, width, channels)`."""
        ...

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """All images in order, some at a time, with their rows; raises a JaxddError if any are not as they must be."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
    """An array of any numeric type that is never copied as a whole.

    Attributes:
      what: it is called in messages.
      array: `(n, h, w, c)`, integers or floats.
      file: that it is mapped from, and its size in bytes: who reads beyond the end of a file that was cut is killed.
    """

    what: str
    array: np.ndarray
    file: tuple[str, int] | None = None

    @classmethod
    def of(cls, what: str, array: np.ndarray, mapped: Any) -> ArraySource:
        """`array`, a view of `mapped` if that is a `np.memmap`."""
        name = getattr(mapped, "filename", None)
        if name is None or not os.path.exists(name):
            return cls(what, array)
        return cls(what, array, (str(name), os.path.getsize(name)))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32 if self.array.dtype.kind == "f" else np.uint8)

    def read(self, rows: np.ndarray) -> np.ndarray:
        self._check_file()
        raw = self.array[rows]
        images = self.converted(raw)
        if raw.dtype == np.uint8:
            return images
        floats = self.dtype == np.float32
        good = (np.isfinite(images) if floats else images == raw).all(axis=(1, 2, 3))
        if not good.all():
            kind = "a NaN or infinite pixel" if floats else "a pixel outside 0..255"
            raise JaxddError(
                f"image {rows[np.argmin(good)]} of {self.what} has {kind}, which it had not when the data were loaded"
            )
        return images

    def fill(self, rows: np.ndarray, out: np.ndarray) -> None:
        out[:] = self.read(rows)

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        low = high = int(self.array[0].flat[0]) if self.array.dtype.kind in "iu" else 0
        pixels = bad = first = 0
        for rows in block_rows(self.shape):
            raw = self.array[rows]
            images = self.converted(raw)
            if self.dtype == np.float32:
                finite = np.isfinite(images)
                wrong = np.flatnonzero(~finite.all(axis=(1, 2, 3)))
                if len(wrong):
                    first = first if bad else rows.start + int(wrong[0])
                    pixels, bad = pixels + int((~finite[wrong]).sum()), bad + len(wrong)
            elif raw.dtype != np.uint8:
                low, high = min(low, int(raw.min())), max(high, int(raw.max()))
            yield rows, images
        if bad:
            raise JaxddError(
                f"{self.what} has {pixels} NaN or infinite {'pixel' if pixels == 1 else 'pixels'} in {bad} of "
                f"{len(self.array)} images, first in image {first}"
            )
        if low < 0 or high > 255:
            raise JaxddError(
                f"{self.what} has {self.array.dtype} pixels from {low} to {high}; integers must lie in 0..255, "
                "or convert them to float32"
            )

    def converted(self, raw: np.ndarray) -> np.ndarray:
        """Some of the array as uint8 or float32, without a copy where it is that already."""
        with np.errstate(over="ignore"):  # what does not fit float32 becomes infinite, and is counted
            return np.ascontiguousarray(raw, self.dtype)

    def _check_file(self) -> None:
        if self.file is None:
            return
        name, size = self.file
        try:
            now = os.path.getsize(name)
        except OSError as error:
            raise JaxddError(f"{name} has vanished since the data were loaded") from error
        if now != size:
            raise JaxddError(f"{name} has {now} bytes, but had {size} when the data were loaded")


def scan(
    source: Sequence[tuple[RowReader, np.ndarray]],
    parts: Sequence[tuple[int, np.ndarray]],
    pixels: Sequence[Pixels],
    notes: Notes | None = None,
) -> tuple[str, list[HostArray]]:
    """Read everything once, a block at a time: check and hash it, and cut it into parts that are read on demand.

    Args:
      source: images and labels.
      parts: for each the number of its source, and the rows in it, ascending. The values of the pixels of the first
        are counted on the way, for what is fitted to it.
      pixels: for each source, told of all its images.
      notes: nothing is read where they have what an equal scan has found.

    Returns:
      The `digest` of all arrays in order, as of data in memory, and the images of each part.
    """
    key = (
        "" if notes is None else digest([*(labels for _, labels in source), *(np.append(rows, k) for k, rows in parts)])
    )
    found = None if notes is None else notes.recall(key)
    if found is None:
        found = _scanned(source, parts, pixels)
        if notes is not None:
            notes.keep(key, found)
    for each, facts in zip(pixels, found["pixels"], strict=True):
        each.take(facts)
    counts = None if found["counts"] is None else np.array(found["counts"], np.int64)
    return found["digest"], [
        _part(source[k][0], rows, seal, None if number else counts)
        for number, ((k, rows), seal) in enumerate(zip(parts, found["parts"], strict=True))
    ]


def _scanned(
    source: Sequence[tuple[RowReader, np.ndarray]], parts: Sequence[tuple[int, np.ndarray]], pixels: Sequence[Pixels]
) -> dict[str, Any]:
    """What a scan finds, JSON-able."""
    whole = Digest()
    digests = [Digest().begin(source[k][0].dtype, (len(rows), *source[k][0].shape[1:])) for k, rows in parts]
    counts = None
    for number, (images, labels) in enumerate(source):
        whole.begin(images.dtype, images.shape)
        here = [(_mask(rows, len(labels)), one) for (k, rows), one in zip(parts, digests, strict=True) if k == number]
        for rows, block in images.blocks():
            whole.add(block)
            pixels[number].add(block)
            for mask, one in here:
                some = block[mask[rows]]
                one.add(some)
                if one is digests[0] and block.dtype == np.uint8:
                    counts = value_counts(some) + (0 if counts is None else counts)
        whole.begin(labels.dtype, labels.shape).add(labels)
    return {
        "digest": whole.hexdigest(),
        "parts": [one.hexdigest() for one in digests],
        "pixels": [each.facts() for each in pixels],
        "counts": None if counts is None else counts.tolist(),
    }


def _part(source: RowReader, rows: np.ndarray, fingerprint: str, counts: np.ndarray | None) -> HostArray:
    height, width, channels = source.shape[1:]
    return HostArray(
        shape=(len(rows), height, width, channels),
        stored=source.dtype,
        read=lambda chosen: source.read(rows[chosen]),
        fingerprint=fingerprint,
        fill=lambda chosen, out: source.fill(rows[chosen], out),
        counts=counts,
    )


def _mask(rows: np.ndarray, count: int) -> np.ndarray:
    mask = np.zeros(count, bool)
    mask[rows] = True
    return mask


@contextlib.contextmanager
def refusing(sentence: str) -> Iterator[None]:
    """Foreign and damaged files make their readers raise anything; people get one sentence."""
    try:
        yield
    except (JaxddError, MemoryError):
        raise
    except Exception as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise JaxddError(f"{sentence}: {detail}") from error
