#!/usr/bin/env python3
"""Images chosen by the selections of configs/selection/rules.py, and what a ConvNet learns of them, as a table.

    python scripts/select_images.py --amounts 10 0.05 0.3 --seeds 0 1 2 [--data fashion_mnist] --json FILE

For each seed one network is watched while it trains on all data, for the rules that look at one, and one network is
trained on what each rule chose, with the same number of steps and images a step whatever the amount. Nothing is
selected on test data; the last iterate counts. FILE is gone on with, so that a table can be made in pieces.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import tempfile

import jax
import numpy as np

from jaxdd import evaluation, models, workflows
from jaxdd._jax import key_of
from jaxdd.cli import config as configs
from jaxdd.synthetic import DistilledDataset
from jaxdd.training import Protocol

RULES = ("random", "herding", "facility_location", "k_center", "forgetting", "el2n", "easy", "ccs")
MODEL = "convnet(width=32)"
PROTOCOL = Protocol(
    "300-steps", "Adam at 1e-3, cosine, 300 steps of 128", learning_rates=(1e-3,), steps=300, batch_size=128
)


def chosen(rule: str, amount: float, seed: int, real: workflows.Real, epochs: int) -> tuple[DistilledDataset, float]:
    """The examples as a set, and the seconds that choosing took, with the training that was needed, once."""
    config = configs.load(configs.rules()[rule]).to_dict() | {"seed": seed}
    config["network"] |= {"model": MODEL, "epochs": epochs}
    config["select"]["fraction" if amount < 1 else "ipc"] = amount if amount < 1 else int(amount)
    with tempfile.TemporaryDirectory() as folder:
        outcome = workflows.select(config, folder, evaluate="none", real=real)
        return DistilledDataset.read(outcome.path.parent / workflows.FILE), outcome.result["seconds"]


def table(found: dict[str, dict[str, dict[str, list[float]]]]) -> str:
    """A row for each rule: accuracies by amount, and the seconds of choosing as many as the last of them."""
    amounts = list(next(iter(found.values())))
    lines = ["| | " + " | ".join([*amounts, "seconds"]) + " |", "|---" * (len(amounts) + 2) + "|"]
    for rule, of_rule in found.items():
        cells = []
        for amount in amounts:
            values = [100 * value for value in of_rule.get(amount, {}).get("accuracy", [])]
            spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.1f}{spread}" if values else "")
        seconds = of_rule.get(amounts[-1], {}).get("seconds", [])
        lines.append("| " + " | ".join([rule, *cells, f"{np.median(seconds):.0f}" if seconds else ""]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--amounts", type=float, nargs="+", default=[10, 0.05, 0.3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rules", nargs="+", default=RULES, choices=configs.rules())
    parser.add_argument("--data", default="fashion_mnist")
    parser.add_argument("--epochs", type=int, default=10, help="of the network that is watched")
    parser.add_argument("--json", type=pathlib.Path, required=True)
    options = parser.parse_args()
    found = json.loads(options.json.read_text()) if options.json.exists() else {}
    real = workflows.Real.of_config(workflows.select_config({"data": {"name": options.data}})["data"])
    network = models.build(MODEL, real.dataset.image_shape, real.dataset.num_classes)
    for seed in options.seeds:
        for amount in options.amounts:
            for rule in options.rules:
                of = found.setdefault(rule, {}).setdefault(f"{amount:g}", {"accuracy": [], "seconds": [], "seeds": []})
                if seed in of["seeds"]:
                    continue
                dataset, seconds = chosen(rule, amount, seed, real, options.epochs)
                key = jax.random.fold_in(key_of(seed), 1)
                score = evaluation.evaluate(
                    network, dataset.distilled(), None, real.test.examples, PROTOCOL, num_networks=1, key=key
                )
                for name, value in (("accuracy", score.mean), ("seconds", seconds), ("seeds", seed)):
                    of[name].append(value)
                options.json.write_text(json.dumps(found, indent=1) + "\n")
                print(
                    f"{rule}, {amount:g}, seed {seed}: {100 * score.mean:.1f} %, chosen in {seconds:.1f} s", flush=True
                )
    print(table(found))


if __name__ == "__main__":
    main()
