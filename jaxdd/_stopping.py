"""Signals that end work and lose nothing: the main thread hears them, threads that work for it obey."""

from __future__ import annotations

import contextlib
import contextvars
import signal
import threading
from collections.abc import Iterator

from jaxdd.errors import RunInterrupted

_OBEYED: contextvars.ContextVar[list[int] | None] = contextvars.ContextVar("obeyed", default=None)


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """A list that SIGINT or SIGTERM appends to; a second SIGINT interrupts at once.

    Only the main thread can listen. Another one has the list that it obeys, or one that stays empty.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        obeyed = _OBEYED.get()
        yield caught if obeyed is None else obeyed
        return

    def note(signum, frame):
        if signum == signal.SIGINT and caught:
            raise KeyboardInterrupt
        caught.append(signum)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def obeying(caught: list[int]) -> Iterator[None]:
    """What this thread does meanwhile ends where the list gets a signal, as it would in the main thread.

    Args:
      caught: of `signals` in the main thread.
    """
    token = _OBEYED.set(caught)
    try:
        yield
    finally:
        _OBEYED.reset(token)


def check() -> None:
    """Raises RunInterrupted in a thread that obeys a list with a signal in it. Between things that take long."""
    if obeyed := _OBEYED.get():
        raise RunInterrupted("interrupted.", obeyed[0])
