"""Runs that another one needs, made once and kept in a cache: their rows and what their last state leaves."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import pathlib
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd._files import cache_folder, disk_errors, write_atomically
from jaxdd.engine.chunk import compile_program
from jaxdd.engine.execute import execute
from jaxdd.engine.feed import fingerprint
from jaxdd.engine.processes import local, on_first
from jaxdd.errors import JaxddError
from jaxdd.types import HostArray, PyTree, RealData, Recipe, Spec, Stage, State, bound, leaves_by_path

_SUMMARY = "artefact.json"
_PRODUCT = "product.npz"
_ROWS = "rows"
_GIB = 2**30
_SMALL = 2**26  # bytes of a table that lies on the devices


class How(NamedTuple):
    """How a run and its stages are run; arguments as those of `run`."""

    seed: int
    precision: str
    devices: Sequence[Any] | None
    checkpoint_seconds: float = 30.0
    progress: bool = True


def cache() -> pathlib.Path:
    """Where stages lie."""
    return cache_folder() / "stages"


def limit_of_cache() -> float:
    """Bytes that it may have: JAXDD_CACHE_GB, by default 50."""
    said = os.environ.get("JAXDD_CACHE_GB", "50")
    with contextlib.suppress(ValueError):
        if float(said) >= 0:
            return float(said) * _GIB
    raise JaxddError(f"JAXDD_CACHE_GB must be a number of GiB, got {said!r}.")


def provided(method: Any, data: RealData, config: Mapping[str, Any], how: How) -> tuple[RealData, dict[str, str]]:
    """Data with the tables and assets of all stages that a method needs, and the digests of these.

    Raises:
      JaxddError, RunInterrupted: as `run`; what a stage has done is kept.
    """
    contents: dict[str, str] = {}
    stages = stages_of(method, data)
    if stages:
        limit_of_cache()  # a bad one is said before anything is computed
    for stage in stages:
        directory = _directory(stage, data, config, how)
        if not on_first(lambda directory=directory: _whole(directory)):
            _make(stage, data, key_of(stage, data, config, how), directory, how)
        on_first(lambda directory=directory: _touch(directory))
        made = _read(stage, data, directory)
        contents[stage.name] = made.content
        data = _with(data, stage, made.rows, made.product)
    return data, contents


def _with(data: RealData, stage: Stage, rows: PyTree, product: PyTree) -> RealData:
    tables = {stage.name: rows} if stage.record is not None else {}
    return RealData({**data.tables, **tables}, data.labels, {**data.assets, stage.name: product})


class Foretold(NamedTuple):
    """A stage before a run."""

    stage: Stage
    data: RealData
    """What it sees."""
    made: bool
    """Whether it lies in the cache."""
    num_bytes: int
    """Of its rows."""


def expected(method: Any, data: RealData, config: Mapping[str, Any], how: How) -> list[Foretold]:
    """The stages of a method, in their order, without making any."""
    found = []
    for stage in stages_of(method, data):
        directory = _directory(stage, data, config, how)
        made = on_first(lambda directory=directory: (directory / _SUMMARY).exists())
        if made:
            artefact = _read(stage, data, directory)
            rows, product = artefact.rows, artefact.product
        else:
            rows, product = _unmade(stage, data)
        size = sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(rows))
        found.append(Foretold(stage, data, made, size))
        data = _with(data, stage, rows, product)
    return found


def stages_of(method: Any, data: RealData) -> tuple[Stage, ...]:
    """The stages of a method, in the order in which they are run."""
    return method.stages(Spec.of(data)) if isinstance(method, Recipe) else ()


def foretold(method: Any, data: RealData) -> RealData:
    """Data as they will be once all stages are done, by shapes: their tables hold noise, their assets zeros."""
    for stage in stages_of(method, data):
        data = _with(data, stage, *_unmade(stage, data))
    return data


def _unmade(stage: Stage, data: RealData) -> tuple[PyTree, PyTree]:
    """Rows of noise and a product of zeros."""
    inner = bound(stage.recipe, data)
    state = jax.eval_shape(inner.init, jax.random.key(0), data)
    row = {} if stage.record is None else jax.eval_shape(stage.record.of, state)
    product = jax.eval_shape(inner.product, state)
    return (
        jax.tree.map(lambda leaf: _unread(stage, leaf), row),
        jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), product),
    )


def _unread(stage: Stage, leaf: Any) -> HostArray:
    def read(rows: np.ndarray) -> np.ndarray:
        return (0.05 * np.random.default_rng(0).normal(size=(len(rows), *leaf.shape))).astype(leaf.dtype)

    return HostArray((stage.parts * stage.rows_of_part, *leaf.shape), leaf.dtype, read, "0" * 64)


class Artefact(NamedTuple):
    """What a stage has left."""

    rows: PyTree
    """Memory-mapped, `HostArray`, where they are many."""
    product: PyTree
    content: str
    """A digest of all of it."""


def key_of(stage: Stage, data: RealData, config: Mapping[str, Any], how: How) -> str:
    """Of what a stage is to make, and from what."""
    facts = {
        "name": stage.name,
        "revision": stage.revision,
        "config": dict(stage.config),
        "steps": stage.steps,
        "parts": stage.parts,
        "every": stage.record.every if stage.record else None,
        "data": fingerprint(data),
        "seen": config.get("data"),  # how they are transformed, which images that are decoded on the way do not say
        "seed": how.seed,
        "precision": how.precision,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _directory(stage: Stage, data: RealData, config: Mapping[str, Any], how: How) -> pathlib.Path:
    return cache() / f"{stage.name}-{key_of(stage, data, config, how)[:24]}"


def _touch(directory: pathlib.Path) -> None:
    with contextlib.suppress(OSError):
        os.utime(directory / _SUMMARY)


def _make(stage: Stage, data: RealData, key: str, directory: pathlib.Path, how: How) -> None:
    began = time.perf_counter()
    program = compile_program(stage.recipe, data, seed=how.seed, precision=how.precision, devices=how.devices)
    rows = None
    if stage.record is not None:
        rows = _Rows(directory / _ROWS, stage, jax.eval_shape(stage.record.of, program.feed.state))
    on_first(lambda: make_room(0.0 if rows is None else rows.num_bytes, keep=directory))
    done = execute(
        program,
        steps=stage.steps,
        parts=stage.parts,
        name=stage.name,
        directory=directory,
        identity={"stage": stage.name, "key": key},
        resume=True,
        log_every=max(1, stage.steps * stage.parts // 100),
        validate_every=stage.steps * stage.parts,
        checkpoint_seconds=how.checkpoint_seconds,
        progress=how.progress,
        recorder=rows,
    )
    product = jax.jit(program.method.product)(done.state)

    def finish() -> None:
        leaves = {name: np.asarray(leaf) for name, leaf in leaves_by_path(product).items()}
        path = directory / _PRODUCT
        with disk_errors(path):
            staged = directory / f".{_PRODUCT}"
            with staged.open("wb") as file:
                np.savez(file, **leaves)  # pyright: ignore[reportArgumentType]
            os.replace(staged, path)
        shutil.rmtree(directory / "checkpoints", ignore_errors=True)
        files = {str(file.relative_to(directory)): _digest_of(file) for file in _files(directory)}
        summary = {
            "name": stage.name,
            "config": dict(stage.config),
            "seconds": time.perf_counter() - began,
            "files": files,
            "content": hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest(),
        }
        write_atomically(directory / _SUMMARY, json.dumps(summary, indent=2, sort_keys=True) + "\n")

    on_first(finish)


def _files(directory: pathlib.Path) -> list[pathlib.Path]:
    return sorted([*directory.glob(f"{_ROWS}/*.npy"), *directory.glob(_PRODUCT)])


def _digest_of(file: pathlib.Path) -> str:
    state = hashlib.blake2b(digest_size=32)
    with disk_errors(file), file.open("rb") as stream:
        while block := stream.read(2**24):
            state.update(block)
    return state.hexdigest()


def _whole(directory: pathlib.Path) -> bool:
    """Whether a stage is done and lies there to the byte. What was altered is set aside, by name."""
    path = directory / _SUMMARY
    if not path.exists():
        return False
    with disk_errors(path):
        content = path.read_bytes()
    try:
        files = json.loads(content)["files"]
        bad = [name for name, seal in files.items() if not _is(directory / name, seal)]
    except (ValueError, KeyError, TypeError, AttributeError):
        bad = [_SUMMARY]
    if not bad:
        return True
    aside = directory.with_name(f"damaged-{directory.name}")
    count = 0
    while aside.exists():
        count += 1
        aside = directory.with_name(f"damaged-{count}-{directory.name}")
    with disk_errors(aside):
        os.replace(directory, aside)
    logging.getLogger("jaxdd").warning(
        "%s: %s is not what was written; the stage is now called %s, and made again.", directory, bad[0], aside.name
    )
    return False


def _is(file: pathlib.Path, seal: str) -> bool:
    return file.exists() and _digest_of(file) == seal


class _Rows:
    """Rows of a stage in memory-mapped files, one for each leaf; an `execute.Recorder`."""

    def __init__(self, directory: pathlib.Path, stage: Stage, row: PyTree):
        assert stage.record is not None
        self.every, self._of = stage.record.every, jax.jit(stage.record.of)
        self._directory, self._rows_of_part = directory, stage.rows_of_part
        self._shapes = {
            name: ((stage.parts * stage.rows_of_part, *leaf.shape), np.dtype(leaf.dtype))
            for name, leaf in leaves_by_path(row).items()
        }
        self.num_bytes = float(sum(np.prod(shape) * dtype.itemsize for shape, dtype in self._shapes.values()))
        self._open: dict[str, np.memmap] = {}

    def __call__(self, part: int, step: int, state: State) -> None:
        row = leaves_by_path(self._of(local(state)))
        index = part * self._rows_of_part + step // self.every

        def write() -> None:
            with disk_errors(self._directory):
                for name, leaf in row.items():
                    self._file(name)[index] = np.asarray(leaf)

        on_first(write)

    def flush(self) -> None:
        def sync() -> None:
            with disk_errors(self._directory):
                for file in self._open.values():
                    file.flush()

        on_first(sync)

    def _file(self, name: str) -> np.memmap:
        if name not in self._open:
            self._directory.mkdir(parents=True, exist_ok=True)
            path, (shape, dtype) = self._directory / f"{name.replace('/', '.')}.npy", self._shapes[name]
            new = not path.exists() or path.stat().st_size < np.prod(shape) * dtype.itemsize
            self._open[name] = np.lib.format.open_memmap(path, "w+" if new else "r+", dtype, shape)
            if new:
                _allocate(path)
        return self._open[name]


def _allocate(path: pathlib.Path) -> None:
    """Take the disk's space for a file now: a process that writes a mapped one on a full disk is killed."""
    if hasattr(os, "posix_fallocate"):
        try:
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError:
            path.unlink()
            raise


