"""One method over a grid of settings and seeds, in one process: resumable, and a point that fails ends nothing."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

from jaxdd._files import expanded
from jaxdd._numbers import jsonable
from jaxdd.errors import JaxddError, RunInterrupted
from jaxdd.workflows.data import Real
from jaxdd.workflows.distill import distill
from jaxdd.workflows.grid import Point, key_of, points_of
from jaxdd.workflows.ledger import CSV, MARKDOWN, Ledger, Tell
from jaxdd.workflows.outcome import FILE
from jaxdd.workflows.record import record
from jaxdd.workflows.side_by_side import on_devices
from jaxdd.workflows.table import SWEEP, Run, read
from jaxdd.workflows.task import Task, check


def sweep(
    config: Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]],
    seeds: int | Sequence[int],
    workdir: str | os.PathLike,
    *,
    resume: bool = False,
    evaluate: str = "quick",
    full_data: bool = False,
    devices: Sequence[Any] | None = None,
    command: str = "",
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Distil every point of a grid with every seed, and put what they came to into one table.

        sweep({"method": {"name": "kip"}}, {"method.learning_rate": [0.01, 0.04]}, 5, "runs/rates")["table"]["rows"]

    A point is what `distill` makes of its config, in a directory of its own, `learning_rate=0.01/seed=0`. All points
    are runs of one process: seeds of one setting are compiled once, data are loaded once. Each has one device; several
    devices work on points side by side. A point's file does not depend on what is beside it.

    Args:
      config: as `distill` takes it.
      grid: values of fields, by dotted names; of several fields every combination. {} for seeds alone.
      seeds: how many, from the config's on, or which.
      workdir: where all goes; `sweep.json`, `sweep.csv` and `sweep.md` in it hold the table.
      resume: take points that are finished from their results, and go on with those that are not, bit for bit. The grid
        may have grown.
      evaluate, full_data, command: as of `distill`, for every point.
      devices: that take points; by default all of this process.
      tell: called as `tell(point, number, total)` whenever one is done or has failed, also from other threads, but
        never twice at once; a point as in the result.

    Returns:
      JSON-able: `points`, each `{"directory", "seed", "settings", "config", "status", "sentence", "seconds",
      "compile_seconds", "taken"}`, "done" or "failed", and taken if it was finished before; `table`, see
      `workflows.table`; `seconds`, wall-clock, and `compile_seconds`, of what was done now; `grid`; `record`.

    Raises:
      JaxddError: for anything wrong in any point's config, before one is begun; for a directory that holds a sweep
        without `resume`, or somebody else's files. What fails later stands in the table.
      RunInterrupted: after a signal; what was done is saved.
    """
    began = time.perf_counter()
    if jax.process_count() > 1:
        raise JaxddError("a sweep is work of one process: start it without the others.")
    points, folder = points_of(config, grid, seeds), expanded(workdir)
    devices = list(jax.local_devices() if devices is None else devices)
    _check_folder(folder, points, resume=resume)
    tasks = [_checked(point, folder, evaluate=evaluate, full_data=full_data) for point in points]
    ledger = Ledger(points, [task.config for task in tasks], folder, tell)
    for i, task in enumerate(tasks):
        if resume and _is_finished(task):
            ledger.take(i)
    left = ledger.open
    loaded = _Data([tasks[i].config["data"] for i in left])
    devices = devices[: max(1, len(left))]
    how = {"resume": resume, "evaluate": evaluate, "full_data": full_data, "command": command}

    def work(i: int, device: Any) -> None:
        with ledger.at_work(i), loaded.of(tasks[i].config["data"]) as real:
            alone = len(devices) == 1
            distill(points[i].config, tasks[i].workdir, real=real, devices=[device], progress=alone, **how)

    about = {"grid": {field: list(values) for field, values in grid.items()}}
    about["record"] = record(jsonable(config), command=command)
    try:
        on_devices(work, left, devices, lambda i: points[i].program)
    except KeyboardInterrupt as stopped:
        ledger.write(about, time.perf_counter() - began)
        raise RunInterrupted(
            f"{ledger.count('done')} of {len(points)} points are done; the same command with --resume goes on.",
            getattr(stopped, "signum", signal.SIGINT),
        ) from stopped
    return ledger.write(about, time.perf_counter() - began)


def _check_folder(folder: pathlib.Path, points: Sequence[Point], *, resume: bool) -> None:
    """A directory must be free, or be gone on with."""
    swept = (folder / SWEEP).exists()
    for name in (CSV, MARKDOWN):
        if (folder / name).exists() and not swept:
            raise JaxddError(f"{folder} holds {name} but no sweep of jaxdd; choose another directory.")
    begun = any((folder / point.directory / "run.json").exists() for point in points)
    if (begun or swept) and not resume:
        raise JaxddError(f"{folder} already holds a sweep; add --resume to go on with it, or choose another directory.")


def _checked(point: Point, folder: pathlib.Path, *, evaluate: str, full_data: bool) -> Task:
    """A point's config as `distill` checks it; what is wrong is said with what the grid has set."""
    try:
        return check(point.config, folder / point.directory, level=evaluate, full_data=full_data)
    except JaxddError as error:
        if not point.settings:
            raise
        settings = ", ".join(f"{name}={value}" for name, value in point.settings.items())
        raise JaxddError(f"{settings}: {error}") from error


def _is_finished(task: Task) -> bool:
    """Whether a point's results are there, of this very config and with all that is asked for.

    How a machine went about it may differ.
    """
    run = read(task.workdir)
    if not isinstance(run, Run) or not (task.workdir / FILE).exists():
        return False
    held = run.content["record"]["config"]
    if any(key_of(held.get(name)) != key_of(task.config[name]) for name in task.config if name != "execution"):
        return False
    result, names = run.content["result"], [row.get("name") for row in run.content.get("rows") or []]
    if task.model is None:
        return task.level == "none" or result.get("kernel_accuracy") is not None
    measured = (result.get("model"), result.get("protocol")) == (task.model, task.protocol.name)
    return measured and ("full data" in names or not task.full_data)


class _Data:
    """Data of points: loaded by the first that needs them, forgotten after the last."""

    def __init__(self, sections: Sequence[Mapping[str, Any]]):
        self._left = [key_of(section) for section in sections]
        self._held: dict[str, Real] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def of(self, section: Mapping[str, Any]) -> Iterator[Real]:
        """What the section `data` of a complete config says."""
        key = key_of(section)
        try:
            with self._lock:
                if key not in self._held:
                    self._held[key] = Real.of_config(section)
            yield self._held[key]
        finally:
            self._left.remove(key)
            if key not in self._left:
                self._held.pop(key, None)
