"""What stages leave on the disk, and the folder that holds it within a bound."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd._files import cache_folder, digest_of_facts, disk_errors, write_atomically
from jaxdd.engine.rows import file_of
from jaxdd.errors import JaxddError
from jaxdd.types import HostArray, PyTree, Stage, leaves_by_path

_SUMMARY = "artefact.json"
_PRODUCT = "product.npz"
ROWS, PARTS = "rows", "parts"
"""The folders of a stage's rows, and of what its parts leave until they are joined."""
_GIB = 2**30
_SMALL = 2**26  # bytes of a table that lies on the devices


def folder() -> pathlib.Path:
    """Where stages lie."""
    return cache_folder() / "stages"


def limit() -> float:
    """Bytes that it may have: JAXDD_CACHE_GB, by default 50."""
    said = os.environ.get("JAXDD_CACHE_GB") or "50"
    with contextlib.suppress(ValueError):
        if float(said) >= 0:
            return float(said) * _GIB
    raise JaxddError(f"JAXDD_CACHE_GB must be a number of GiB, got {said!r}.")


class Entry(NamedTuple):
    """A stage in the cache."""

    directory: pathlib.Path
    name: str
    num_bytes: int
    used: float
    """When it was used last, seconds since 1970."""
    whole: bool
    """Whether it is done."""


def entries() -> list[Entry]:
    """All stages in the cache, the one that was used last first."""
    found = []
    for directory in sorted(folder().glob("*")) if folder().exists() else []:
        if directory.is_dir():
            files = [file for file in directory.rglob("*") if file.is_file()]
            used = max((file.stat().st_mtime for file in files), default=0.0)
            size = sum(file.stat().st_size for file in files)
            found.append(Entry(directory, directory.name.rpartition("-")[0], size, used, is_done(directory)))
    return sorted(found, key=lambda entry: -entry.used)


def make_room(num_bytes: float, keep: Collection[pathlib.Path] = (), bound: float | None = None) -> list[Entry]:
    """Delete the stages that were used longest ago, until so many bytes fit below the bound. Never one at work.

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


def touch(directory: pathlib.Path) -> None:
    """A stage is used now."""
    with contextlib.suppress(OSError):
        os.utime(directory / _SUMMARY)


# One stage.


def finish(directory: pathlib.Path, stage: Stage, product: PyTree, seconds: float) -> None:
    """Write down what the last state leaves, and that all is done."""
    path = directory / _PRODUCT
    with disk_errors(path):
        staged = directory / f".{_PRODUCT}"
        with staged.open("wb") as file:
            leaves = {name: np.asarray(leaf) for name, leaf in leaves_by_path(product).items()}
            np.savez(file, **leaves)  # pyright: ignore[reportArgumentType]
        os.replace(staged, path)
    for done_with in ("checkpoints", PARTS):
        shutil.rmtree(directory / done_with, ignore_errors=True)
    files = {name: _digest_of(directory / name) for name in _files(directory)}
    summary = {
        "name": stage.name,
        "config": dict(stage.config),
        "seconds": seconds,
        "files": files,
        "content": digest_of_facts(files),
    }
    write_atomically(directory / _SUMMARY, json.dumps(summary, indent=2, sort_keys=True) + "\n")


def _files(directory: pathlib.Path) -> list[str]:
    found = [*directory.glob(f"{ROWS}/*.npy"), *directory.glob(_PRODUCT)]
    return sorted(str(file.relative_to(directory)) for file in found)


def _digest_of(file: pathlib.Path) -> str:
    state = hashlib.blake2b(digest_size=32)
    with disk_errors(file), file.open("rb") as stream:
        while block := stream.read(2**24):
            state.update(block)
    return state.hexdigest()


def is_done(directory: pathlib.Path) -> bool:
    """Whether a stage has said that all of it is there."""
    return (directory / _SUMMARY).exists()


def fault(directory: pathlib.Path) -> str | None:
    """The file of a stage that is not what was written when it was done, if there is one."""
    path = directory / _SUMMARY
    with disk_errors(path):
        content = path.read_bytes()
    try:
        summary = json.loads(content)
        files = dict(summary["files"])
        if summary["content"] != digest_of_facts(files) or _PRODUCT not in files:
            return _SUMMARY
    except (ValueError, KeyError, TypeError):
        return _SUMMARY
    there = _files(directory)
    bad = (name for name, seal in files.items() if name not in there or _digest_of(directory / name) != seal)
    return next(bad, None)


class Artefact(NamedTuple):
    """What a stage has left."""

    rows: PyTree
    """Memory-mapped, `HostArray`, where they are many."""
    product: PyTree
    content: str
    """A digest of all of it."""


def read(directory: pathlib.Path, row: PyTree, product: PyTree) -> Artefact:
    """A stage that is done, in which `fault` finds none.

    Args:
      row, product: by shapes; a row of None for a stage that records none.
    """
    with disk_errors(directory / _SUMMARY):
        summary = json.loads((directory / _SUMMARY).read_text())
    with disk_errors(directory / _PRODUCT), np.load(directory / _PRODUCT, allow_pickle=False) as stored:
        leaves = {name: stored[name] for name in stored.files}
    product = jax.tree.unflatten(jax.tree.structure(product), [leaves[name] for name in leaves_by_path(product)])
    names = [f"{ROWS}/{file_of(name)}" for name in leaves_by_path(row)]
    small = sum((directory / name).stat().st_size for name in names) <= _SMALL
    rows = [_mapped(directory / name, summary["files"][name], small) for name in names]
    return Artefact(jax.tree.unflatten(jax.tree.structure(row), rows), product, summary["content"])


def _mapped(path: pathlib.Path, seal: str, small: bool) -> Any:
    with disk_errors(path):
        array = np.load(path, mmap_mode=None if small else "r", allow_pickle=False)
    return (
        jnp.asarray(array) if small else HostArray(array.shape, array.dtype, lambda rows: np.asarray(array[rows]), seal)
    )
