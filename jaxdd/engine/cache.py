"""What stages leave on the disk."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import _cache
from jaxdd._files import digest_of_facts, disk_errors, write_atomically
from jaxdd.engine.rows import file_of
from jaxdd.types import HostArray, PyTree, Stage, leaves_by_path

_SUMMARY = _cache.SUMMARY
_PRODUCT = "product.npz"
ROWS, PARTS = "rows", "parts"
"""The folders of a stage's rows, and of what its parts leave until they are joined."""
_SMALL = 2**26  # bytes of a table that lies on the devices


def folder() -> pathlib.Path:
    """Where stages lie."""
    return _cache.folder(_cache.STAGES)


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
