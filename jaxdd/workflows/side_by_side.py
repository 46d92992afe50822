"""Pieces of work on several devices: a thread for each, signals heard by the main one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import jax

from jaxdd import _stopping, engine
from jaxdd.errors import RunInterrupted

T = TypeVar("T")

_LISTENING = 0.1  # seconds


class _Pieces(Generic[T]):
    """What is left to do, by what it is compiled as.

    A device goes on with what it has compiled; then it takes what no other has begun, then what has most left.
    """

    def __init__(self, pieces: Sequence[T], program: Callable[[T], str]):
        self._left: dict[str, list[T]] = {}
        for piece in pieces:
            self._left.setdefault(program(piece), []).append(piece)
        self._begun: set[str] = set()
        self._lock = threading.Lock()

    def take(self, last: str | None) -> tuple[str, T] | None:
        """The next piece for a device that did one of `last` before, and of what it is; None if none is left."""
        with self._lock:
            left = [name for name, pieces in self._left.items() if pieces]
            if not left:
                return None
            fresh = [name for name in left if name not in self._begun]
            name = last if last in left else fresh[0] if fresh else max(left, key=lambda name: len(self._left[name]))
            self._begun.add(name)
            return name, self._left[name].pop(0)


def on_devices(
    work: Callable[[T, Any], None], pieces: Sequence[T], devices: Sequence[Any], program: Callable[[T], str]
) -> None:
    """`work(piece, device)` for each piece, on whichever device is free; on a single one they follow each other here.

    SIGINT and SIGTERM end it: runs of the engine save and stop, evaluations stop between networks, nothing more is
    begun. After a failure of `work` nothing more is begun either, and it is raised once the others are done.

    Args:
      program: pieces of the same share what is compiled for a device.

    Raises:
      RunInterrupted: after a signal.
    """
    if len(devices) == 1:
        with jax.default_device(devices[0]):
            for piece in pieces:
                work(piece, devices[0])
        return
    left, failures = _Pieces(pieces, program), []
    stop = threading.Event()

    def worker(device: Any, caught: list[int]) -> None:
        last = None
        with _stopping.obeying(caught), jax.default_device(device):
            while not stop.is_set() and not caught and (taken := left.take(last)):
                last, piece = taken
                try:
                    work(piece, device)
                except BaseException as error:
                    failures.append(error)
                    stop.set()

    # The limit of BLAS's threads is the process's: no run may lift it when it ends.
    with _stopping.signals() as caught, engine.one_blas_thread():
        threads = [threading.Thread(target=worker, args=(each, caught), daemon=True) for each in devices]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(_LISTENING)  # in which signals are heard
    if caught:
        raise RunInterrupted("interrupted.", caught[0])
    if failures:
        raise failures[0]
