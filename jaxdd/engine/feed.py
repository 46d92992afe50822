"""Where the batches of a run come from: data that lie on the devices, or windows of them streamed from the host."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxdd._files import digest
from jaxdd.engine.placement import replicated, split_along, split_batch, split_indices
from jaxdd.engine.processes import local, place
from jaxdd.errors import JaxddError
from jaxdd.types import Array, Batch, HostImages, Key, Labels, Method, PyTree, RealData, State

_WINDOW_BYTES = 2**26
_WINDOW_STEPS = 64


class Feed(NamedTuple):
    """How a run comes by its first state and by the real examples of each step."""

    init: Callable[[Key], State]
    """The first state, on the devices."""
    state: State
    """Its shapes and dtypes."""
    batch: Callable[[PyTree, Array, Key], Batch]
    """`batch(source, step, key)`, traced: the examples of a step, from what `source` gives; the key is for `sample`."""
    abstract: PyTree
    """Shapes, dtypes and shardings of a source."""
    source: Callable[..., tuple[PyTree, int]]
    """`source(step, steps, timeout=None)`: arrays on the devices that serve this step of so many, and until before
    which one. Raises a TimeoutError if they are not there after so many seconds, a JaxddError where data cannot be
    read."""
    close: Callable[[], None] = lambda: None


def _cpu() -> Any:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise JaxddError(
            "streamed data need JAX's CPU backend beside the accelerator's: JAX_PLATFORMS=cuda,cpu, or unset it."
        ) from error


def fingerprint(data: RealData) -> str:
    """Of what a run learns from (hex), the same whether it is streamed or not."""
    images = data.images.fingerprint if isinstance(data.images, HostImages) else digest([data.images])
    return f"{images[:32]}{digest([data.labels.values])[:32]}"


def feed(method: Method, data: RealData, mesh: Mesh, key: Key) -> Feed:
    """The feed of a method from its data.

    Args:
      key: of `method.sample`, whose stream it is the root of.
    """
    size = jax.eval_shape(method.sample, key, data.labels).shape[0]
    if size % mesh.size:
        logging.getLogger("jaxdd").warning(
            "a batch of %d does not divide over %d devices, so each of them computes all of it; %d would.",
            size,
            mesh.size,
            size + -size % mesh.size,
        )
    if isinstance(data.images, HostImages):
        return _streamed(method, data.images, data.labels, mesh, key, size)
    return _resident(method, data, mesh, key)


def _resident(method: Method, data: RealData, mesh: Mesh, key: Key) -> Feed:
    """All data on every device, which gathers its own share of each batch."""
    data = place(data, replicated(mesh))
    init = jax.jit(method.init, out_shardings=replicated(mesh))

    def batch(data: RealData, step: Array, key: Key) -> Batch:
        indices = split_indices(method.sample(jax.random.fold_in(key, step), data.labels), mesh)
        return split_batch(Batch(data.images[indices], data.labels.values[indices]), mesh)

    def source(step: int, steps: int, timeout: float | None = None) -> tuple[RealData, int]:
        return data, steps

    return Feed(lambda key: init(key, data), jax.eval_shape(init, key, data), batch, data, source)


def _streamed(method: Method, images: HostImages, labels: Labels, mesh: Mesh, key: Key, size: int) -> Feed:
    """Windows of a fixed number of steps, the next one read and sent while the devices work on this one."""
    windows = _Windows(method, images, labels, mesh, key, size)
    unread: list[JaxddError] = []

    def noted(rows: np.ndarray) -> np.ndarray:
        try:
            return images.read(rows)
        except JaxddError as error:  # a callback's error comes back as another one
            unread.append(error)
            raise

    on_request: Any = dataclasses.replace(images, read=noted)

    @jax.jit
    def initial(key: Key, labels: Labels) -> State:
        return method.init(key, RealData(on_request, labels))

    def init(key: Key) -> State:
        one = mesh.local_devices[0]  # images are read by a callback, which would run on each of several
        try:
            state = jax.block_until_ready(initial(*jax.device_put((local(key), labels), one)))
        except jax.errors.JaxRuntimeError:
            if unread:
                raise unread[0] from None
            raise
        return place(state, replicated(mesh))

    def batch(window: PyTree, step: Array, key: Key) -> Batch:
        stored, classes = (window[name][step - window["first"]] for name in ("images", "labels"))
        return Batch(stored if images.decode is None else images.decode(stored), classes)

    return Feed(
        init=init,
        state=jax.eval_shape(initial, key, labels),
        batch=batch,
        abstract=windows.abstract,
        source=windows.source,
        close=windows.close,
    )


class _Windows:
    """The examples of consecutive steps on the devices. Each process reads only what its own devices get.

    Attributes:
      abstract: shapes, dtypes and shardings of a window.
    """

    def __init__(self, method: Method, images: HostImages, labels: Labels, mesh: Mesh, key: Key, size: int):
        self._images, self._labels, self._mesh = images, np.asarray(labels.values), mesh
        of_step = size * int(np.prod(images.shape[1:])) * np.dtype(images.stored).itemsize
        self._length = int(np.clip(_WINDOW_BYTES // of_step, 1, _WINDOW_STEPS))
        self._shape = (self._length, size, *images.shape[1:])
        self._sharding = split_along(mesh, size, axis=1)
        self.abstract = {
            "first": jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated(mesh)),
            "images": jax.ShapeDtypeStruct(self._shape, images.stored, sharding=self._sharding),
            "labels": jax.ShapeDtypeStruct(self._shape[:2], self._labels.dtype, sharding=self._sharding),
        }

        @jax.jit
        def rows_of(first: Array, drawn: tuple[Key, Labels]) -> Array:
            key, labels = drawn
            steps = first + jnp.arange(self._length)
            return jax.lax.map(lambda step: method.sample(jax.random.fold_in(key, step), labels), steps)

        self._host = _cpu()  # so that drawing does not queue behind the devices' work
        self._rows_of, self._drawn = rows_of, jax.device_put((key, labels), self._host)
        self._closed = threading.Event()
        self._reader = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="jaxdd-stream")
        self._pending: dict[int, concurrent.futures.Future[PyTree]] = {}

    def source(self, step: int, steps: int, timeout: float | None = None) -> tuple[PyTree, int]:
        """As `Feed.source`."""
        first = step // self._length * self._length
        for begin in (first, first + self._length):
            if begin not in self._pending and begin < steps:
                self._pending[begin] = self._reader.submit(self._window, begin)
        for begin in [begin for begin in self._pending if begin < first]:
            del self._pending[begin]
        return self._pending[first].result(timeout), min(first + self._length, steps)

    def close(self) -> None:
        """Read no more."""
        self._closed.set()
        self._reader.shutdown(cancel_futures=True)

    def _window(self, first: int) -> PyTree:
        rows = np.asarray(self._rows_of(jax.device_put(np.int32(first), self._host), self._drawn))

        @functools.cache  # where the batch does not divide, every device wants all of it
        def between(start: int | None, stop: int | None) -> np.ndarray:
            chosen = rows[:, start:stop]
            images = np.empty((*chosen.shape, *self._shape[2:]), self._images.stored)
            for k, of_step in enumerate(chosen):
                images[k] = self._read(of_step)
            return images

        def part(at: Any) -> np.ndarray:
            return between(at[1].start, at[1].stop)

        def classes(at: Any) -> np.ndarray:
            return self._labels[rows[at]]

        return {
            "first": place(np.int32(first), replicated(self._mesh)),
            "images": jax.make_array_from_callback(self._shape, self._sharding, part),
            "labels": jax.make_array_from_callback(self._shape[:2], self._sharding, classes),
        }

    def _read(self, rows: np.ndarray) -> np.ndarray:
        if self._closed.is_set():
            raise concurrent.futures.CancelledError
        return self._images.read(rows)
