"""Pictures that are decoded once: made whole or not at all, and found again by the files they are of."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import math
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdd import _cache
from jaxdd._files import digest, disk_errors, write_atomically
from jaxdd._system import in_words
from jaxdd.data.mapped import PIXELS, SEALS, DecodedSource, Store, seal
from jaxdd.data.pictures import FileSource, Place, in_threads
from jaxdd.data.streaming import Reading
from jaxdd.errors import JaxddError

_REVISION = 1  # of what is made of a file, and of how it is stored
_PART = ".part"  # of a folder that is not done

_LOG = logging.getLogger("jaxdd")


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
    short = name.encode(errors="ignore")[:80].decode(errors="ignore")  # the names of files are short, in bytes
    directory = _cache.folder(_cache.IMAGES).absolute() / f"{short}-{key[:24]}"
    found = Store.of(directory, key, len(files)) or _made(directory, name, files, key)
    _cache.touch(directory)
    return DecodedSource(found, 0, len(files))


def _made(directory: pathlib.Path, name: str, files: Sequence[Place], key: str) -> Store:
    with disk_errors(directory.parent):
        directory.parent.mkdir(parents=True, exist_ok=True)
    with _alone(directory) as alone:
        found = Store.of(directory, key, len(files))  # another process may have made it meanwhile
        if found is None:
            if alone:
                _sweep(directory)
            if _cache.is_done(directory):
                _LOG.warning("%s is not what was written, so the images are decoded again.", directory)
            _make(directory, name, files, key)
            found = Store.of(directory, key, len(files))
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


def _make(directory: pathlib.Path, name: str, files: Sequence[Place], key: str) -> None:
    """Decode pictures into a folder that is there as a whole, or not at all."""
    source = FileSource.of(files)
    _check_room(directory, math.prod(source.shape))
    staged = directory.with_name(f"{directory.name}.{secrets.token_hex(4)}{_PART}")
    with disk_errors(staged):
        staged.mkdir()
    try:
        seals: list[int] = []
        with (staged / PIXELS).open("wb") as file:
            for _, block in source.blocks():
                with disk_errors(staged / PIXELS):
                    file.write(block.data)
                seals += in_threads(seal, list(block), 64)
            with disk_errors(staged / PIXELS):
                file.flush()
                os.fsync(file.fileno())
        if _identity(files) != key:
            raise JaxddError(f"files of {name} changed while they were decoded; start again when they are at rest")
        with disk_errors(staged):
            np.save(staged / SEALS, found := np.array(seals, np.uint32))
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
