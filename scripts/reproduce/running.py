"""A row run, with every seed, and what its log adds to its results."""

from __future__ import annotations

import json
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import jax

import jaxdd
from reproduce.tables import ROWS

ROOT = pathlib.Path(__file__).resolve().parents[2]
Result = dict[str, Any]


def run_row(name: str, seeds: int, keep: pathlib.Path | None) -> Result:
    """What is recorded of a row: its command, and the result of each seed."""
    arguments = ROWS[name][1]
    with tempfile.TemporaryDirectory() as scratch:
        folder = keep or pathlib.Path(scratch)
        results = [run(arguments, seed, folder / f"{name}_{seed}") for seed in range(seeds)]
    last = f"{{0..{seeds - 1}}}" if seeds > 1 else "0"
    quoted = [shlex.quote(argument) for argument in arguments]
    if arguments[0].startswith("scripts/"):
        command = " ".join(["python", *quoted, f"--seed={last}"])
    else:
        command = " ".join(["jaxdd distill", *quoted, f"--config.seed={last} --workdir=DIR"])
    return {
        "command": command,
        "results": results,
        "jaxdd": jaxdd.__version__,
        "jax": jax.__version__,
        "machine": f"{platform.machine()}, {jax.default_backend()}",
    }


def run(arguments: list[str], seed: int, workdir: pathlib.Path) -> Result:
    """The JSON result of one command."""
    if arguments[0].startswith("scripts/"):
        command = [str(ROOT / arguments[0]), *arguments[1:], f"--seed={seed}"]
    else:
        command = ["-m", "jaxdd", "distill", *arguments, f"--config.seed={seed}", f"--workdir={workdir}", "--json"]
        if (workdir / "run.json").exists():
            command.append("--resume")
    done = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    result |= gradient_norms(workdir) | course(workdir, result.get("steps"))
    if result.get("resumed_from"):
        result["seconds"] = None  # of the last part alone
    return result


def gradient_norms(workdir: pathlib.Path) -> Result:
    """Mean and std of the logged gradient norms of the second half of a run, if it has any."""
    norms = [norm for _, norm in logged(workdir, "gradient_norm")]
    norms = norms[len(norms) // 2 :]
    if len(norms) < 2:
        return {}
    return {"gradient_norm": statistics.mean(norms), "gradient_norm_std": statistics.stdev(norms)}


def course(workdir: pathlib.Path, steps: int | None) -> Result:
    """Mean accuracy on batches in the tenths of a run that end at each quarter of it, if it was logged there."""
    seen = logged(workdir, "batch_accuracy")
    ends = [(steps or 0) * quarter / 4 for quarter in (1, 2, 3, 4)]
    windows = [[value for step, value in seen if end - (steps or 0) / 10 < step <= end] for end in ends]
    return {"course": [statistics.mean(window) for window in windows]} if all(windows) else {}


def logged(workdir: pathlib.Path, name: str) -> list[tuple[int, float]]:
    """Steps of a run and a metric there, as far as it was logged."""
    log = workdir / "metrics.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [(row["step"], row[name]) for row in rows if name in row]
