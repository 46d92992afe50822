"""SIGKILLs at random moments: what becomes of the runs of a method."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

from jaxdd.errors import JaxddError
from jaxdd.synthetic import DistilledDataset
from reliability.bench import FILE, Bench, Lost, ends, require


@dataclasses.dataclass
class Kills:
    """What became of the kills of one method.

    Attributes:
      before: kills before the first checkpoint was whole.
      within: kills that left a half-written checkpoint.
      between: all others.
      runs, resumes: how often a run was begun, and how often one was gone on with.
      identical: whether every run ended in the bytes of the run that was not killed.
      problem: what went wrong, if anything did.
    """

    method: str
    before: int = 0
    within: int = 0
    between: int = 0
    runs: int = 0
    resumes: int = 0
    identical: bool = True
    problem: str = ""

    @property
    def kills(self) -> int:
        return self.before + self.within + self.between


def kills(bench: Bench, names: list[str], count: int, jobs: int) -> list[Kills]:
    """Kill runs of these methods `count` times in all, `jobs` methods at a time; a row for each method."""
    shares = [count // len(names) + (index < count % len(names)) for index in range(len(names))]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        rows = []
        for row in pool.map(lambda name, share: kill_method(bench, name, share), names, shares):
            rows.append(row)
            print(dataclasses.asdict(row), file=sys.stderr)
    return rows


def kill_method(bench: Bench, method: str, count: int) -> Kills:
    """Kill runs of a method `count` times in all, each at a random moment, and compare what they end in."""
    row, rng = Kills(method), bench.rng("kills", method)
    try:
        whole = bench.folder / method / "whole"
        bench.finish(*bench.command(method, whole, checkpoint_seconds=30))
        while row.kills < count or not row.runs:
            row.runs += 1
            workdir = bench.folder / method / str(row.runs)
            arguments = bench.command(method, workdir)
            while row.kills < count:
                row.resumes += (workdir / "run.json").exists()
                if not _kill(bench, arguments, workdir, row, rng):
                    break  # it was faster
            else:
                row.resumes += (workdir / "run.json").exists()
                bench.finish(*arguments)
            row.identical &= ends(workdir) == ends(whole)
            shutil.rmtree(workdir)
    except (Lost, JaxddError) as error:
        row.problem, row.identical = str(error), False
    return row


def _kill(bench: Bench, arguments: list[str], workdir: pathlib.Path, row: Kills, rng: random.Random) -> bool:
    """Whether a process was killed: one of four in its first six seconds, the others within a second of its steps."""
    log, saves = workdir / "metrics.jsonl", workdir / "checkpoints"
    at_start, delay = rng.random() < 0.25, rng.random()
    opened, half_written = _changed(log), _half_written(saves)
    process = bench.start(*arguments)
    began = time.monotonic()
    while not at_start and _changed(log) == opened and process.poll() is None and time.monotonic() - began < 300:
        time.sleep(0.005)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=6 * delay if at_start else delay)
    process.kill()
    _, said = process.communicate()
    if process.returncode != -signal.SIGKILL:
        require(process.returncode == 0, said.strip())
        return False
    if (workdir / FILE).exists():
        DistilledDataset.read(workdir / FILE)
    if _half_written(saves) - half_written:
        row.within += 1
    elif saves.exists() and any(path.name.isdigit() for path in saves.iterdir()):
        row.between += 1
    else:
        row.before += 1
    return True


def _changed(path: pathlib.Path) -> tuple[int, int] | None:
    """Differs once a run has written the file anew."""
    with contextlib.suppress(FileNotFoundError):
        status = path.stat()
        return status.st_ino, status.st_mtime_ns
    return None


def _half_written(saves: pathlib.Path) -> set[str]:
    return {path.name for path in saves.glob("*.orbax-checkpoint-tmp*")}
