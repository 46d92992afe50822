#!/usr/bin/env python3
"""The trajectory family side by side on 4,000 training and 2,000 test images of Fashion-MNIST, a ConvNet of width 32.

    python scripts/trajectory_claims.py --folder FOLDER --json FILE [--methods mtt datm ..] [--ipc 10] [--seeds 0 1]

All methods have the same experts' epochs, student's steps and updates; what is a method's own is its default.
Accuracies are of the last iterate, the mean of three networks, beside random real images and herded ones. FILE is gone
on with.
"""

from __future__ import annotations

import argparse
import json
import pathlib

import numpy as np

from jaxdd import data, workflows
from jaxdd.cli import config as configs

METHODS = ("mtt", "tesla", "ftd", "ast", "datm", "pad", "att", "mct")
MODEL = "convnet(width=32)"
EXPERTS = {"experts": 5, "expert_epochs": 12, "expert_batch": 128, "expert_learning_rate": 0.05}
STUDENTS = {"steps": 15, "span": 1, "max_start": 6, "inner_learning_rate": 0.05, "learning_rate": 30.0}
OWN = {
    "ftd": {"decay": 0.98},
    "ast": {"span": 2, "expert_learning_rate": 0.005, "clipped_epochs": 3, "inner_learning_rate": 0.01},
    "datm": {"first_max_start": 2, "growth": 150},
    "pad": {"first_max_start": 2, "growth": 150, "drop": 0.25, "grown": 3, "easy": ((9, 0.1),), "difficulty_epochs": 4},
}


def few(folder: pathlib.Path) -> pathlib.Path:
    """The data, as a file."""
    path = folder / "fashion_4k.npz"
    if not path.exists():
        fashion = data.load("fashion_mnist", validation=0.0)
        train, test = fashion.train.take(np.arange(4_000)), fashion.test.take(np.arange(2_000))
        arrays = {"x_train": train.images, "y_train": train.labels, "x_test": test.images, "y_test": test.labels}
        np.savez(path, **arrays)
    return path


def distilled(
    method: str, ipc: int, seed: int, options: argparse.Namespace, fields: dict[str, float]
) -> dict[str, float]:
    """The accuracies of a run, and what its log says of its second half."""
    config = configs.read(method)
    config["method"] |= {"model": MODEL, "ipc": ipc, **EXPERTS, **STUDENTS, **OWN.get(method, {}), **fields}
    config["data"] |= {"name": str(few(options.folder))}
    config["run"] |= {"steps": options.updates, "validate": "none", "log_every": 1}
    config["evaluation"] |= {"protocol": "dc", "networks": 3, "model": MODEL}
    workdir = options.folder / f"{method}_{ipc}_{seed}_{options.updates}"
    found = workflows.distill(config | {"seed": seed}, workdir, evaluate="full", resume=True).result
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    late = [line for line in lines if line.get("step", 0) > options.updates // 2 and "loss" in line]
    said = {"loss": float(np.mean([line["loss"] for line in late]))}
    if method == "att":
        said["other_step"] = float(np.mean([line["nearest_step"] != config["method"]["steps"] for line in late]))
    names = ("accuracy_mean", "random_real_mean", "herding_mean")
    return {name: found[name] for name in names if name in found} | said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--ipc", type=int, nargs="+", default=[10])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="of the data and the runs")
    parser.add_argument("--json", type=pathlib.Path, required=True)
    parser.add_argument("--fields", type=json.loads, default={}, help="hyper-parameters instead of these, as JSON")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    found = json.loads(options.json.read_text()) if options.json.exists() else {}
    for seed in options.seeds:
        for ipc in options.ipc:
            for method in options.methods:
                of = found.setdefault(method, {}).setdefault(str(ipc), {})
                if str(seed) in of:
                    continue
                of[str(seed)] = distilled(method, ipc, seed, options, options.fields)
                options.json.write_text(json.dumps(found, indent=1) + "\n")
                print(method, ipc, seed, {name: round(value, 4) for name, value in of[str(seed)].items()}, flush=True)


if __name__ == "__main__":
    main()
