"""Runs that another one needs, made once and kept: their rows and what their last state leaves."""

from __future__ import annotations

import logging
import math
import pathlib
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdd import _cache, _progress
from jaxdd._files import digest_of_facts, set_aside
from jaxdd._jax import told_to_jax
from jaxdd.engine import cache
from jaxdd.engine.chunk import Program
from jaxdd.engine.execute import execute
from jaxdd.engine.execution import Job, taken
from jaxdd.engine.feed import fingerprint
from jaxdd.engine.joined import execution_of, first_part, product_of, product_shape, products, state_shape
from jaxdd.engine.parts import Groups
from jaxdd.engine.processes import on_first
from jaxdd.engine.rows import Rows
from jaxdd.types import Execution, HostArray, Parts, PyTree, RealData, Recipe, Spec, Stage, parts_of

_MAKING: dict[pathlib.Path, threading.Lock] = {}


class How(NamedTuple):
    """How a run and its stages are run; arguments as those of `run`."""

    seed: int
    precision: str
    """That of the run's execution; else each stage is carried out as its own recipe has it."""
    devices: Sequence[Any] | None
    checkpoint_seconds: float = 30.0
    progress: bool = True
    keyed: str = "default"
    """The precision in the keys of stages. It once was part of them: that of a run from then which is gone on with."""


def provided(method: Any, data: RealData, config: Mapping[str, Any], how: How) -> tuple[RealData, dict[str, str]]:
    """Data with the tables and assets of all stages that a method needs, and the digests of these.

    Raises:
      JaxddError, RunInterrupted: as `run`; what a stage has done is kept.
    """
    contents: dict[str, str] = {}
    needed: list[pathlib.Path] = []
    stages = stages_of(method, data)
    if stages:
        _cache.limit()  # a bad one is said before anything is computed
    for stage in stages:
        key = key_of(stage, data, config, how)
        directory = _directory(stage, key)
        needed.append(directory)
        with _MAKING.setdefault(directory, threading.Lock()):  # runs of several threads may need the same stage
            if not on_first(lambda directory=directory: _is_whole(directory)):
                _make(stage, data, key, directory, needed, how)
        on_first(lambda directory=directory: _cache.touch(directory))
        made = cache.read(directory, *_shapes(stage, data))
        contents[stage.name] = made.content
        data = _with(data, stage, made.rows, made.product)
    return data, contents


def provide(
    method: Any,
    data: RealData,
    *,
    seed: int = 0,
    precision: str = "default",
    config: Mapping[str, Any] | None = None,
    devices: Sequence[Any] | None = None,
) -> RealData:
    """Data with the tables and assets of all stages that a method needs, from the cache where they lie there.

    So what stages left can be used without a run; arguments are those of the run that is to have the same ones.

        found = provide(training.dynamics_stage("dynamics", ..), data, seed=0).assets["dynamics"]

    Args:
      method: a recipe, or a stage by itself.

    Raises:
      JaxddError, RunInterrupted: as `run`; what a stage has done is kept.
    """
    return provided(method, data, config or {}, How(seed, precision, devices))[0]


def _is_whole(directory: pathlib.Path) -> bool:
    """Whether a stage is done and lies there to the byte. What was altered is set aside."""
    if not _cache.is_done(directory):
        return False
    if bad := cache.fault(directory):
        aside = set_aside(directory).name
        logging.getLogger("jaxdd").warning(
            "%s: %s is not what was written; the stage is now called %s, and made again.", directory, bad, aside
        )
    return bad is None


def _with(data: RealData, stage: Stage, rows: PyTree, product: PyTree) -> RealData:
    tables = {stage.name: rows} if stage.record is not None else {}
    return RealData({**data.tables, **tables}, data.labels, {**data.assets, stage.name: product})


class Expected(NamedTuple):
    """A stage before a run."""

    stage: Stage
    parts: Parts
    data: RealData
    """What it sees."""
    made: bool
    """Whether it lies in the cache."""
    num_bytes: int
    """Of its rows."""


def expected(method: Any, data: RealData, config: Mapping[str, Any], how: How) -> list[Expected]:
    """The stages of a method, in their order; none is made, and nothing in the cache changes."""
    found = []
    stages = stages_of(method, data)
    if stages:
        _cache.limit()
    for stage in stages:
        directory = _directory(stage, key_of(stage, data, config, how))
        made = on_first(lambda directory=directory: _cache.is_done(directory) and cache.fault(directory) is None)
        row, product = _shapes(stage, data)
        size = sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(row))
        parts = stage.parts_for(Spec.of(data))
        found.append(Expected(stage, parts, data, made, parts.count * stage.rows_of_part * size))
        left = cache.read(directory, row, product) if made else _unmade(_count(stage, data), row, product)
        data = _with(data, stage, left.rows, left.product)
    return found


