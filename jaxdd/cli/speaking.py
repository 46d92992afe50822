"""What goes on, for people: a line that moves on a terminal, and lines that stay."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from jaxdd import _progress

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_LEAST = {True: 0.05, False: 5.0}  # seconds; what is shorter leaves no line, on a terminal and in a file


class Speaker:
    """A `_progress.Listener` on standard error.

    What ends leaves a line with its time, in a file only if that was seconds. On a terminal the line of what goes on
    moves meanwhile.
    """

    def __init__(self, console: Console):
        self._console = console
        self.draws = console.is_terminal and not console.is_dumb_terminal
        self._phases: list[tuple[str, float]] = []
        self._live: Any = None

    def begin(self, what: str) -> None:
        self._phases.append((what, time.perf_counter()))
        if self.draws and self._live is None:
            from rich.live import Live

            self._live = Live(
                console=self._console,
                get_renderable=self._now,
                refresh_per_second=4,
                transient=True,
                redirect_stdout=False,
            )
            self._live.start()

    def end(self, done: bool) -> None:
        what, began = self._phases.pop()
        if self._phases:
            return
        if self._live is not None:
            self._live.stop()
            self._live = None
        seconds = time.perf_counter() - began
        if done and seconds >= _LEAST[self.draws]:
            self.say(f"{what}, {seconds:.1f} s")

    def say(self, line: str) -> None:
        from rich.text import Text

        self._console.print(Text(line), soft_wrap=True)

    def _now(self) -> RenderableType:
        from rich.text import Text

        if not self._phases:
            return Text("")
        frame = "|/-\\"[int(4 * time.perf_counter()) % 4]  # every terminal has these
        inner = ": ".join(what for what, _ in self._phases)
        seconds = time.perf_counter() - self._phases[0][1]
        text = Text(f"{frame} {seconds:.0f} s, {inner}")
        text.truncate(self._console.width, overflow="ellipsis")
        return text


@contextlib.contextmanager
def speaking() -> Iterator[None]:
    """Say on standard error what goes on while a command computes."""
    from rich.console import Console

    with _progress.listening(Speaker(Console(file=sys.stderr, highlight=False))):
        yield


def awake(distributed: str | None = None) -> tuple[ModuleType, ModuleType]:
    """`jaxdd.engine` and `jaxdd.workflows`, with JAX awake and what it compiles kept; only the first process speaks on.

    Args:
      distributed: what `--distributed` says, if this is one of several processes.
    """
    from jaxdd import engine, workflows
    from jaxdd.cli import compiled

    if distributed:
        engine.connect(None if distributed == "auto" else distributed)
    if not engine.is_first():
        _progress.hush()
    compiled.keep()
    return engine, workflows
