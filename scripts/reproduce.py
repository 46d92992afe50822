#!/usr/bin/env python3
"""Run named rows of the results tables through the command line and write them to docs/results/.

    python scripts/reproduce.py kip_fashion_mnist_10 [ROW ..] [--seeds 3] [--keep DIR]
    python scripts/reproduce.py --list

A row is a `jaxdd distill` command; every seed is a distillation of its own. Accuracies are of the last iterate on test
data, mean ± sample standard deviation over seeds, and never stand without random real images in the same label regime.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import jax

import jaxdd

RESULTS = pathlib.Path(__file__).resolve().parent.parent / "docs" / "results"

_KIP = ["--config=kip", "--evaluate=kernel"]
# Each row belongs to the table before its first underscore.
ROWS = {
    **{
        f"kip_{data}_{10 * ipc}": [*_KIP, f"--config.data.name={data}", f"--config.method.ipc={ipc}"]
        for data in ("fashion_mnist", "mnist", "cifar10")
        for ipc in (1, 10, 50)
    },
}


def distill(arguments: list[str], seed: int, workdir: pathlib.Path) -> dict[str, Any]:
    """The JSON result of one `jaxdd distill`."""
    command = [sys.executable, "-m", "jaxdd", "distill", *arguments, f"--config.seed={seed}", f"--workdir={workdir}"]
    done = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def run_row(name: str, seeds: int, keep: pathlib.Path | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = keep or pathlib.Path(scratch)
        results = [distill(ROWS[name], seed, folder / f"{name}_{seed}") for seed in range(seeds)]
    return {
        "command": " ".join(["jaxdd distill", *ROWS[name], f"--config.seed={{0..{seeds - 1}}} --workdir=DIR"]),
        "results": results,
        "jaxdd": jaxdd.__version__,
        "jax": jax.__version__,
        "machine": f"{platform.machine()}, {jax.default_backend()}",
    }


def _spread(results: list[dict[str, Any]], name: str) -> str:
    values = [100 * result[name] for result in results if result.get(name) is not None]
    if not values:
        return "–"
    return f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def table(title: str) -> str:
    """The Markdown table of all rows recorded under one title."""
    lines = [
        f"# {title}",
        "",
        "Test accuracy in percent of the last iterate, mean ± std over seeds. Random real images are in the same",
        "label regime (learned: Label Solve under the same kernel). Seconds are of distilling, without compilation, on",
        "a shared machine.",
        "",
        "| row | images | seeds | kernel | random, kernel | networks | random, networks | seconds | command |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted(RESULTS.glob(f"{title}_*.json"), key=lambda p: list(ROWS).index(p.stem)):
        row = json.loads(path.read_text())
        results = row["results"]
        accuracies = ("kernel_accuracy", "random_real_kernel_accuracy", "accuracy_mean", "random_real_mean")
        cells = [path.stem, str(results[0]["num_images"]), str(len(results))]
        cells += [_spread(results, name) for name in accuracies]
        cells += [f"{statistics.mean(result['seconds'] for result in results):.0f}", f"`{row['command']}`"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", choices=[*ROWS, []])
    parser.add_argument("--list", action="store_true", help="list the rows and their commands")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=pathlib.Path, help="keep the runs here")
    arguments = parser.parse_args()
    if arguments.list:
        for name, command in ROWS.items():
            print(f"{name:<24} jaxdd distill {' '.join(command)}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in arguments.rows:
        (RESULTS / f"{name}.json").write_text(
            json.dumps(run_row(name, arguments.seeds, arguments.keep), indent=2) + "\n"
        )
        title = name.split("_")[0]
        (RESULTS / f"{title}.md").write_text(table(title))
        print(table(title))
    return 0


if __name__ == "__main__":
    sys.exit(main())
