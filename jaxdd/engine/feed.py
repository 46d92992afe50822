"""Where the batches of a run come from: tables that lie on the devices, or windows of them streamed from the host."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import logging
import math
import operator
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxdd._files import digest
from jaxdd.engine.parts import Compiled, sampling
from jaxdd.engine.placement import replicated, split_along, split_rows
from jaxdd.engine.processes import local, place
from jaxdd.errors import JaxddError
from jaxdd.types import (
    EXAMPLES,
    Array,
    Batch,
    Examples,
    HostArray,
    Indices,
    Key,
    Labels,
    Method,
    PyTree,
    RealData,
    Recipe,
    State,
    bound,
)

_WINDOW_BYTES = 2**26
_WINDOW_STEPS = 64
_ALIGNMENT = 64  # bytes, of XLA's buffers


class Feed(NamedTuple):
    """How a run comes by its first state and by the real examples of each step."""

    init: Callable[..., State]
    """`init(key, group=0)`: the first state, on the devices."""
    state: State
    """Its shapes and dtypes."""
    batch: Callable[[PyTree, Array, Key], Batch]
    """`batch(source, step, key)`, traced: the batch of a step, from what `source` gives; the key is for `sample`."""
    abstract: PyTree
    """Shapes, dtypes and shardings of a source."""
    source: Callable[..., tuple[PyTree, int]]
    """`source(step, steps, timeout=None)`: arrays on the devices that serve this step of so many, and until before
    which one. Raises a TimeoutError if they are not there after so many seconds, a JaxddError where data cannot be
    read."""
    close: Callable[[], None] = lambda: None


def fingerprint(data: RealData) -> str:
    """Of what a run learns from (hex), the same whether it is streamed or not."""
    if set(data.tables) == {EXAMPLES} and isinstance(data.examples, Examples) and not data.assets:
        return f"{_digest(data.images)[:32]}{digest([data.labels.values])[:32]}"
    held = (data.tables, data.assets) if data.assets else data.tables
    leaves = jax.tree_util.tree_leaves_with_path(held)
    parts = [f"{jax.tree_util.keystr(path)}={_digest(leaf)}" for path, leaf in leaves]
    return digest([np.frombuffer("\n".join(parts).encode(), np.uint8), data.labels.values])


def _digest(leaf: Any) -> str:
    return leaf.fingerprint if isinstance(leaf, HostArray) else digest([leaf])


def table_of(draw: str) -> str:
    """The table of a draw, "examples" for "examples/query"."""
    return draw.partition("/")[0]


def draw(method: Method | Recipe, data: RealData, key: Key, step: Any = 0) -> Batch:
    """What an update of a method sees: the rows that it samples, gathered. For a loop of one's own.

    Args:
      key, step: for `method.sample`; in a run the key is the same at every step.

    Example:
        batch = engine.draw(method, data, key)
        state, metrics = method.update(key, state, batch)
    """
    draws = sampling(bound(method, data))(key, data.labels, step)
    return Batch(
        {name: jax.tree.map(operator.itemgetter(rows), data.tables[table_of(name)]) for name, rows in draws.items()},
        draws,
        data.assets,
    )


def feed(compiled: Compiled, data: RealData, mesh: Mesh, key: Key) -> Feed:
    """The feed of a run from its data: what lies on the devices is gathered there, what does not comes in windows.

    Args:
      key: of `sample`, whose stream it is the root of.

    Raises:
      JaxddError: for a draw from a table that there is not, or of rows that are no integers.
    """
    sample, tables = compiled.sample, _Tables.of(data.tables)
    draws = jax.eval_shape(sample, key, data.labels, jax.ShapeDtypeStruct((), jnp.int32))
    for draw, rows in draws.items():
        _check_draw(draw, rows, data.tables)
        if table_of(draw) == EXAMPLES and rows.shape[0] % mesh.size:
            logging.getLogger("jaxdd").warning(
                "a batch of %d does not divide over %d devices, so each of them computes all of it; %d would.",
                rows.shape[0],
                mesh.size,
                rows.shape[0] + -rows.shape[0] % mesh.size,
            )
    resident, labels, assets = place((tables.resident, data.labels, dict(data.assets)), replicated(mesh))
    streamed = any(tables.hosted_in(draw) for draw in draws)
    windows = _Windows(sample, tables, draws, data.labels, mesh, key) if streamed else None

    def batch(source: Source, step: Array, key: Key) -> Batch:
        window = source.window
        if window is None:
            rows, stored = sample(key, source.labels, step), {}
        else:
            rows, stored = jax.tree.map(lambda leaf: leaf[step - window.first], (window.rows, window.stored))
        rows = {name: split_rows(numbers, mesh) for name, numbers in rows.items()}

        def leaf(of_draw: str, name: str) -> Array:
            if name in source.resident:
                return source.resident[name][rows[of_draw]]
            return tables.hosted[name].decoded(stored[of_draw][name])

        found = {name: tables.rebuilt(table_of(name), functools.partial(leaf, name)) for name in rows}
        return Batch({name: split_rows(table, mesh) for name, table in found.items()}, rows, source.assets)

    def source(step: int, steps: int, timeout: float | None = None) -> tuple[Source, int]:
        if windows is None:
            return Source(resident, labels, assets, None), steps
        window, until = windows.window(step, steps, timeout)
        return Source(resident, labels, assets, window), until

    init, state = _initial(compiled.init, tables, resident, labels, assets, mesh, key)
    abstract = Source(resident, labels, assets, windows.abstract if windows else None)
    return Feed(init, state, batch, abstract, source, windows.close if windows else lambda: None)


class Source(NamedTuple):
    """What the batches of some steps are taken from, on the devices."""

    resident: dict[str, Array]
    """The leaves of all tables that do not stay on the host, by name."""
    labels: Labels
    """For `sample`."""
    assets: dict[str, PyTree]
    window: Window | None
    """Where something stays on the host: with the rows of its steps, drawn ahead."""


class Window(NamedTuple):
    """What some steps in a row need of what stays on the host."""

    first: Array
    """The first of these steps."""
    rows: dict[str, Indices]
    """By draw, `(steps, *rows.shape)`."""
    stored: dict[str, dict[str, Array]]
    """By draw and name of the leaf, `(steps, *rows.shape, ..)`, not yet decoded."""


@dataclasses.dataclass(frozen=True)
class _Tables:
    """Tables as their leaves by name, those of the host and the others apart."""

    whole: Mapping[str, PyTree]
    resident: dict[str, Array]
    hosted: dict[str, HostArray]

    @classmethod
    def of(cls, tables: Mapping[str, PyTree]) -> _Tables:
        resident, hosted = {}, {}
        for table, tree in tables.items():
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
                (hosted if isinstance(leaf, HostArray) else resident)[_name(table, path)] = leaf
        return cls(tables, resident, hosted)

    def rebuilt(self, table: str, leaf: Callable[[str], Any]) -> PyTree:
        """A table, or something of its structure, from what `leaf` gives by name."""
        return jax.tree_util.tree_map_with_path(lambda path, _: leaf(_name(table, path)), self.whole[table])

    def hosted_in(self, draw: str) -> dict[str, HostArray]:
        """The leaves of a draw's table that stay on the host."""
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(self.whole[table_of(draw)])]
        names = [_name(table_of(draw), path) for path in paths]
        return {name: self.hosted[name] for name in names if name in self.hosted}


