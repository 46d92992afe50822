#!/usr/bin/env python3
"""Prune first, distil after (Moser et al. 2024, arXiv:2411.12115): DM on all data, and on the easy ones of them.

    python scripts/prune_then_distil.py --seeds 0 1 [--data fashion_mnist] [--flipped 0.1] [--fraction 0.7] --json FILE

A share of the training labels, those that are held out among them, is replaced by another class at random; test labels
are as they were. `jaxdd select` keeps the easiest of each class by a score, and DM (a ConvNet of width 32, ten images a
class) learns from these alone, or from all.
"""

from __future__ import annotations

import argparse
import json
import pathlib

import numpy as np

from jaxdd import data, workflows
from jaxdd.cli import config as configs

MODEL = "convnet(width=32)"


def flipped(name: str, share: float, folder: pathlib.Path) -> pathlib.Path:
    """The data with so many wrong labels, as a file."""
    path = folder / f"{name}_{share:g}.npz"
    if not path.exists():
        source, rng = data.load(name, validation=0.0), np.random.default_rng(0)
        labels = source.train.labels.copy()
        rows = rng.choice(len(labels), round(share * len(labels)), replace=False)
        labels[rows] = (labels[rows] + rng.integers(1, source.num_classes, len(rows))) % source.num_classes
        arrays = {"x_train": source.train.images, "y_train": labels}
        np.savez(path, **arrays, x_test=source.test.images, y_test=source.test.labels)
    return path


def wrong(kept: workflows.Real, name: str) -> float:
    """The share of wrong labels among what was kept."""
    right = data.load(name, validation=0.0).train.labels
    return float(np.mean(right[kept.dataset.train.numbers] != kept.dataset.train.labels))


def distilled(path: pathlib.Path, keep: pathlib.Path | None, seed: int, steps: int, workdir: pathlib.Path) -> float:
    """What ConvNets learn of DM's images, the mean of three."""
    config = configs.read("dm")
    config["method"] |= {"model": MODEL, "ipc": 10, "target_per_class": 128}
    config["data"] |= {"name": str(path), "keep": keep and str(keep)}
    config["run"] |= {"steps": steps, "validate": "none"}
    config["evaluation"] |= {"protocol": "dc", "networks": 3, "model": MODEL}
    outcome = workflows.distill(config | {"seed": seed}, workdir, evaluate="full", resume=True)
    return outcome.result["accuracy_mean"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--data", default="fashion_mnist")
    parser.add_argument("--flipped", type=float, default=0.1)
    parser.add_argument("--fraction", type=float, default=0.7)
    parser.add_argument("--by", default="el2n", help="score of the easy ones, as config.select.by")
    parser.add_argument("--epochs", type=int, default=10, help="of the network that is watched")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="of the data and the runs")
    parser.add_argument("--json", type=pathlib.Path, required=True)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    path = flipped(options.data, options.flipped, options.folder)
    found = json.loads(options.json.read_text()) if options.json.exists() else {}
    for seed in options.seeds:
        easy = options.folder / f"easy_{options.by}_{seed}"
        config = {
            "seed": seed,
            "data": {"name": str(path)},
            "select": {"rule": "easiest", "by": options.by, "fraction": options.fraction},
            "network": {"model": MODEL, "epochs": options.epochs},
        }
        workflows.select(config, easy, evaluate="none")
        section = workflows.select_config({"data": {"name": str(path), "keep": str(easy)}})["data"]
        left = wrong(workflows.Real.of_config(section), options.data)
        of = {"all": None, f"easy {options.fraction:g} by {options.by}": easy}
        for name, keep in of.items():
            run = options.folder / f"{'all' if keep is None else keep.name + '_dm'}_{seed}"
            accuracy = distilled(path, keep, seed, options.steps, run)
            found.setdefault(name, {})[str(seed)] = {"accuracy": accuracy, "wrong": left if keep else options.flipped}
            options.json.write_text(json.dumps(found, indent=1) + "\n")
            print(name, seed, found[name][str(seed)], flush=True)


if __name__ == "__main__":
    main()
