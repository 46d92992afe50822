"""Decoded pictures in a mapped file, which somebody reads by rows; and what scans of them have found."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import mmap
import os
import pathlib
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdd import _cache
from jaxdd._files import digest, digest_of_facts, read_object, write_atomically
from jaxdd.data.pictures import in_threads
from jaxdd.data.transforms import block_rows
from jaxdd.errors import JaxddError

PIXELS = "pixels.raw"
"""The file of the pixels: uint8 (n, h, w, c), nothing else."""
SEALS = "seals.npy"
"""uint32 (n,), the `seal` of each image."""
_GATHERED = 2**21  # bytes that a thread copies at once
_LOOKED_AT = 2**28  # bytes that are compared with their seals at a start


@dataclasses.dataclass(frozen=True, eq=False)
class Store:
    """Decoded pictures in their file.

    Attributes:
      directory: that holds it.
      mapped: the file, which stays what it is when the folder is deleted.
      pixels: uint8 `(n, h, w, c)`, a view of it.
      seals: uint32 `(n,)`.
    """

    directory: pathlib.Path
    mapped: mmap.mmap
    pixels: np.ndarray
    seals: np.ndarray

    @classmethod
    def of(cls, directory: pathlib.Path, key: str, count: int) -> Store | None:
        """The store in a folder; None if it is not there as a whole, or one of another key.

        Args:
          count: of its images.
        """
        if not _cache.is_done(directory):
            return None
        summary = read_object(directory / _cache.SUMMARY) or {}
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            if summary.get("key") == key:
                shape = (count, *map(int, summary["image_shape"]))
                seals = np.load(directory / SEALS, allow_pickle=False)
                with (directory / PIXELS).open("rb") as file:
                    whole = os.fstat(file.fileno()).st_size == math.prod(shape) and seals.shape == (count,)
                    if whole and digest([seals]) == summary["seals"]:
                        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                        store = cls(directory, mapped, np.frombuffer(mapped, np.uint8).reshape(shape), seals)
                        some = min(count, max(2, _LOOKED_AT // store.pixels[0].nbytes))
                        if store.whole(np.linspace(0, count - 1, some).astype(int)):
                            return store
        return None

    def gather(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy images of some rows out of the map, by several threads."""
        self._check_length()
        self._announce(rows)
        step = max(1, _GATHERED // self.pixels[0].nbytes)
        parts = [slice(start, start + step) for start in range(0, len(rows), step)]

        def copy(part: slice) -> None:
            np.take(self.pixels, rows[part], 0, out=out[part], mode="clip")  # "raise" would copy twice

        if len(parts) == 1:
            copy(parts[0])
        else:
            for _ in in_threads(copy, parts, 1):
                pass

    def _announce(self, rows: np.ndarray) -> None:
        """Have the disk fetch all of these rows at once, where one fault after the other would wait for each."""
        size = self.pixels[0].nbytes
        if size < mmap.PAGESIZE or not hasattr(mmap, "MADV_WILLNEED"):
            return  # several of these share a page; or a system without this
        for start in (rows * size).tolist():
            page = start // mmap.PAGESIZE * mmap.PAGESIZE
            self.mapped.madvise(mmap.MADV_WILLNEED, page, start + size - page)

    def whole(self, rows: np.ndarray) -> bool:
        """Whether these images are what was written."""
        self._check_length()
        seals = in_threads(lambda row: seal(self.pixels[row]), rows.tolist(), 64)
        return bool((np.fromiter(seals, np.uint32, len(rows)) == self.seals[rows]).all())

    def _check_length(self) -> None:
        """Who reads beyond the end of a mapped file that was cut is killed."""
        if (now := self.mapped.size()) != self.pixels.nbytes:
            raise JaxddError(f"{self.file} has {now} bytes, but had {self.pixels.nbytes} when the data were loaded")

    @property
    def file(self) -> pathlib.Path:
        return self.directory / PIXELS


def seal(image: np.ndarray) -> int:
    """A checksum of an image."""
    return zlib.crc32(image.data)


@dataclasses.dataclass(frozen=True, eq=False)
class DecodedSource:
    """Some of the pictures that are decoded: a `RowReader` that opens none of their files.

    Attributes:
      store: with all of them.
      first: the number of the first.
      count: how many.
    """

    store: Store
    first: int
    count: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count, *self.store.pixels.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    def read(self, rows: np.ndarray) -> np.ndarray:
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        self.fill(rows, images)
        return images

    def fill(self, rows: np.ndarray, out: np.ndarray) -> None:
        self.store.gather(rows + self.first, out)

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        for rows in block_rows(self.shape):
            there = slice(rows.start + self.first, rows.stop + self.first)
            if not self.store.whole(np.arange(there.start, there.stop)):
                shutil.rmtree(self.store.directory, ignore_errors=True)
                raise JaxddError(
                    f"{self.store.file} is not what was written; it is deleted now, and the next start makes it again"
                )
            yield rows, self.store.pixels[there]

    def part(self, start: int, count: int) -> DecodedSource:
        """Some of them in a row."""
        return DecodedSource(self.store, self.first + start, count)


@dataclasses.dataclass(frozen=True)
class Notes:
    """What scans have found of decoded pictures, beside them.

    Attributes:
      directory: of the store.
      ranges: first and count of each source.
    """

    directory: pathlib.Path
    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, sources: Sequence[Any]) -> Notes | None:
        """For sources of one store; None if they are anything else."""
        if not all(isinstance(source, DecodedSource) for source in sources):
            return None
        (directory, *others) = {source.store.directory for source in sources}
        return None if others else cls(directory, tuple((source.first, source.count) for source in sources))

    def recall(self, key: str) -> dict[str, Any] | None:
        """What `keep` was given under this key."""
        held = read_object(self._path(key))
        if held is None or held.get("content") != digest_of_facts(held.get("facts")):
            return None
        return held["facts"]

    def keep(self, key: str, facts: Mapping[str, Any]) -> None:
        """A disk that is full now costs the next start its time, and this run nothing."""
        with contextlib.suppress(JaxddError):
            if self.directory.is_dir():
                content = {"facts": facts, "content": digest_of_facts(facts)}
                write_atomically(self._path(key), json.dumps(content, sort_keys=True) + "\n")

    def _path(self, key: str) -> pathlib.Path:
        return self.directory / f"scan-{digest_of_facts([key, self.ranges])[:24]}.json"