def _name(table: str, path: Any) -> str:
    return f"{table}{jax.tree_util.keystr(path)}"


def _check_draw(draw: str, rows: Any, tables: Mapping[str, PyTree]) -> None:
    if table_of(draw) not in tables:
        raise JaxddError(f"sample draws from the table {table_of(draw)!r}; there are only: {', '.join(tables)}.")
    if rows.ndim < 1 or not jnp.issubdtype(rows.dtype, jnp.integer):
        raise JaxddError(
            f"sample must give row numbers for {draw!r}, integers (rows, ..), got {rows.dtype} of shape {rows.shape}."
        )


def _initial(
    of: Callable[..., State],
    tables: _Tables,
    resident: dict[str, Array],
    labels: Labels,
    assets: dict[str, PyTree],
    mesh: Mesh,
    key: Key,
) -> tuple[Callable[..., State], State]:
    """The first state from a key and the number of a group, and its shapes."""
    unread: list[JaxddError] = []

    def noted(hosted: HostArray) -> HostArray:
        def read(rows: np.ndarray) -> np.ndarray:
            try:
                return hosted.read(rows)
            except JaxddError as error:  # a callback's error comes back as another one
                unread.append(error)
                raise

        return dataclasses.replace(hosted, read=read)

    on_request = {name: noted(hosted) for name, hosted in tables.hosted.items()}

    def begin(key: Key, group: Any, resident: dict[str, Array], labels: Labels, assets: dict[str, PyTree]) -> State:
        leaves = resident | on_request
        whole = {table: tables.rebuilt(table, leaves.get) for table in tables.whole}
        return of(key, RealData(whole, labels, assets), group)

    state = jax.eval_shape(begin, key, np.int32(0), resident, labels, assets)
    if not on_request:
        leaves, structure = jax.tree.flatten({table: tables.rebuilt(table, resident.get) for table in tables.whole})
        whole = _whole(of, structure, replicated(mesh))
        return lambda key, group=0: whole(key, np.int32(group), leaves, labels, assets), state
    alone = jax.jit(begin)

    def init(key: Key, group: int = 0) -> State:
        one = mesh.local_devices[0]  # what is read comes by a callback, which would run on each of several
        try:
            given = jax.device_put(local((key, resident, labels, assets)), one)
            found = jax.block_until_ready(alone(given[0], np.int32(group), *given[1:]))
        except jax.errors.JaxRuntimeError:
            if unread:
                raise unread[0] from None
            raise
        return place(found, replicated(mesh))

    return init, state


