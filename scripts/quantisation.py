#!/usr/bin/env python3
"""Dataset Quantization on digits: its bins beside graph cut and chance, and what dropped patches cost.

    python scripts/quantisation.py [--ipc 20] [--seed 0] [--patch 2] [--drop 0.25]

scikit-learn's 1,797 digits of 8x8 pixels: 1,200 to choose from and 597 for the test, the split by the seed; bins by
pixels; logistic regression on raw pixels, 0 to 16. Everything that draws is drawn several times, and accuracies are
means. Patches are those of the images that DQ chose; a ConvNet of width 32 that was trained on the 1,200 says which are
salient, and an inpainter trained on them fills in. One line of JSON.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdd import engine, methods, models
from jaxdd.errors import JaxddError
from jaxdd.methods.selected.dq import NETWORK
from jaxdd.selection import bins, by_class, choose, drop_patches, patch_scores, scores
from jaxdd.selection.patches import from_patches, in_place
from jaxdd.synthetic import Inpainter, filled, label_bits, patch_cost
from jaxdd.synthetic.patches import stored
from jaxdd.training import inpainting
from jaxdd.types import Labels, RealData

TRAIN, SIDE = 1200, 8
DRAWS = {"random": 20, "graph_cut": 1, "dq": 20, "adq": 20}
MODEL = "convnet(width=32, depth=2)"


def digits(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images in [0, 1] and labels to choose from, and those of the test."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise JaxddError("the digits are scikit-learn's: pip install 'jaxdd[selection]'.") from error
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, SIDE, SIDE, 1)
    order = np.random.default_rng(seed).permutation(len(labels))
    train, test = order[:TRAIN], order[TRAIN:]
    return images[train], labels[train], images[test], labels[test]


def adaptive(features, k, key, *, mask):
    """DQ's rule with bins by their importance, where points are pixels."""
    numbers = bins.graph_cut_bins(features, 10, mask=mask)
    texture = scores.texture(features.reshape(-1, SIDE, SIDE, 1))
    return bins.from_bins(numbers, k, key, bins=10, importance=bins.bin_importance(features, texture, numbers, 10))


def measured(seed: int, ipc: int, patch: int, drop: float) -> dict[str, float]:
    from sklearn.linear_model import LogisticRegression

    images, labels, test_images, test_labels = digits(seed)
    index, key = Labels.index(labels, 10), jax.random.key(seed)
    real = RealData.of(jnp.asarray(images), index)

    def accuracy(some: np.ndarray, their: np.ndarray) -> float:
        flat = 16 * np.asarray(some).reshape(len(some), -1)
        learner = LogisticRegression(max_iter=5000).fit(flat, their)
        return float(learner.score(16 * test_images.reshape(len(test_images), -1), test_labels))

    rules = {
        "random": choose.uniform,
        "graph_cut": choose.graph_cut,
        "dq": choose.dataset_quantization,
        "adq": adaptive,
    }
    chosen = {
        name: [
            np.asarray(by_class(rule)(jax.random.fold_in(key, draw), images.reshape(TRAIN, -1), index, ipc).rows)
            for draw in range(DRAWS[name])
        ]
        for name, rule in rules.items()
    }
    found = {name: float(np.mean([accuracy(images[r], labels[r]) for r in rows])) for name, rows in chosen.items()}

    recipe = methods.dq(model=MODEL, network_epochs=30, network_learning_rate=0.05, network_augmentation="none")
    state = engine.provide(recipe, real, seed=seed).assets[NETWORK]
    trained = engine.run(
        inpainting(patch, optax.adam(3e-3), batch_size=256, share=drop), real, steps=1000, seed=seed, progress=False
    ).product
    network, inpainter = models.build(MODEL, (SIDE, SIDE, 1), 10), Inpainter(patch, 1)
    cam = jax.jit(functools.partial(scores.grad_cam, network))
    ways: dict[str, list[float]] = {}
    for draw, rows in enumerate(chosen["dq"]):
        some = jnp.asarray(images[rows])
        salient = patch_scores(cam(state.theta, state.stats, some), patch)
        chance = jax.random.uniform(jax.random.fold_in(key, 100 + draw), salient.shape)
        for name, score in (("least_salient", salient), ("most_salient", -salient), ("chance", chance)):
            patches = drop_patches(some, score, patch, drop)
            black = from_patches(in_place(patches), (SIDE, SIDE, 1), patch)
            full = filled(patches, inpainter, trained.theta, (SIDE, SIDE, 1))
            ways.setdefault(name, []).append(accuracy(full, labels[rows]))
            ways.setdefault(f"{name}_black", []).append(accuracy(black, labels[rows]))
            if name == "least_salient":
                of_labels = label_bits("hard", jax.ShapeDtypeStruct((len(rows), 10), np.float32))
                cost, of_inpainter = patch_cost(stored(patches, trained.theta), of_labels)
                found |= {"bits": cost.total, "bits_without_inpainter": cost.total - of_inpainter}
                found["bits_whole"] = 32 * math.prod(some.shape) + of_labels
    found |= {name: float(np.mean(values)) for name, values in ways.items()}
    found |= {f"{name}_costs": found["dq"] - found[name] for name in ways}
    return found | {
        "dq_over_graph_cut": found["dq"] - found["graph_cut"],
        "dq_over_random": found["dq"] - found["random"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ipc", type=int, default=20, help="digits of each class")
    parser.add_argument("--seed", type=int, default=0, help="of the split and of all draws")
    parser.add_argument("--patch", type=int, default=2, help="side of a patch")
    parser.add_argument("--drop", type=float, default=0.25, help="share of patches that is dropped")
    arguments = parser.parse_args()
    began = time.perf_counter()
    found = measured(arguments.seed, arguments.ipc, arguments.patch, arguments.drop)
    print(json.dumps({"num_images": 10 * arguments.ipc, **found, "seconds": time.perf_counter() - began}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
