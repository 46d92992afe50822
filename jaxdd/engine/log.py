"""What a run tells: metrics as JSON lines, optionally TensorBoard, and a progress bar."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from jaxdd import _progress
from jaxdd._files import disk_errors, write_lines
from jaxdd.engine.processes import is_first, on_first
from jaxdd.errors import JaxddError


class MetricsLog:
    """`metrics.jsonl`: one JSON object a line, `{"step": .., "split": "train" | "validation", name: value, ..}`."""

    def __init__(self, directory: pathlib.Path | None, *, resumed_from: int, tensorboard: bool):
        self._path = path = directory / "metrics.jsonl" if directory else None
        self._board = None
        if tensorboard and directory and is_first():
            from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]

            self._board = SummaryWriter(str(directory / "tensorboard"))

        def begin() -> list[dict[str, Any]]:
            if path is None:
                return []
            # A run killed after its last checkpoint has logged steps that will now be done again.
            rows = [row for row in read_metrics(path) if row["step"] <= resumed_from] if path.exists() else []
            write_lines(path, rows)
            return rows

        self.rows = on_first(begin)

    def write(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        row, path = {"step": step, "split": split, **metrics}, self._path
        self.rows.append(row)

        def append() -> None:
            if path is not None:
                with disk_errors(path), path.open("a") as file:
                    file.write(json.dumps(row) + "\n")

        on_first(append)
        if self._board is not None:
            for name, value in metrics.items():
                self._board.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`; a line cut short by a kill is left out."""
    rows = []
    with disk_errors(path):
        lines = path.read_text(errors="replace").splitlines()
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def require_tensorboard() -> None:
    """Raises JaxddError where TensorBoard files cannot be written."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise JaxddError("TensorBoard logs need tensorboardX: pip install 'jaxdd[tensorboard]'.")


def progress_bar(steps: int, done: int, enabled: bool, name: str = "") -> Any:
    """A bar, which stays for whoever listens, and is a widget in a notebook; where there is no terminal lines."""
    from tqdm.auto import tqdm

    listener = _progress.listener()
    if enabled and listener is not None and not listener.draws:
        return _Lines(steps, done, name, listener)
    return tqdm(
        total=steps,
        initial=done,
        unit="step",
        desc=name or None,
        disable=None if enabled else True,
        dynamic_ncols=True,
        leave=listener is not None,
    )


class _Lines:
    """A line for every tenth of a run, as a bar is told of it."""

    def __init__(self, steps: int, done: int, name: str, listener: _progress.Listener):
        self._steps, self._first, self._done = steps, done, done
        self._name, self._listener = f"{name}: " if name else "", listener
        self._began, self._loss = time.perf_counter(), ""

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def set_postfix(self, values: Mapping[str, str]) -> None:
        self._loss = "".join(f", {name} {value}" for name, value in values.items())

    def update(self, done: int) -> None:
        before, self._done = self._done, self._done + done
        if self._done * 10 // self._steps > before * 10 // self._steps:
            seconds = time.perf_counter() - self._began
            left = seconds * (self._steps - self._done) / (self._done - self._first)
            ends = f", {left:.0f} s left" if self._done < self._steps else f", {seconds:.1f} s"
            self._listener.say(f"{self._name}step {self._done:,} of {self._steps:,}{self._loss}{ends}")
