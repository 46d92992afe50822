#!/usr/bin/env python3
"""Digits chosen by the rules of `jaxdd.selection`, and what logistic regression learns of them, as a table.

    python scripts/select_digits.py [--ipc 1 2 5 10 20] [--seeds 5] [--json FILE]

scikit-learn's 1,797 digits of 8x8 pixels, as they are: 1,200 to choose from and 597 for the test, the split by the
seed. So many of each class are chosen by their pixels. Random ones, and k-center's first points, are drawn several
times for each split. Mean ± standard deviation over splits, of the means over draws.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import sys
from collections.abc import Callable

import jax
import numpy as np

from jaxdd.errors import JaxddError
from jaxdd.selection import by_class, choose
from jaxdd.types import Labels

TRAIN = 1200
# Each with how often it is drawn.
RULES: dict[str, tuple[Callable, int]] = {
    "random": (choose.uniform, 20),
    "herding": (choose.herding, 1),
    "facility location": (choose.facility_location, 1),
    "facility location, cosine": (functools.partial(choose.facility_location, similarity="cosine"), 1),
    "graph cut": (choose.graph_cut, 1),
    "k-center": (choose.k_center, 10),
}


def accuracies(numbers: list[int], seed: int) -> dict[str, dict[str, list[float]]]:
    """Of a split, by how many of each class and by rule, of each draw."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise JaxddError("the digits are scikit-learn's: pip install 'jaxdd[selection]'.") from error
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    train, test = order[:TRAIN], order[TRAIN:]
    index, key = Labels.index(labels[train], 10), jax.random.key(seed)

    def accuracy(rows: np.ndarray) -> float:
        learner = LogisticRegression(max_iter=5000).fit(images[train][rows], labels[train][rows])
        return float(learner.score(images[test], labels[test]))

    found = {"all": {"all": [accuracy(np.arange(TRAIN))]}}
    for ipc in numbers:
        found[str(ipc)] = {
            name: [
                accuracy(np.asarray(by_class(rule)(jax.random.fold_in(key, draw), images[train], index, ipc).rows))
                for draw in range(draws)
            ]
            for name, (rule, draws) in RULES.items()
        }
    return found


def table(splits: list[dict[str, dict[str, list[float]]]]) -> str:
    """Rows by how many of each class, a column for each rule; of random ones also the deviation over draws."""
    lines = ["| of each class | " + " | ".join([*RULES, "random: over draws"]) + " |", "|---" * (len(RULES) + 2) + "|"]
    for ipc in (name for name in splits[0] if name != "all"):
        means = {name: [100 * np.mean(split[ipc][name]) for split in splits] for name in RULES}
        cells = [f"{np.mean(of):.1f} ± {np.std(of, ddof=1):.1f}" for of in means.values()]
        draws = np.mean([100 * np.std(split[ipc]["random"], ddof=1) for split in splits])
        lines.append("| " + " | ".join([ipc, *cells, f"± {draws:.1f}"]) + " |")
    full = [100 * split["all"]["all"][0] for split in splits]
    return "\n".join([*lines, "", f"All 1,200: {np.mean(full):.1f} ± {np.std(full, ddof=1):.1f}."])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ipc", type=int, nargs="+", default=[1, 2, 5, 10, 20], help="digits of each class")
    parser.add_argument("--seeds", type=int, default=5, help="splits, two at least")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the accuracies here as well")
    arguments = parser.parse_args()
    splits = [accuracies(arguments.ipc, seed) for seed in range(arguments.seeds)]
    if arguments.json:
        arguments.json.write_text(json.dumps(splits) + "\n")
    print(table(splits))
    return 0


if __name__ == "__main__":
    sys.exit(main())
