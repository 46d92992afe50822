"""What a run tells: metrics as JSON lines, optionally TensorBoard, and a progress bar."""

from __future__ import annotations

import importlib.util
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxdd._files import disk_errors, write_atomically
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
            write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))
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


def progress_bar(steps: int, done: int, enabled: bool, name: str = ""):
    """A bar that is quiet where the output is not a terminal, and a widget in a notebook."""
    from tqdm.auto import tqdm

    return tqdm(
        total=steps, initial=done, unit="step", desc=name or None, disable=None if enabled else True, leave=False
    )
