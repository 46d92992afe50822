#!/usr/bin/env python3
"""How far TESLA's gradient is from the exact one in the images: cosine and length, on real experts.

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


def gradients(real, ipc: int, steps: int, updates: int, rate: float) -> list[tuple[float, float, float]]:
    """Of each update the cosine, the ratio of lengths, and the loss."""
    fields = {"ipc": ipc, "model": "convnet(width=32)", "steps": steps, "max_start": EPOCHS - 1, "experts": 4}
    fields |= {"expert_epochs": EPOCHS, "expert_learning_rate": 0.01, "learning_rate": RATE}
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
            slopes.append((np.float64(state.params["images"]) - np.float64(after.params["images"])).ravel())
        a, b = slopes
        lengths = np.linalg.norm(a), np.linalg.norm(b)
        found.append((a @ b / lengths[0] / lengths[1], lengths[1] / lengths[0], float(metrics["loss"])))
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
    print("| images a class | steps | cosine | least cosine | length | loss |")
    print("|---|---|---|---|---|---|")
    for ipc in options.ipc:
        for steps in options.steps:
            cosines, lengths, losses = np.array(gradients(real, ipc, steps, options.updates, options.way / steps)).T
            cells = f"{cosines.mean():.3f} | {cosines.min():.3f} | {lengths.mean():.2f}"
            print(f"| {ipc} | {steps} | {cells} | {losses.mean():.2f} |", flush=True)


if __name__ == "__main__":
    main()
