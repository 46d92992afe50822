#!/usr/bin/env python3
"""Every method on 1, 2, 4 and 8 virtual devices of a CPU: the same result, and what each device has to do.

    python scripts/devices.py [--methods dm frepo ..] [--devices 1 2 4 8] [--steps 2] [--json FILE] [--markdown FILE]
    python scripts/devices.py --shares [--methods ..]

Each is its config's smallest example, `METHOD:smoke`, on the digits that come with a package, through `jaxdd.run`, with
stages that the first number of devices has made. `apart` is the largest difference of a product's numbers from those of
one device, over the largest number there is; `share` the operations of products and convolutions in an update on one
device over those on each of several, as compiled, loops as often as they turn (once where the compiler does not know).

`--shares` compiles only: the methods' defaults with 10 images per class of CIFAR-10's shape on one and on four devices,
as docs/scaling.md has them.
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
from accelerators.program import operations
from benchmark.tables import put

from jaxdd import data, engine, methods
from jaxdd.cli import config as configs
from jaxdd.engine.execution import Job, settled
from jaxdd.engine.stages import foretold
from jaxdd.types import UNNAMED, Labels, Method, RealData, Recipe, Spec, parts_of

LARGEST = 8
SHARES: dict[str, dict[str, Any]] = {
    "dd": {"networks": 4},
    "soft_label_dd": {"networks": 4},
    "bptt": {},
    "linba": {},
    "rat_bptt": {"networks": 8},
    "rat_bptt, 1 network": {},
    "kip": {"target_batch": 2560},
    "frepo": {"networks": 8},
    "frepo, 1 network": {},
    "rfad": {},
    "rcig": {},
    "dc": {},
    "dsa": {},
    "idc": {},
    "dm": {},
    "datadam": {},
    "cafe": {},
    "ncfm": {},
}
"""What differs from the defaults, by method."""


def share_of(recipe: Method | Recipe, real: RealData, devices: int) -> float:
    """The operations of an update on each of so many devices."""
    seen = foretold(recipe, real)
    job = Job(recipe, seen, parts_of(recipe, Spec.of(seen)), 2**20, 0, jax.devices()[:devices])
    return operations(job.compile(settled(job, UNNAMED)).chunk.as_text() or "")


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
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAXDD_CACHE_DIR"] = folder
        for count in counts:
            result = engine.run(recipe, real, steps=steps, devices=jax.devices()[:count], progress=False)
            here, each = numbers(result.product), share_of(recipe, real, count)
            first, alone = (here, each) if count == counts[0] else (first, alone)
            found["apart"].append(apart(first, here))
            found["share"].append(alone / each if each else 1.0)
    return found


def shared(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The row of `--shares` of a method with some fields of its own."""
    real = RealData.of(np.zeros((5_000, 32, 32, 3), np.float32), Labels.index(np.arange(5_000) % 10, 10))
    recipe = methods.build(name.partition(",")[0], ipc=10, **fields)
    one, each = (share_of(recipe, real, count) for count in (1, 4))
    return {"name": name, "fields": fields, "share": one / each}


def table(rows: list[dict[str, Any]]) -> str:
    counts = " / ".join(map(str, rows[0]["devices"][1:]))
    lines = [f"| method | apart, {counts} devices | 1 device : each of {counts} |", "|---|---|---|"]
    for row in rows:
        differences = " / ".join(f"{each:.0e}" if each else "0" for each in row["apart"][1:])
        lines.append(f"| `{row['name']}` | {differences} | {' / '.join(f'{each:.1f}' for each in row['share'][1:])} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = methods.available()
    parser.add_argument("--methods", nargs="+", choices=known, metavar="METHOD", help="these instead of all")
    parser.add_argument("--devices", nargs="+", type=int, choices=range(1, LARGEST + 1), default=[1, 2, 4, 8])
    parser.add_argument("--steps", type=int, default=2, help="updates")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--markdown", type=pathlib.Path, metavar="FILE", help="put their table in this file")
    parser.add_argument("--shares", action="store_true", help="only compile, with larger examples")
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", LARGEST)
    if options.shares:
        for name, fields in SHARES.items():
            if name.partition(",")[0] in (options.methods or SHARES):
                print(json.dumps(shared(name, fields)), flush=True)
        return 0
    dataset = data.load("mnist_5k")
    transform = data.fit_transform("standardize", dataset.train.pixels())
    real = data.real_data(dataset.train, transform, dataset.num_classes)
    rows = []
    for name in options.methods or known:
        rows.append(measured(name, real, options.devices, options.steps))
        print(json.dumps(rows[-1]), flush=True)
        if options.json is not None:
            options.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    if options.markdown is not None:
        put(table(rows), "devices", options.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
