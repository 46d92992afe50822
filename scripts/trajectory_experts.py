#!/usr/bin/env python3
"""What experts are, on the 4,000 images of trajectory_claims.py: what compact rows lose, and how steep networks are.

    python scripts/trajectory_experts.py --folder FOLDER [--seeds 0 1]

First table: the squared distance of a network that was stored in few bits from itself, as a share of the squared way of
its next epoch, the greatest of all epochs and the mean. Second: the norm of the input gradient of the summed logits,
the mean over 500 test images, of experts with and without AST's penalty, after each third of their epochs.
"""

from __future__ import annotations

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import trajectory_claims as claims

from jaxdd import engine, models, training
from jaxdd.types import NetworkState
from jaxdd.workflows.data import Real


def rows_of(run: str, seed: int, options: argparse.Namespace, **fields) -> tuple[Real, NetworkState]:
    """The data, and the experts' networks, leaves `(experts, epochs + 1, ..)`."""
    options.fields, options.updates = fields, 60
    config = claims.config_of(run, 10, seed, options)
    real, hyper = Real.of_config(config["data"]), dict(config["method"])
    method = real.method(hyper.pop("name"), hyper)
    table = engine.provide(method, real.stored, seed=seed, config=config).tables["experts"]
    count, rows = hyper["experts"], hyper["expert_epochs"] + 1
    return real, jax.tree.map(lambda leaf: jnp.asarray(leaf[:]).reshape(count, rows, *leaf.shape[1:]), table)


def lost(experts: NetworkState, store: str) -> np.ndarray:
    """Shares of the next epoch's way, `(experts, epochs)`."""

    def of(expert: NetworkState):
        first = jax.tree.map(lambda leaf: leaf[0], expert.theta)

        def square(a, b):
            return sum(jnp.square(x - y).reshape(len(x), -1).sum(1) for x, y in zip(a, b, strict=True))

        small = jax.vmap(lambda network: training.compact(network, first, store))(expert)
        back = jax.tree.map(lambda start, steps, unit: start + steps * unit, first, small.steps, small.scales)
        leaves, near = jax.tree.leaves(expert.theta), jax.tree.leaves(back)
        way = square([leaf[1:] for leaf in leaves], [leaf[:-1] for leaf in leaves])
        return square(near, leaves)[:-1] / way

    return np.asarray(jax.lax.map(of, experts))


def steepness(real: Real, experts: NetworkState, epoch: int) -> float:
    network = models.build(claims.MODEL, real.test.images.shape[1:], real.test.labels.num_classes)
    images = real.test.images[:500]

    @jax.jit
    def of(theta):
        slopes = jax.grad(lambda images: network.apply(theta, images, {})[0].sum())(images)
        return jnp.sqrt(jnp.square(slopes).sum((1, 2, 3))).mean()

    thetas = [jax.tree.map(lambda leaf, k=k: leaf[k, epoch], experts.theta) for k in range(5)]
    return float(np.mean([of(theta) for theta in thetas]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="of the data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print("| store | seed | greatest | mean |\n|---|---|---|---|")
    for seed in options.seeds:
        _, experts = rows_of("mtt", seed, options)
        for store in ("int8", "int16"):
            shares = lost(experts, store)
            print(f"| {store} | {seed} | {shares.max():.2g} | {shares.mean():.2g} |", flush=True)
    print("\n| penalty | target | seed | epoch 4 | epoch 8 | epoch 12 |\n|---|---|---|---|---|---|")
    for seed in options.seeds:
        for penalty, target in ((0.0, 0.0), (2.0, 0.0), (2.0, 1.0)):
            real, experts = rows_of("ast", seed, options, penalty=penalty, target=target)
            cells = [f"{steepness(real, experts, epoch):.2f}" for epoch in (4, 8, 12)]
            print(f"| {penalty} | {target} | {seed} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