@functools.lru_cache(maxsize=8)
def _whole(init: Callable[..., State], structure: Any, sharding: Any) -> Callable[..., State]:
    """The first state from a key, the leaves of the tables, and labels: compiled once for equal runs."""

    def begin(key: Key, group: Any, leaves: list[Array], labels: Labels, assets: dict[str, PyTree]) -> State:
        return init(key, RealData(jax.tree.unflatten(structure, leaves), labels, assets), group)

    return jax.jit(begin, out_shardings=sharding)


def _cpu() -> Any:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise JaxddError(
            "streamed data need JAX's CPU backend beside the accelerator's: JAX_PLATFORMS=cuda,cpu, or unset it."
        ) from error


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An empty array that a CPU's devices take as it is; of others they make a copy."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


class _Windows:
    """Windows of a fixed number of steps, the next one read and sent while the devices work on this one.

    Each process reads only what its own devices get.

    Attributes:
      abstract: shapes, dtypes and shardings of a window.
    """

    def __init__(
        self,
        sample: Callable[[Key, Labels, Any], dict[str, Indices]],
        tables: _Tables,
        draws: Mapping[str, jax.ShapeDtypeStruct],
        labels: Labels,
        mesh: Mesh,
        key: Key,
    ):
        self._hosted = {draw: tables.hosted_in(draw) for draw in draws}
        of_step = sum(
            rows.size * math.prod(leaf.shape[1:]) * np.dtype(leaf.stored).itemsize
            for draw, rows in draws.items()
            for leaf in self._hosted[draw].values()
        )
        length = self._length = int(np.clip(_WINDOW_BYTES // max(of_step, 1), 1, _WINDOW_STEPS))
        self._everywhere = replicated(mesh)

        def part(rows: Any, of_row: tuple[int, ...], dtype: Any) -> Any:
            sharding = split_along(mesh, rows.shape[0], axis=1)
            return jax.ShapeDtypeStruct((length, *rows.shape, *of_row), dtype, sharding=sharding)

        first: Any = jax.ShapeDtypeStruct((), jnp.int32, sharding=self._everywhere)

        self.abstract = Window(
            first,
            {draw: part(rows, (), rows.dtype) for draw, rows in draws.items()},
            {
                draw: {name: part(rows, leaf.shape[1:], leaf.stored) for name, leaf in self._hosted[draw].items()}
                for draw, rows in draws.items()
            },
        )

        @jax.jit
        def rows_of(first: Array, drawn: tuple[Key, Labels]) -> dict[str, Indices]:
            key, labels = drawn
            steps = first + jnp.arange(length)
            return jax.lax.map(lambda step: sample(key, labels, step), steps)

        self._host = _cpu()  # so that drawing does not queue behind the devices' work
        self._rows_of, self._drawn = rows_of, jax.device_put((key, labels), self._host)
        self._closed = threading.Event()
        self._reader = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="jaxdd-stream")
        self._pending: dict[int, concurrent.futures.Future[Window]] = {}

    def window(self, step: int, steps: int, timeout: float | None = None) -> tuple[Window, int]:
        """As `Feed.source`."""
        first = step // self._length * self._length
        for begin in (first, first + self._length):
            if begin not in self._pending and begin < steps:
                self._pending[begin] = self._reader.submit(self._read_window, begin)
        for begin in [begin for begin in self._pending if begin < first]:
            del self._pending[begin]
        return self._pending[first].result(timeout), min(first + self._length, steps)

    def close(self) -> None:
        """Read no more."""
        self._closed.set()
        self._reader.shutdown(cancel_futures=True)

    def _read_window(self, first: int) -> Window:
        drawn = self._rows_of(jax.device_put(np.int32(first), self._host), self._drawn)
        rows = {draw: np.asarray(of_draw) for draw, of_draw in drawn.items()}

        def sent(like: Any, part: Callable[[int | None, int | None], np.ndarray]) -> Array:
            part = functools.cache(part)  # where the rows do not divide, every device wants all of them

            def of_device(at: Any) -> np.ndarray:
                return part(at[1].start, at[1].stop)

            return jax.make_array_from_callback(like.shape, like.sharding, of_device)

        def numbers(draw: str, start: int | None, stop: int | None) -> np.ndarray:
            return rows[draw][:, start:stop]

        def stored(draw: str, name: str, start: int | None, stop: int | None) -> np.ndarray:
            chosen, leaf = rows[draw][:, start:stop], self._hosted[draw][name]
            found = _aligned((*chosen.shape, *leaf.shape[1:]), np.dtype(leaf.stored))
            for k, of_step in enumerate(chosen):
                self._read(leaf, of_step, found[k])
            return found

        return Window(
            place(np.int32(first), self._everywhere),
            {draw: sent(like, functools.partial(numbers, draw)) for draw, like in self.abstract.rows.items()},
            {
                draw: {name: sent(like, functools.partial(stored, draw, name)) for name, like in leaves.items()}
                for draw, leaves in self.abstract.stored.items()
            },
        )

    def _read(self, leaf: HostArray, rows: np.ndarray, out: np.ndarray) -> None:
        if self._closed.is_set():
            raise concurrent.futures.CancelledError
        leaf.rows_into(rows, out)
