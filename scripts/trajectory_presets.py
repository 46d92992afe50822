#!/usr/bin/env python3
"""What the trajectory family's published settings need of a device, before one is at hand.

    python scripts/trajectory_presets.py [--presets mtt:cifar10_10 datm:cifar10_1000 ..] [--rate 20]

Memory is that of the compiled update, with all images of a step at once and with 25 of them, in GB, as `jaxdd plan`
reports it without the real data; experts' rows are gigabytes on disk, with all epochs in float32 and with those that
are used in int8. Operations are arithmetic, in 10^15: three forward passes for an expert's step (six with GSAM), nine
for a student's. Hours are these at `--rate` 10^12 a second, a guess that no device has confirmed. The images are noise
of the data's shapes: nothing is run.
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import engine, methods, models
from jaxdd.cli import config as configs
from jaxdd.types import Execution, Labels, RealData

DATA = {"cifar10": (50_000, 32, 10), "cifar100": (50_000, 32, 100), "tiny_imagenet": (100_000, 64, 200)}
PRESETS = (
    *(f"mtt:cifar10_{ipc}" for ipc in (1, 10, 50)),
    *(f"mtt:cifar100_{ipc}" for ipc in (1, 10, 50)),
    *(f"mtt:tiny_imagenet_{ipc}" for ipc in (1, 10, 50)),
    *(f"datm:cifar10_{ipc}" for ipc in (1, 10, 50, 500, 1000)),
    *(f"datm:cifar100_{ipc}" for ipc in (1, 10, 50, 100)),
    *(f"datm:tiny_imagenet_{ipc}" for ipc in (1, 10, 50)),
)
TRAINED, DIFFERENTIATED = 3, 9  # forward passes of a step


def cost(preset: str, rate: float) -> str:
    """A row of the table."""
    name, _, which = preset.partition(":")
    hyper = dict(configs.read(name, which)["method"])
    builder = getattr(methods, hyper.pop("name"))
    config = builder.hyper(**hyper)
    count, size, classes = DATA[which.rpartition("_")[0]]
    network = models.build(config.model, (size, size, 3), classes)
    theta, stats = jax.eval_shape(network.init, jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    forward = jax.jit(lambda theta, image: network.apply(theta, image, stats)[0]).lower(theta, image).compile()
    of_image = forward.cost_analysis()["flops"]
    images = config.ipc * classes
    steps = min(config.batch or images, images) * config.steps
    update = DIFFERENTIATED * of_image * steps * configs.read(name, which)["run"]["steps"]
    flat = hasattr(config, "radius") + 1
    experts = TRAINED * flat * of_image * count * config.expert_epochs * config.experts
    row = 4 * sum(leaf.size for leaf in jax.tree.leaves(theta))
    of_expert = config.expert_epochs + 1, len(list(config.epochs_used()))
    disk = [config.experts * kept * row / 1e9 / part for kept, part in zip(of_expert, (1, 4), strict=True)]
    few = max(images, 10 * classes)
    real = RealData.of(jnp.zeros((few, size, size, 3)), Labels.index(np.arange(few) % classes, classes))
    peaks = []
    for block in (None, 25):
        how = Execution(block=block, side_by_side=1, remat="step")
        plan = engine.plan(builder(**hyper), real, execution=how, budget=0)
        peaks.append((plan.peak_bytes - real.images.nbytes) / 1e9)
    hours = [flops / rate / 3.6e15 for flops in (experts, update)]
    cells = [preset, *(f"{gigabytes:.2g}" for gigabytes in peaks + disk)]
    cells += [f"{flops / 1e15:.3g}, {each:.2g} h" for flops, each in zip((experts, update), hours, strict=True)]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=PRESETS, metavar="METHOD:DATA_IPC")
    parser.add_argument("--rate", type=float, default=20.0, help="10^12 operations a second")
    options = parser.parse_args()
    print("| preset | at once | 25 images | rows | used, int8 | experts | updates |")
    print("|---|---|---|---|---|---|---|")
    for preset in options.presets:
        print(cost(preset, options.rate), flush=True)


if __name__ == "__main__":
    main()
