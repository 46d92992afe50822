"""Pictures that are decoded once: their pixels in a file that later starts map, so that they open no picture."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import math
import mmap
import os
import pathlib
import secrets
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdd import _cache
from jaxdd._files import digest, digest_of_facts, disk_errors, read_object, write_atomically
from jaxdd._system import in_words
from jaxdd.data.pictures import FileSource, Place, in_threads
from jaxdd.data.streaming import Reading
from jaxdd.data.transforms import block_rows
from jaxdd.errors import JaxddError

_REVISION = 1  # of what is made of a file, and of how it is stored
_PIXELS = "pixels.raw"  # uint8 (n, h, w, c), nothing else
_SEALS = "seals.npy"  # uint32 (n,), a CRC-32 of each image
_PART = ".part"  # of a folder that is not done
_GATHERED = 2**21  # bytes that a thread copies at once
_LOOKED_AT = 2**28  # bytes that are compared with their seals at a start

_LOG = logging.getLogger("jaxdd")


@dataclasses.dataclass(frozen=True, eq=False)
class _Store:
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
        seals = in_threads(lambda row: _seal(self.pixels[row]), rows.tolist(), 64)
        return bool((np.fromiter(seals, np.uint32, len(rows)) == self.seals[rows]).all())

    def _check_length(self) -> None:
        """Who reads beyond the end of a mapped file that was cut is killed."""
        if (now := self.mapped.size()) != self.pixels.nbytes:
            raise JaxddError(f"{self.file} has {now} bytes, but had {self.pixels.nbytes} when the data were loaded")

    @property
    def file(self) -> pathlib.Path:
        return self.directory / _PIXELS


def _seal(image: np.ndarray) -> int:
    return zlib.crc32(image.data)


@dataclasses.dataclass(frozen=True, eq=False)
class DecodedSource:
    """Some of the pictures that are decoded: a `RowReader` that opens none of their files.

    Attributes:
      store: with all of them.
      first: the number of the first.
      count: how many.
    """

    store: _Store
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


def pictures_of(
    name: str, splits: Mapping[str, Sequence[tuple[Place, int]]], reading: Reading
) -> dict[str, dict[str, Any]]:
    """Images and labels of each split, of files with their labels; all files must have one size.

    Args:
      name: for people, of what is kept.
    """
    files = [file for of_split in splits.values() for file, _ in of_split]
    everything = _decoded(name, files) if reading.cache else FileSource.of(files)
    found, start = {}, 0
    for split, of_split in splits.items():
        images = everything.part(start, len(of_split))
        start += len(of_split)
        labels = np.array([label for _, label in of_split], np.int32)
        found[split] = {"x": images if reading.stream else _in_memory(images), "y": labels}
    return found


def _in_memory(images: FileSource | DecodedSource) -> np.ndarray:
    if isinstance(images, FileSource):
        return images.read(np.arange(len(images.files)))
    found = np.empty(images.shape, np.uint8)
    for rows, block in images.blocks():  # which checks them
        found[rows] = block
    return found


def _decoded(name: str, files: Sequence[Place]) -> DecodedSource:
    """The pictures from the cache, where they are decoded first if they are not there.

    Raises:
      JaxddError: as `FileSource.of`; or there is no room for them.
    """
    key = _identity(files)
    directory = _cache.folder(_cache.IMAGES).absolute() / f"{name[:80]}-{key[:24]}"
    found = _opened(directory, key, len(files)) or _made(directory, name, files, key)
    _cache.touch(directory)
    return DecodedSource(found, 0, len(files))


def _made(directory: pathlib.Path, name: str, files: Sequence[Place], key: str) -> _Store:
    with disk_errors(directory.parent):
        directory.parent.mkdir(parents=True, exist_ok=True)
    with _alone(directory) as alone:
        found = _opened(directory, key, len(files))  # another process may have made it meanwhile
        if found is None:
            if alone:
                _sweep(directory)
            if _cache.is_done(directory):
                _LOG.warning("%s is not what was written, so the images are decoded again.", directory)
            _make(directory, name, files, key)
            found = _opened(directory, key, len(files))
    if found is None:
        raise JaxddError(f"{directory} is not what was just written to it: is the disk failing?")
    return found


def _identity(files: Sequence[Place]) -> str:
    """What decoded pixels are of: the files in their order, by path, size and times of change, and who decodes them."""
    import PIL
    from PIL import features

    state = hashlib.sha256(repr([_REVISION, PIL.__version__, features.version("jpg")]).encode())

    @functools.lru_cache(maxsize=64)
    def said(path: str) -> bytes:
        try:
            status = os.stat(path)
        except OSError as error:
            raise JaxddError(f"{path} has vanished since the folder was read") from error
        facts = f"\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        return os.fsencode(os.path.abspath(path)) + facts.encode()

    for file in files:
        if isinstance(file, str):
            state.update(said(file) + b"\n")
        else:
            path, start, size = file.within
            state.update(said(str(path)) + f" {start} {size}\n".encode())
    return state.hexdigest()


def _opened(directory: pathlib.Path, key: str, count: int) -> _Store | None:
    """The store in a folder; None if it is not whole."""
    if not _cache.is_done(directory):
        return None
    summary = read_object(directory / _cache.SUMMARY) or {}
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        if summary.get("key") == key:
            shape = (count, *map(int, summary["image_shape"]))
            seals = np.load(directory / _SEALS, allow_pickle=False)
            with (directory / _PIXELS).open("rb") as file:
                whole = os.fstat(file.fileno()).st_size == math.prod(shape) and seals.shape == (count,)
                if whole and digest([seals]) == summary["seals"]:
                    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                    store = _Store(directory, mapped, np.frombuffer(mapped, np.uint8).reshape(shape), seals)
                    some = min(count, max(2, _LOOKED_AT // store.pixels[0].nbytes))
                    if store.whole(np.linspace(0, count - 1, some).astype(int)):
                        return store
    return None


def _make(directory: pathlib.Path, name: str, files: Sequence[Place], key: str) -> None:
    """Decode pictures into a folder that is there as a whole, or not at all."""
    source = FileSource.of(files)
    _check_room(directory, math.prod(source.shape))
    staged = directory.with_name(f"{directory.name}.{secrets.token_hex(4)}{_PART}")
    with disk_errors(staged):
        staged.mkdir()
    try:
        seals: list[int] = []
        with (staged / _PIXELS).open("wb") as file:
            for _, block in source.blocks():
                with disk_errors(staged / _PIXELS):
                    file.write(block.data)
                seals += in_threads(_seal, list(block), 64)
            with disk_errors(staged / _PIXELS):
                file.flush()
                os.fsync(file.fileno())
        if _identity(files) != key:
            raise JaxddError(f"files of {name} changed while they were decoded; start again when they are at rest")
        with disk_errors(staged):
            np.save(staged / _SEALS, found := np.array(seals, np.uint32))
            summary = {
                "key": key,
                "revision": _REVISION,
                "count": len(files),
                "image_shape": source.image_shape,
                "seals": digest([found]),
            }
            write_atomically(staged / _cache.SUMMARY, json.dumps(summary, indent=2, sort_keys=True) + "\n")
            shutil.rmtree(directory, ignore_errors=True)  # one that was not whole
            try:
                os.replace(staged, directory)
            except OSError:
                if not _cache.is_done(directory):  # as it is where a disk has no locks and another process was faster
                    raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _check_room(directory: pathlib.Path, num_bytes: int) -> None:
    bound = _cache.limit()
    if num_bytes > bound:
        raise JaxddError(
            f"the decoded images are {in_words(num_bytes)}, and the cache is held below {in_words(bound)}: set "
            "JAXDD_CACHE_GB, or leave config.data.cache False"
        )
    _cache.make_room(num_bytes)
    with disk_errors(directory.parent):
        free = shutil.disk_usage(directory.parent).free
    if num_bytes > free:
        raise JaxddError(
            f"the decoded images are {in_words(num_bytes)}, and {in_words(free)} are free in {directory.parent}: name "
            "another folder by JAXDD_CACHE_DIR, or leave config.data.cache False"
        )


@contextlib.contextmanager
def _alone(directory: pathlib.Path, *, wait: bool = True) -> Iterator[bool]:
    """Whether no other process is at work on this folder; with `wait`, as soon as none is."""
    with disk_errors(directory.parent):
        lock = directory.with_name(f"{directory.name}.lock").open("w")
    with lock:
        try:
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    yield False
                    return
                _LOG.warning("another process decodes these images into %s; waiting for it.", directory)
                fcntl.flock(lock, fcntl.LOCK_EX)
            alone = True
        except (ImportError, OSError):  # a system or a disk without locks
            alone = False
        yield alone


def _sweep(own: pathlib.Path) -> None:
    """Delete what processes that were killed have left of folders; this process is the one at work on its own."""
    for part in own.parent.glob(f"*{_PART}"):
        name = part.name.removesuffix(_PART).rpartition(".")[0]
        with contextlib.nullcontext(True) if name == own.name else _alone(own.with_name(name), wait=False) as alone:
            if alone:
                shutil.rmtree(part, ignore_errors=True)
