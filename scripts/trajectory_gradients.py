#!/usr/bin/env python3
"""How far TESLA's gradient is from the exact one: cosine and length, in images and step size, on real experts.

    python scripts/trajectory_gradients.py [--ipc 1 10] [--steps 10 30 50] [--updates 8]

Experts are ConvNets of width 32, trained on 4,000 images of Fashion-MNIST. Both gradients are of the same loss, at real
images, of the same expert, start and augmentation: the difference of a first update's images before and after it.
"""

from __future__ import annotations

import argparse

import jax
import numpy as np

from jaxdd import data, engine, methods
from jaxdd.types import bound

COUNT, EPOCHS = 4_000, 10
RATE = 1.0  # so that the difference is the gradient


def gradients(real, ipc: int, steps: int, updates: int, rate: float) -> list[tuple[int, float, float, float, float]]:
    """Of each update its first epoch, the cosine and the ratio of lengths in the images, the ratio of the step size's
    slopes, and the loss."""
    fields = {"ipc": ipc, "model": "convnet(width=32)", "steps": steps, "max_start": EPOCHS - 1, "experts": 4}
    fields |= {"expert_epochs": EPOCHS, "expert_learning_rate": 0.01, "learning_rate": RATE, "rate_learning_rate": RATE}
    fields |= {"inner_learning_rate": rate, "augmentation": "none"}
    exact, constant = methods.mtt(**fields), methods.tesla(**fields)
    provided = engine.provide(exact, real)
    exact, constant = bound(exact, provided), bound(constant, provided)
    state = jax.jit(lambda key: engine.first_state(exact, provided, key))(jax.random.key(0))
    both = [jax.jit(method.update) for method in (exact, constant)]
    draw = jax.jit(lambda step: engine.draw(exact, provided, jax.random.key(1), step))
    found = []
    for step in range(updates):
        batch, key = draw(np.int32(step)), jax.random.key(step)
        slopes = []
        for update in both:
            after, metrics = update(key, state, batch)
            slopes.append(jax.tree.map(lambda a, b: np.float64(a) - np.float64(b), state.params, after.params))
        (a, b), rates = (each["images"].ravel() for each in slopes), [each["learning_rates"] for each in slopes]
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        first = int(batch.rows["experts"][0, 0]) % (EPOCHS + 1)
        found.append(
            (first, cosine, np.linalg.norm(b) / np.linalg.norm(a), float(rates[1] / rates[0]), float(metrics["loss"]))
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ipc", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 30, 50])
    parser.add_argument("--updates", type=int, default=8)
    parser.add_argument("--way", type=float, default=0.1, help="the student's step size times its steps")
    options = parser.parse_args()
    fashion = data.load("fashion_mnist", validation=0.0)
    some = fashion.train.take(np.arange(COUNT))
    real = data.real_data(some, data.fit_transform("standardize", some.pixels()), fashion.num_classes)
    print("| images a class | steps | cosine | least | length | slope of the step size | loss |")
    print("|---|---|---|---|---|---|---|")
    for ipc in options.ipc:
        for steps in options.steps:
            _, cosines, lengths, slopes, losses = np.array(
                gradients(real, ipc, steps, options.updates, options.way / steps)
            ).T
            cells = f"{cosines.mean():.3f} | {cosines.min():.3f} | {lengths.mean():.2f} | {slopes.mean():.2f}"
            print(f"| {ipc} | {steps} | {cells} | {losses.mean():.2f} |", flush=True)


if __name__ == "__main__":
    main()
