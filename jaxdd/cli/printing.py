"""Output that never decides how a command ends: on a terminal of few letters, a full disk, or nobody at all."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class _Forgiving:
    """A stream of text that takes what it cannot write for written; only that its reader has left is an error."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            raise
        except (OSError, ValueError):  # a full disk; a stream that is closed
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            raise
        except (OSError, ValueError):
            pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """While a command runs standard output and error forgive, and afterwards hold nothing that could still fail."""
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nobody:
        sys.stdout, sys.stderr = (_Forgiving(stream or nobody) for stream in before)  # None where there is none
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
            for stream in before:
                _settle(stream)


def _settle(stream: TextIO | None) -> None:
    """Write what is held; where that fails forget it, or the interpreter would fail by it when it ends."""
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
