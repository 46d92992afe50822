"""What is kept on the disk because making it took long: folders below `JAXDD_CACHE_DIR`, within a bound, and a list."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Collection
from typing import NamedTuple

from jaxdd._files import cache_folder
from jaxdd.errors import JaxddError

SUMMARY = "artefact.json"
"""In the folder of an entry: that it is done, and what it is."""
STAGES, IMAGES = "stages", "images"
"""What stages leave, and images that are decoded."""
_GIB = 2**30


def folder(kind: str) -> pathlib.Path:
    """Where entries of a kind lie, each in a folder `NAME-KEY` of its own."""
    return cache_folder() / kind


def limit() -> float:
    """Bytes that all of them may have: JAXDD_CACHE_GB, by default 50."""
    said = os.environ.get("JAXDD_CACHE_GB") or "50"
    with contextlib.suppress(ValueError):
        if float(said) >= 0:
            return float(said) * _GIB
    raise JaxddError(f"JAXDD_CACHE_GB must be a number of GiB, got {said!r}.")


class Entry(NamedTuple):
    """Something that is kept."""

    directory: pathlib.Path
    name: str
    num_bytes: int
    used: float
    """When it was used last, seconds since 1970."""
    whole: bool
    """Whether it is done."""


def entries() -> list[Entry]:
    """All that is kept, what was used last first."""
    found = []
    for kind in (STAGES, IMAGES):
        for directory in sorted(folder(kind).glob("*")) if folder(kind).exists() else []:
            if directory.is_dir():
                facts = [status for file in directory.rglob("*") if (status := _status(file)) is not None]
                used = max((status.st_mtime for status in facts), default=0.0)
                size = sum(status.st_size for status in facts)
                found.append(Entry(directory, directory.name.rpartition("-")[0], size, used, is_done(directory)))
    return sorted(found, key=lambda entry: -entry.used)


def _status(file: pathlib.Path) -> os.stat_result | None:
    with contextlib.suppress(OSError):  # another process may be at work here
        return file.stat() if file.is_file() else None
    return None


def make_room(num_bytes: float, keep: Collection[pathlib.Path] = (), bound: float | None = None) -> list[Entry]:
    """Delete what was used longest ago, until so many bytes fit below the bound. Never what is at work.

    Args:
      keep: never these.
      bound: bytes; by default the cache's.
    """
    bound, gone = limit() if bound is None else bound, []
    there = entries()
    used = sum(entry.num_bytes for entry in there)
    for entry in reversed(there):
        if used + num_bytes <= bound:
            break
        if entry.directory in keep or not entry.whole:
            continue
        with contextlib.suppress(JaxddError, OSError):
            shutil.rmtree(entry.directory)
            used -= entry.num_bytes
            gone.append(entry)
    return gone


def is_done(directory: pathlib.Path) -> bool:
    """Whether all of an entry is there, as it said."""
    return (directory / SUMMARY).exists()


def touch(directory: pathlib.Path) -> None:
    """An entry is used now."""
    with contextlib.suppress(OSError):
        os.utime(directory / SUMMARY)
