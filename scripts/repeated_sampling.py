#!/usr/bin/env python3
"""Train on a few examples an epoch, a random part each time or always the same; prints one JSON object.

    python scripts/repeated_sampling.py --data=mnist_5k --share=0.05 --seed=0
    python scripts/repeated_sampling.py --draw=docs/images/repeated_sampling.png docs/results/rs2_*.json

RS2 with and without replacement (Okanovic et al. 2024) beside as many steps on all data, InfoBatch in as many steps,
and subsets of that share that never change: random ones, herded ones and those that are easy by EL2N, after a network
that was trained for four epochs on all data to say so. Every way takes the same steps of the same batch, and its
learning rate falls over them; accuracy is of the last iterate, seconds are of the processor, without compilation.
Subsets have as many examples of each class, and their seconds include those of selecting them.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxdd
from jaxdd import data, models, training
from jaxdd.cli import compiled
from jaxdd.data import balanced_choice, epoch_steps, repeated_sampler
from jaxdd.errors import JaxddError
from jaxdd.evaluation.accuracy import accuracy
from jaxdd.selection import by_class, choose, pixels
from jaxdd.types import Labels, NetworkState, RealData, Recipe, Spec

BUDGETS = (1, 4, 16)  # of 16 parts of the epochs
NAMES = {
    "without": "RS2 without replacement",
    "with": "RS2 with replacement",
    "full": "all data, as many steps",
    "infobatch": "InfoBatch, as many steps",
    "static": "static, random",
    "herding": "static, herding",
    "easy": "static, easy by EL2N",
}


class Spent(NamedTuple):
    product: Any
    state: Any
    cpu_seconds: float


def run(recipe: Recipe, real: RealData, steps: int, seed: int) -> Spent:
    """A run, and what its steps cost; a short one comes first, which compiles."""
    jaxdd.run(recipe, real, steps=1, seed=seed, progress=False)
    began = time.process_time()
    done = jaxdd.run(recipe, real, steps=steps, seed=seed, progress=False)
    jax.block_until_ready(done.state)
    return Spent(done.product, done.state, time.process_time() - began)


def of_rows(real: RealData, rows: Any) -> RealData:
    rows = np.sort(np.asarray(rows))
    return RealData.of(real.images[rows], Labels.index(np.asarray(real.labels.values)[rows], real.labels.num_classes))


def subsets(real: RealData, per_class: int, options: argparse.Namespace) -> dict[str, tuple[RealData, float]]:
    """Those that never change, by name, and the CPU-seconds of selecting each."""

    def timed(choose: Callable[[], Any]) -> tuple[RealData, float]:
        jax.block_until_ready(choose())  # what is compiled is not counted
        began = time.process_time()
        rows = jax.block_until_ready(choose())
        spent = time.process_time() - began
        return of_rows(real, rows), spent

    def easy() -> tuple[np.ndarray, float]:
        spec = Spec.of(real)
        stage = training.dynamics_stage(
            "dynamics", options.model, spec, epochs=4, early=4, batch_size=options.batch, learning_rate=options.rate
        )
        found = run(stage.recipe, real, stage.steps, options.seed + 2000)
        labels, errors = np.asarray(real.labels.values), np.asarray(found.product.errors)
        of_class = [np.flatnonzero(labels == label) for label in range(real.labels.num_classes)]
        chosen = np.concatenate([rows[np.argsort(errors[rows])[:per_class]] for rows in of_class])
        return chosen, found.cpu_seconds

    key = jax.random.key(options.seed + 1000)
    chosen, seconds = easy()
    return {
        "static": timed(lambda: balanced_choice(key, real.labels, per_class)),
        "herding": timed(lambda: by_class(choose.herding)(key, pixels(real), real.labels, per_class).rows),
        "easy": (of_rows(real, chosen), seconds),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist_5k")
    parser.add_argument("--model", default="mlp(width=128, depth=2)")
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--epochs", type=int, default=80, help="of that share, at the largest budget")
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draw", type=pathlib.Path, help="make this picture of recorded rows, and run nothing")
    parser.add_argument("rows", nargs="*", type=pathlib.Path, help="to draw")
    options = parser.parse_args()
    if options.draw:
        draw(options.rows, options.draw)
        return 0
    if options.epochs < BUDGETS[-1]:
        raise JaxddError(f"--epochs must be at least {BUDGETS[-1]}.")
    compiled.keep()  # for other seeds
    dataset = data.load(options.data, validation=0.0)
    transform = data.fit_transform("standardize", dataset.train.pixels())
    real, test = (data.real_data(split, transform, dataset.num_classes) for split in (dataset.train, dataset.test))
    network = models.build(options.model, dataset.image_shape, dataset.num_classes)
    of_epoch = epoch_steps(len(real.images), options.batch, options.share)
    few = subsets(real, of_epoch * options.batch // dataset.num_classes, options)

    def score(state: NetworkState) -> float:
        return float(accuracy(network, jax.tree.map(lambda leaf: leaf[None], state), test.examples)[0])

    def plan(steps: int) -> dict[str, tuple[Recipe, RealData, int, float]]:
        """Of each way: what is run, on what, its seed, and the seconds before it. Equal programs are compiled once."""
        optimizer = training.descending(options.rate, steps)

        def supervised(share: float, replacement: bool) -> Recipe:
            sampler = repeated_sampler(options.batch, share, replacement=replacement)
            return training.supervised(network, optimizer, batch_size=options.batch, sampler=sampler)

        passes = max(1, steps // epoch_steps(len(real.images), options.batch, complete=True))
        infobatch = training.infobatch(network, optimizer, batch_size=options.batch, epochs=passes)
        again, walked = supervised(options.share, True), supervised(options.share, False)
        return {
            "without": (walked, real, options.seed, 0.0),
            "full": (walked, real, options.seed + 100, 0.0),  # which is the same thing, so with another seed
            "with": (again, real, options.seed, 0.0),
            "infobatch": (infobatch, real, options.seed, 0.0),
            **{name: (walked, subset, options.seed, cost) for name, (subset, cost) in few.items()},
        }

    curves: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
    for budget in BUDGETS:
        steps = options.epochs * budget // BUDGETS[-1] * of_epoch
        for name, (recipe, seen, seed, before) in plan(steps).items():
            spent = run(recipe, seen, steps, seed)
            visits = float(spent.state.visits) if name == "infobatch" else float(steps * options.batch)
            point = {"visits": visits, "cpu_seconds": before + spent.cpu_seconds, "accuracy": score(spent.product)}
            curves[name].append(point)
    last = {f"{name}_{what}": points[-1][what] for name, points in curves.items() for what in points[-1]}
    print(json.dumps({"steps": steps, "visits": steps * options.batch, **last, "curves": curves}))
    return 0


def draw(rows: list[pathlib.Path], out: pathlib.Path) -> None:
    """Accuracy against visits and against seconds, a line of panels for each row."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(9, 3.2 * len(rows) + 0.6), layout="constrained")
    panels = figure.subplots(len(rows), 2, squeeze=False, sharey="row")
    for line, row in zip(panels, rows, strict=True):
        curves = [result["curves"] for result in json.loads(row.read_text())["results"]]
        for axes, what in zip(line, ("visits", "cpu_seconds"), strict=True):
            for name, label in NAMES.items():
                across = [np.mean([[p[of] for p in each[name]] for each in curves], 0) for of in (what, "accuracy")]
                static = name in ("static", "herding", "easy")
                axes.semilogx(across[0], 100 * across[1], "--" if static else "-", marker="o", ms=3, label=label)
            axes.set(xlabel=what.replace("_", " ").replace("cpu", "CPU"), title=row.stem if what == "visits" else "")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        line[0].set_ylabel("test accuracy (%)")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except JaxddError as error:
        sys.exit(f"repeated_sampling: {error}")
