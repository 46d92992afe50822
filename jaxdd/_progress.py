"""What is going on, for whoever listens: nobody, unless a command does.

    with progress.phase("reading mnist"):
        with progress.phase("train"):
            ...

What computes names it, and knows no terminal; a listener is a thread's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Protocol


class Listener(Protocol):
    """Who is told.

    Attributes:
      draws: whether it has a terminal, on which a bar can move.
    """

    draws: bool

    def begin(self, what: str) -> None:
        """Something begins, within what has begun before and not ended."""

    def end(self, done: bool) -> None:
        """The last that began has ended: it is done, or it failed."""

    def say(self, line: str) -> None:
        """Something has happened."""


_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def listening(listener: Listener | None) -> Iterator[None]:
    """Tell a listener what goes on meanwhile in this thread; with None nobody."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def hush() -> None:
    """Tell nobody any more, until the end of `listening`."""
    _LISTENER.set(None)


def listener() -> Listener | None:
    """Who listens now."""
    return _LISTENER.get()


@contextlib.contextmanager
def phase(what: str) -> Iterator[None]:
    """Something that takes its time, in words such as "reading mnist"."""
    told = _LISTENER.get()
    if told is None:
        yield
        return
    told.begin(what)
    done = False
    try:
        yield
        done = True
    finally:
        told.end(done)


def say(line: str) -> None:
    """Something that has happened."""
    if (told := _LISTENER.get()) is not None:
        told.say(line)