def stages_of(method: Any, data: RealData) -> tuple[Stage, ...]:
    """The stages of a method, in the order in which they are run; a stage is its own."""
    if isinstance(method, Stage):
        return (method,)
    return method.stages(Spec.of(data)) if isinstance(method, Recipe) else ()


def foretold(method: Any, data: RealData) -> RealData:
    """Data as they will be once all stages are done, by shapes: their tables hold noise, their assets zeros."""
    for stage in stages_of(method, data):
        unmade = _unmade(_count(stage, data), *_shapes(stage, data))
        data = _with(data, stage, unmade.rows, unmade.product)
    return data


def shape_of_product(method: Any, data: RealData) -> Any:
    """What a run will leave, by shapes; nothing is computed."""
    data = foretold(method, data)
    return product_shape(method, data, parts_of(method, Spec.of(data)))


def _unmade(count: int, row: PyTree, product: PyTree) -> cache.Artefact:
    """Rows of noise and a product of zeros, of these shapes."""
    rows = jax.tree.map(lambda leaf: _unread(count, leaf), row)
    return cache.Artefact(rows, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), product), "")


def _shapes(stage: Stage, data: RealData) -> tuple[PyTree, PyTree]:
    """Of a row (None if there are none) and of the product."""
    row = None
    if stage.record is not None:
        row = jax.eval_shape(stage.record.of, state_shape(stage.recipe, data))
        if stage.record.block is not None:
            row = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), row)
    return row, product_shape(stage.recipe, data, stage.parts_for(Spec.of(data)))


def _count(stage: Stage, data: RealData) -> int:
    """Of rows."""
    return stage.parts_for(Spec.of(data)).count * stage.rows_of_part


def _unread(count: int, leaf: Any) -> HostArray:
    def read(rows: np.ndarray) -> np.ndarray:
        return (0.05 * np.random.default_rng(0).normal(size=(len(rows), *leaf.shape))).astype(leaf.dtype)

    return HostArray((count, *leaf.shape), leaf.dtype, read, "0" * 64)


def key_of(stage: Stage, data: RealData, config: Mapping[str, Any], how: How) -> str:
    """Of what a stage is to make, and from what."""
    facts = {
        "name": stage.name,
        "revision": stage.revision,
        "config": dict(stage.config),
        "steps": stage.steps,
        "parts": stage.parts_for(Spec.of(data)).count,
        "every": stage.record.every if stage.record else None,
        **({"kept": stage.record.kept} if stage.record and stage.record.kept else {}),
        "data": fingerprint(data),
        "seen": config.get("data"),  # how they are transformed, which images that are decoded on the way do not say
        "seed": how.seed,
        "precision": how.keyed,
        **told_to_jax(),
    }
    return digest_of_facts(facts)


def _directory(stage: Stage, key: str) -> pathlib.Path:
    return cache.folder() / f"{stage.name}-{key[:24]}"


def _make(
    stage: Stage, data: RealData, key: str, directory: pathlib.Path, needed: Collection[pathlib.Path], how: How
) -> None:
    began = time.perf_counter()
    parts = stage.parts_for(Spec.of(data))
    job = Job(stage.recipe, data, parts, stage.steps, how.seed, how.devices, directory)
    execution = taken(job, Execution(precision=how.precision))
    with _progress.phase(f"{stage.name}: compiling"):
        program = job.compile(execution)
    groups = program.groups
    kept = products(program, parts, directory / cache.PARTS)
    recorders = [rows for rows in (_recorder(stage, program, directory), kept) if rows is not None]
    on_first(lambda: _cache.make_room(sum(rows.num_bytes for rows in recorders), keep=needed))
    total = stage.steps if groups is None else groups.total
    done = execute(
        program,
        steps=stage.steps,
        name=stage.name,
        directory=directory,
        identity={"stage": stage.name, "key": key},
        execution=execution_of(groups, execution),
        resume=True,
        log_every=max(1, total // 100),
        validate_every=total,
        checkpoint_seconds=how.checkpoint_seconds,
        progress=how.progress,
        recorders=recorders,
    )
    product = product_of(program, parts, done, kept, data)
    seconds = time.perf_counter() - began
    on_first(lambda: cache.finish(directory, stage, product, seconds))


def _recorder(stage: Stage, program: Program, directory: pathlib.Path) -> Rows | None:
    """Where its rows go, if it has any."""
    if stage.record is None:
        return None
    stacked = program.groups is not None
    state = first_part(program.feed.state) if stacked else program.feed.state
    return Rows(
        directory / cache.ROWS,
        stage.record.of,
        jax.eval_shape(stage.record.of, state),
        program.groups or Groups(1, 1, stage.steps),
        stacked=stacked,
        every=stage.record.every,
        multiples=stage.record.multiples(stage.steps),
        block=stage.record.block,
        mesh=program.mesh,
    )
