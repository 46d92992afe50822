"""What becomes of the points of a sweep, and the files that say so."""

from __future__ import annotations

import contextlib
import json
import logging
import pathlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jaxdd import report
from jaxdd._files import write_atomically
from jaxdd.errors import JaxddError
from jaxdd.workflows.grid import Point
from jaxdd.workflows.outcome import RESULTS
from jaxdd.workflows.table import SWEEP, run_of, tabulated

CSV, MARKDOWN = "sweep.csv", "sweep.md"
_LOG = logging.getLogger("jaxdd")

Tell = Callable[[Mapping[str, Any], int, int], None]


class Ledger:
    """The points of a sweep, each "open" until it is "done" or "failed". Threads may share it.

    Args:
      configs: complete, of each point.
      folder: of the sweep.
      tell: see `workflows.sweep`.

    Attributes:
      points: JSON-able, see `workflows.sweep`.
    """

    def __init__(
        self, points: Sequence[Point], configs: Sequence[Mapping[str, Any]], folder: pathlib.Path, tell: Tell | None
    ):
        self._folder, self._tell = folder, tell
        self._lock, self._told = threading.Lock(), 0
        self.points: list[dict[str, Any]] = [
            {
                "directory": point.directory,
                "seed": point.config["seed"],
                "settings": point.settings,
                "config": config,
                "status": "open",
                "sentence": None,
                "seconds": 0.0,
                "compile_seconds": 0.0,
                "taken": False,
            }
            for point, config in zip(points, configs, strict=True)
        ]

    @property
    def open(self) -> list[int]:
        """The numbers of the points that are."""
        return [i for i, point in enumerate(self.points) if point["status"] == "open"]

    def count(self, status: str) -> int:
        """How many points are that."""
        return sum(point["status"] == status for point in self.points)

    def take(self, i: int) -> None:
        """A point was finished before."""
        self._now(i, status="done", taken=True)

    @contextlib.contextmanager
    def at_work(self, i: int) -> Iterator[None]:
        """A point is done with what happens meanwhile, or fails by what is raised; an interruption leaves it open."""
        try:
            yield
        except JaxddError as error:
            self._now(i, status="failed", sentence=str(error))
        except Exception as error:
            _LOG.warning("%s failed:", self.points[i]["directory"], exc_info=True)
            said = (str(error).splitlines() or [""])[0]
            self._now(i, status="failed", sentence=f"{type(error).__name__}: {said}")
        else:
            result = self._results(i)["result"]
            self._now(i, status="done", seconds=result["seconds"], compile_seconds=result["compile_seconds"])

    def _now(self, i: int, **facts: Any) -> None:
        with self._lock:
            self.points[i] |= facts
            self._told += 1
            if self._tell is not None:
                self._tell(self.points[i], self._told, len(self.points))

    def _results(self, i: int) -> dict[str, Any]:
        return json.loads((self._folder / self.points[i]["directory"] / RESULTS).read_text())

    def write(self, about: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """The sweep's files; what they hold is returned."""
        runs = []
        for i, point in enumerate(self.points):
            if point["status"] != "open":
                held = self._results(i) if point["status"] == "done" else {}
                where = str(self._folder / point["directory"])
                runs.append(
                    run_of(where, held["record"]["config"] if held else point["config"], held, point["sentence"])
                )
        found = {
            **about,
            "points": self.points,
            "table": tabulated(runs) if runs else None,
            "seconds": seconds,
            "compile_seconds": sum(point["compile_seconds"] for point in self.points),
        }
        write_atomically(self._folder / SWEEP, json.dumps(found, indent=2) + "\n")
        if found["table"]:
            write_atomically(self._folder / CSV, report.runs.as_csv(found["table"]))
            write_atomically(self._folder / MARKDOWN, report.runs.as_markdown(found["table"]))
        return found
