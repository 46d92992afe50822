#!/usr/bin/env python3
"""Every method on 1, 2, 4 and 8 virtual devices of a CPU: the same result, and what each device has to do.

    python scripts/devices.py [--methods dm frepo ..] [--devices 1 2 4 8] [--steps 2] [--json FILE] [--markdown FILE]

Each is its config's smallest example, `METHOD:smoke`, on the digits that come with a package, through `jaxdd.run` with
its stages. `apart` is the largest difference of a product's numbers from those of one device, over the largest number
there is; `share` the operations of an update on one device over those on each of several, as compiled, by XLA's own
count (loops as often as they turn, where the compiler knows).
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import tempfile
from typing import Any

import jax
import numpy as np
from benchmark.tables import put

from jaxdd import data, engine, methods
from jaxdd.cli import config as configs
from jaxdd.engine.execution import Job, settled
from jaxdd.engine.stages import foretold
from jaxdd.types import UNNAMED, Method, RealData, Recipe, Spec, parts_of

LARGEST = 8


def operations(recipe: Method | Recipe, real: RealData, devices: int) -> float:
    """Of an update, on each of so many devices."""
    seen = foretold(recipe, real)
    job = Job(recipe, seen, parts_of(recipe, Spec.of(seen)), 2**20, 0, jax.devices()[:devices])
    chunk = job.compile(settled(job, UNNAMED)).chunk
    assert isinstance(chunk, jax.stages.Compiled)
    cost = chunk.cost_analysis()
    assert cost is not None  # CPUs tell
    return float(cost["flops"])


def numbers(product: Any) -> list[np.ndarray]:
    leaves = (np.asarray(leaf) for leaf in jax.tree.leaves(getattr(product, "params", product)))
    return [leaf for leaf in leaves if leaf.dtype.kind == "f"]


def apart(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    """The largest difference of any array, over its largest number."""
    pairs = zip(one, other, strict=True)
    return max((float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)) for a, b in pairs if a.size), default=0.0)


def measured(name: str, real: RealData, counts: list[int], steps: int) -> dict[str, Any]:
    hyper = dict(configs.read(name, "smoke")["method"])
    recipe = methods.build(hyper.pop("name"), **hyper)
    found: dict[str, Any] = {"name": name, "devices": counts, "apart": [], "share": []}
    first: list[np.ndarray] = []
    alone = 0.0
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["JAXDD_CACHE_DIR"] = folder  # so that stages, too, are made by so many
            result = engine.run(recipe, real, steps=steps, devices=jax.devices()[:count], progress=False)
        here, each = numbers(result.product), operations(recipe, real, count)
        first, alone = (here, each) if count == counts[0] else (first, alone)
        found["apart"].append(apart(first, here))
        found["share"].append(alone / each)
    return found


def table(rows: list[dict[str, Any]]) -> str:
    counts = " / ".join(map(str, rows[0]["devices"][1:]))
    lines = [f"| method | apart, {counts} devices | 1 device : each of {counts} |", "|---|---|---|"]
    for row in rows:
        differences = " / ".join(f"{each:.0e}" if each else "0" for each in row["apart"][1:])
        lines.append(f"| `{row['name']}` | {differences} | {' / '.join(f'{each:.1f}' for each in row['share'][1:])} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="these instead of all")
    parser.add_argument("--devices", nargs="+", type=int, default=[1, 2, 4, 8], help=f"at most {LARGEST}")
    parser.add_argument("--steps", type=int, default=2, help="updates")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--markdown", type=pathlib.Path, metavar="FILE", help="put their table in this file")
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", LARGEST)
    dataset = data.load("mnist_5k")
    transform = data.fit_transform("standardize", dataset.train.pixels())
    real = data.real_data(dataset.train, transform, dataset.num_classes)
    rows = []
    for name in options.methods or methods.available():
        rows.append(measured(name, real, options.devices, options.steps))
        print(json.dumps(rows[-1]), flush=True)
        if options.json is not None:
            options.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    if options.markdown is not None:
        put(table(rows), "devices", options.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
