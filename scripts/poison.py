#!/usr/bin/env python3
"""Distil a poisoning attack on trained MNIST networks and give it to networks it has not seen; prints one JSON object.

    python scripts/poison.py --data mnist --model lenet --attacked 0 --target 1 --seed 0

Networks are trained on all real training data, most of them for the attack and ten to be attacked. Beside the distilled
images stand as many real ones, those of the attacked class labelled as the target: with the learned learning rate, and
with those multiples of it that succeed most while the other classes lose at most ten points, or at most what they lose
to the distilled images.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import jax
import numpy as np

import jaxdd
from jaxdd import audit, data, models
from jaxdd.errors import JaxddError
from jaxdd.training import Protocol, fit
from jaxdd.types import PyTree

HELD_OUT = 10
FACTORS = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5, 3.0)
NETWORKS = Protocol("networks to attack", "Adam at 1e-3, cosine", (1e-3,), steps=600, batch_size=128)


def trained(network, real, count: int, key) -> PyTree:
    """`(theta, stats)` of so many networks, stacked, one trained after the other."""
    one = [
        fit(
            network,
            real.images[None],
            real.labels.values[None],
            NETWORKS,
            np.array(NETWORKS.learning_rates),
            jax.random.fold_in(key, i)[None],
        )
        for i in range(count)
    ]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *[(net.theta, net.stats) for net in one])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--model", default="lenet")
    parser.add_argument("--attacked", type=int, default=0)
    parser.add_argument("--target", type=int, default=1)
    parser.add_argument("--networks", type=int, default=40, help="to distil with; ten more are attacked")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    dataset = data.load(arguments.data)
    transform = data.fit_transform("standardize", dataset.train.pixels())
    real, test = (data.real_data(split, transform, dataset.num_classes) for split in (dataset.train, dataset.test))
    network = models.build(arguments.model, dataset.image_shape, dataset.num_classes)
    key_networks, key_images = jax.random.split(jax.random.key(arguments.seed))
    for name in ("attacked", "target"):
        if not 0 <= getattr(arguments, name) < dataset.num_classes:
            raise JaxddError(f"--{name} must be one of the {dataset.num_classes} classes of {arguments.data}.")
    if min(arguments.networks, arguments.steps) < 1:
        raise JaxddError("--networks and --steps must be at least 1.")
    starts = trained(network, real, arguments.networks + HELD_OUT, key_networks)
    seen, unseen = (
        jax.tree.map(lambda leaf, p=part: leaf[p], starts) for part in (slice(HELD_OUT, None), slice(HELD_OUT))
    )
    classes = {"attacked": arguments.attacked, "target": arguments.target}
    method = audit.poisoning(network, seen, **classes, networks=1, target_batch=256)
    began = time.perf_counter()
    dose = jaxdd.run(method, real, steps=arguments.steps, seed=arguments.seed).distilled
    seconds = time.perf_counter() - began

    def outcome(dose, factor: float = 1.0) -> dict[str, float]:
        found = audit.poison(network, unseen, dose, test.examples, **classes, rate_factor=factor)
        return {
            "success": float(found.success.mean()),
            "success_std": float(found.success.std(ddof=1)),
            "success_before": float(found.success_before.mean()),
            "others_drop": float((found.others_before - found.others).mean()),
        }

    plain = audit.mislabelled_real(key_images, real, dose, **classes)
    compared = {factor: outcome(plain, factor) for factor in FACTORS}
    ours = outcome(dose)

    def best(harm: float) -> dict[str, float]:
        """The most that real images do with a rate at which the other classes lose no more than this."""
        within = [found for found in compared.values() if found["others_drop"] <= harm]
        return max(within, key=lambda found: found["success"], default={"success": 0.0, "others_drop": 0.0})

    alternatives = {"real": compared[1.0], "real_harm_10": best(0.1), "real_same_harm": best(ours["others_drop"])}
    result = {
        "num_images": len(dose.images),
        "learning_rate": float(dose.learning_rates[0]),
        **ours,
        **{
            f"{name}_{what}": found[what] for name, found in alternatives.items() for what in ("success", "others_drop")
        },
        "seconds": seconds,
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except JaxddError as error:
        sys.exit(f"poison: {error}")
