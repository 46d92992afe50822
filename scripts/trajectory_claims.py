#!/usr/bin/env python3
"""The trajectory family side by side on 4,000 training and 2,000 test images of Fashion-MNIST, a ConvNet of width 32.

    python scripts/trajectory_claims.py --folder FOLDER --json FILE [--runs mtt datm_late ..] [--ipc 10] [--seeds 0 1]
    python scripts/trajectory_claims.py --folder FOLDER --json FILE --ipc 1 --runs mtt_frequencies mtt_neural_fields ..

All have the same number of experts' epochs, student's steps and updates; what is a method's own is its default, and
RUNS says what else is. Accuracies are of the last iterate, the mean of `--networks` (none with 0), each trained by the
protocol "dc" for 1,000 epochs, or for fewer that make some 1,000 steps; `random` and `herding` are real images. FILE is
gone on with. `mtt_frequencies` and its like learn what the preset of that name does, of no more bits
than of `--ipc` plain images a class.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import data, engine, evaluation, inner, models, workflows
from jaxdd.cli import config as configs
from jaxdd.data import augmentation
from jaxdd.synthetic import DistilledDataset
from jaxdd.types import Content, Distilled, Examples, Labelling
from jaxdd.workflows.data import Real

MODEL = "convnet(width=32)"
EXPERTS = {"experts": 5, "expert_epochs": 12, "expert_batch": 128, "expert_learning_rate": 0.05}
STUDENTS = {"steps": 15, "span": 1, "max_start": 6, "inner_learning_rate": 0.05, "learning_rate": 30.0}
LABELS = {"init": "real", "first_max_start": None}
RUNS: dict[str, dict[str, Any]] = {
    "mtt": {},
    "tesla": {},
    "ftd": {"decay": 0.0},
    "ftd_average": {"decay": 0.98},
    "ast": {"span": 2, "expert_learning_rate": 0.005, "clipped_epochs": 3, "inner_learning_rate": 0.01},
    "datm": {"first_max_start": 2, "growth": 40},
    "datm_early": {"first_max_start": None, "max_start": 3},
    "datm_late": {"first_max_start": None, "min_start": 8, "max_start": 11},
    "datm_soft": {**LABELS},  # beside ftd, with the same experts and hard labels
    "pad": {"first_max_start": 2, "growth": 40, "drop": 0.25, "grown": 3, "easy": ((9, 0.1),), "difficulty_epochs": 4},
    "att": {},
    "mct": {"points": (0, 2, 6, 12)},
    "mtt_int8": {"expert_store": "int8"},
}
CHOSEN = ("random", "herding")
NOT_PIXELS = ("multi_formation", "frequencies", "neural_fields", "linear_bases")


def of_preset(name: str) -> dict[str, Any]:
    """What a preset of `mtt` learns in place of pixels, and how fast."""
    fields = configs.read("mtt", name)["method"]
    return {each: fields[each] for each in ("parameterisation", "optimizer", "learning_rate")}


RUNS |= {f"mtt_{name}": of_preset(name) for name in NOT_PIXELS}


def few(folder: pathlib.Path) -> pathlib.Path:
    """The data, as a file."""
    path = folder / "fashion_4k.npz"
    if not path.exists():
        fashion = data.load("fashion_mnist", validation=0.0)
        train, test = fashion.train.take(np.arange(4_000)), fashion.test.take(np.arange(2_000))
        arrays = {"x_train": train.images, "y_train": train.labels, "x_test": test.images, "y_test": test.labels}
        np.savez(path, **arrays)
    return path


def config_of(run: str, ipc: int, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    config = configs.read(run.partition("_")[0])
    config["method"] |= {"model": MODEL, "ipc": ipc, **EXPERTS, **STUDENTS, **RUNS[run], **options.fields}
    config["data"] |= {"name": str(few(options.folder))}
    config["run"] |= {"steps": options.updates, "validate": "none", "log_every": 1}
    return config | {"seed": seed}


def accuracy(distilled: Distilled, real: Real, seed: int, networks: int) -> dict[str, float]:
    if not networks:
        return {}
    network = models.build(MODEL, real.test.images.shape[1:], real.test.labels.num_classes)
    test = Examples(real.test.images, jnp.asarray(real.test.labels.values))
    protocol = evaluation.protocols.get("dc")
    epochs = min(1_000, 1_000 * protocol.batch_size // len(distilled.images))
    protocol = dataclasses.replace(protocol, epochs=epochs)
    score = evaluation.evaluate(
        network, distilled, None, test, protocol, num_networks=networks, key=jax.random.key(seed)
    )
    return {"accuracy": float(np.mean(score.accuracies))}


def chosen(run: str, ipc: int, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """The accuracy of real images."""
    real = Real.of_config(config_of("mtt", ipc, seed, options)["data"])
    rows = data.balanced_choice(jax.random.key(seed), real.train.labels, ipc)
    some = Distilled(Content(real.train.images[rows]), Labelling(real.train.labels.values[rows], "hard"))
    if run == "herding":
        some = evaluation.coreset("herding", real.train, ipc, like=some)
    return accuracy(some, real, seed, options.networks)


def distilled(run: str, ipc: int, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """The accuracy of a run, and what its log says of its second half."""
    config = config_of(run, ipc, seed, options)
    workdir = options.folder / f"{run}_{ipc}_{seed}_{options.updates}"
    workflows.distill(config, workdir, evaluate="none", resume=True)
    dataset, real = DistilledDataset.read(workdir / "distilled.safetensors"), Real.of_config(config["data"])
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    late = [line for line in lines if line.get("step", 0) > options.updates // 2 and "loss" in line]
    said = accuracy(dataset.distilled(), real, seed, options.networks)
    said |= {"loss": np.mean([line["loss"] for line in late])}
    if "nearest_step" in late[0]:
        said["other_step"] = np.mean([line["nearest_step"] != config["method"]["steps"] for line in late])
    if run in ("mtt", "ftd"):
        said |= astray(dataset.distilled(), real, config)
    return {name: float(value) for name, value in said.items()}


def astray(distilled: Distilled, real: Real, config: dict[str, Any]) -> dict[str, float]:
    """The accumulated trajectory error (Du et al. 2023): how far a student that walks on from where it came to itself,
    from an expert's first parameters on, is from the expert after `max_start` epochs; and that as a share of how far
    the expert has gone. The mean of all experts."""
    hyper = dict(config["method"])
    method = real.method(hyper.pop("name"), hyper)
    provided = engine.provide(method, real.stored, seed=config["seed"], config={"data": workflows.told(config["data"])})
    network = models.build(MODEL, real.test.images.shape[1:], real.test.labels.num_classes)
    augment, images = augmentation.named("dsa"), distilled.images
    labels = jax.nn.one_hot(distilled.labels, real.test.labels.num_classes)
    epochs, steps = hyper["max_start"], hyper["steps"]
    draws = jax.vmap(lambda key: augment.draw(key, len(images)))(
        jax.random.split(jax.random.key(0), epochs // hyper["span"] * steps)
    )

    def feed(t):
        return (augment.apply(images, jax.tree.map(lambda leaf: leaf[t], draws)), labels), distilled.learning_rates

    @jax.jit
    def walked(theta):
        loss = inner.classification(network, {})
        return inner.unroll(loss, inner.sgd(), theta, feed, epochs // hyper["span"] * steps).theta

    def apart(a, b):
        return sum(float(jnp.sum(jnp.square(x - y))) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))

    table, found = provided.tables["experts"].theta, []
    for expert in range(hyper["experts"]):
        rows = expert * (hyper["expert_epochs"] + 1) + np.array([0, epochs])
        ends = jax.tree.map(lambda leaf, rows=rows: jnp.asarray(leaf[rows]), table)
        first, goal = (jax.tree.map(lambda leaf, k=k: leaf[k], ends) for k in (0, 1))
        left, way = apart(walked(first), goal), apart(first, goal)
        found.append((np.sqrt(left), left / way))
    return dict(zip(("astray", "astray_share"), np.mean(found, axis=0), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", default=["mtt", *CHOSEN], choices=[*RUNS, *CHOSEN])
    parser.add_argument("--ipc", type=int, nargs="+", default=[10])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--networks", type=int, default=3)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="of the data and the runs")
    parser.add_argument("--json", type=pathlib.Path, required=True)
    parser.add_argument("--fields", type=json.loads, default={}, help="hyper-parameters instead of these, as JSON")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    found = json.loads(options.json.read_text()) if options.json.exists() else {}
    for seed in options.seeds:
        for ipc in options.ipc:
            for run in options.runs:
                of = found.setdefault(run, {}).setdefault(str(ipc), {})
                if str(seed) in of:
                    continue
                of[str(seed)] = (chosen if run in CHOSEN else distilled)(run, ipc, seed, options)
                options.json.write_text(json.dumps(found, indent=1) + "\n")
                print(run, ipc, seed, {name: round(value, 4) for name, value in of[str(seed)].items()}, flush=True)


if __name__ == "__main__":
    main()