def _read(stage: Stage, data: RealData, directory: pathlib.Path) -> Artefact:
    with disk_errors(directory / _SUMMARY):
        summary = json.loads((directory / _SUMMARY).read_text())
    method = bound(stage.recipe, data)
    state = jax.eval_shape(method.init, jax.random.key(0), data)
    with disk_errors(directory / _PRODUCT), np.load(directory / _PRODUCT, allow_pickle=False) as stored:
        leaves = {name: stored[name] for name in stored.files}
    like = jax.eval_shape(method.product, state)
    product = jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in leaves_by_path(like)])
    rows: PyTree = {}
    if stage.record is not None:
        row = jax.eval_shape(stage.record.of, state)
        paths = [directory / _ROWS / f"{name.replace('/', '.')}.npy" for name in leaves_by_path(row)]
        small = sum(path.stat().st_size for path in paths) <= _SMALL
        read = [_mapped(path, summary["files"][f"{_ROWS}/{path.name}"], small) for path in paths]
        rows = jax.tree.unflatten(jax.tree.structure(row), read)
    return Artefact(rows, product, summary["content"])


def _mapped(path: pathlib.Path, seal: str, small: bool) -> Any:
    with disk_errors(path):
        array = np.load(path, mmap_mode=None if small else "r", allow_pickle=False)
    return (
        jnp.asarray(array) if small else HostArray(array.shape, array.dtype, lambda rows: np.asarray(array[rows]), seal)
    )


# The cache as a whole.


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
    for directory in sorted(cache().glob("*")) if cache().exists() else []:
        if directory.is_dir():
            files = [file for file in directory.rglob("*") if file.is_file()]
            summary = directory / _SUMMARY
            used = max((file.stat().st_mtime for file in files), default=0.0)
            size = sum(file.stat().st_size for file in files)
            found.append(Entry(directory, directory.name.rpartition("-")[0], size, used, summary.exists()))
    return sorted(found, key=lambda entry: -entry.used)


def make_room(num_bytes: float, keep: pathlib.Path | None = None, limit: float | None = None) -> list[Entry]:
    """Delete the stages that were used longest ago, until so many bytes fit below the bound. Never one at work.

    Args:
      keep: never this one.
      limit: another bound than the cache's, bytes.
    """
    limit, gone = limit_of_cache() if limit is None else limit, []
    there = entries()
    used = sum(entry.num_bytes for entry in there)
    for entry in reversed(there):
        if used + num_bytes <= limit:
            break
        if entry.directory == keep or not entry.whole:
            continue
        with contextlib.suppress(JaxddError, OSError):
            shutil.rmtree(entry.directory)
            used -= entry.num_bytes
            gone.append(entry)
    return gone
