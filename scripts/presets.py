#!/usr/bin/env python3
"""What published settings need of a device, before one is at hand.

    python scripts/presets.py trajectory [--presets mtt:cifar10_10 datm:cifar10_1000 ..] [--rate 20]
    python scripts/presets.py decoupled [--presets sre2l:imagenet_50 fadrm:cifar100_10 ..] [--rate 20]

Memory is that of the compiled update in GB, as `jaxdd plan` reports it without the real data. Of the trajectory family
it is given with all images of a step at once and with 25 of them; experts' rows are gigabytes on disk, with all epochs
in float32 and with those that are used in int8. Operations are arithmetic, in 10^15: three forward passes of an image
for a step of training, six with GSAM, nine for a step of a student that is differentiated, three of each teacher that
an image is recovered from, and one for a crop that is looked at. Hours are these at `--rate` 10^12 a second, a guess
that no device has confirmed. The images are noise of the data's shapes: nothing is run.
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measuring import SHAPES

from jaxdd import engine, methods, models
from jaxdd.cli import config as configs
from jaxdd.types import Execution, HostArray, Labels, Network, RealData, Recipe

TRAINED, DIFFERENTIATED = 3, 9  # forward passes of a step


def forward(model: str | Network, image_shape: tuple[int, ...], classes: int) -> tuple[float, int]:
    """Operations of one image, as compiled, and parameters."""
    network = models.build(model, image_shape, classes)
    theta, stats = jax.eval_shape(network.init, jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, *image_shape), np.float32)
    pass_of_one = jax.jit(lambda theta, stats, image: network.apply(theta, image, stats)[0])
    lowered = pass_of_one.lower(theta, stats, image)
    return lowered.cost_analysis()["flops"], sum(leaf.size for leaf in jax.tree.leaves(theta))


def gigabytes(recipe: Recipe, real: RealData, how: Execution) -> float:
    """Of the compiled update, without real images."""
    held = 0 if isinstance(real.images, HostArray) else real.images.nbytes
    return (engine.plan(recipe, real, execution=how, budget=0).peak_bytes - held) / 1e9


def trajectory(builder: Any, hyper: dict[str, Any], steps: int, data: str) -> tuple[list[float], list[float]]:
    """Gigabytes of the columns, and operations of experts and updates."""
    config = builder.hyper(**hyper)
    count, shape, classes = SHAPES[data]
    of_image, parameters = forward(config.model, shape, classes)
    images = config.ipc * classes
    of_update = DIFFERENTIATED * of_image * min(config.batch or images, images) * config.steps
    flat = hasattr(config, "radius") + 1
    experts = TRAINED * flat * of_image * count * config.expert_epochs * config.experts
    of_expert = config.expert_epochs + 1, len(list(config.epochs_used()))
    disk = [config.experts * kept * 4 * parameters / 1e9 / part for kept, part in zip(of_expert, (1, 4), strict=True)]
    few = max(images, 10 * classes)
    real = RealData.of(jnp.zeros((few, *shape)), Labels.index(np.arange(few) % classes, classes))
    how = (Execution(block=block, side_by_side=1, remat="step") for block in (None, 25))
    return [*(gigabytes(builder(**hyper), real, each) for each in how), *disk], [experts, of_update * steps]


def decoupled(builder: Any, hyper: dict[str, Any], steps: int, data: str) -> tuple[list[float], list[float]]:
    """Gigabytes of a block, and operations of teachers and updates."""
    config = builder.hyper(**hyper)
    count, shape, classes = SHAPES[data]
    of_images = [forward(model, shape, classes)[0] for model in config.teachers()]
    teachers = TRAINED * sum(of_images) * count * config.teacher_epochs
    # Several teachers take turns; where some vote, so many see an image at each step.
    of_turn = sum(of_images) / len(of_images) * getattr(config, "voters", 1)
    each = config.real(classes) * len(of_images) if hasattr(config, "real") else config.ipc  # images of a class
    updates = TRAINED * of_turn * each * classes * steps
    if hasattr(config, "crops"):
        updates = (updates if hasattr(config, "decay_steps") else 0) + of_images[
            0
        ] * classes * config.pool * config.crops
    images = HostArray((count, *shape), np.float32, lambda rows: np.zeros((*rows.shape, *shape), np.float32), "0" * 64)
    real = RealData.of(images, Labels.index(np.arange(count) % classes, classes))
    return [gigabytes(builder(**hyper), real, Execution())], [teachers, updates]


FAMILIES = {
    "trajectory": (
        trajectory,
        ("at once", "25 images", "rows", "used, int8", "experts", "updates"),
        (
            *(f"mtt:cifar10_{ipc}" for ipc in (1, 10, 50)),
            *(f"mtt:cifar100_{ipc}" for ipc in (1, 10, 50)),
            *(f"mtt:tiny_imagenet_{ipc}" for ipc in (1, 10, 50)),
            *(f"datm:cifar10_{ipc}" for ipc in (1, 10, 50, 500, 1000)),
            *(f"datm:cifar100_{ipc}" for ipc in (1, 10, 50, 100)),
            *(f"datm:tiny_imagenet_{ipc}" for ipc in (1, 10, 50)),
        ),
    ),
    "decoupled": (
        decoupled,
        ("a block", "teachers", "updates"),
        (
            "sre2l:cifar10_10",
            "sre2l:cifar100_50",
            "sre2l:tiny_imagenet_50",
            "sre2l:imagenet_50",
            "dwa:cifar100_50",
            "lpld:tiny_imagenet_50",
            "rded:tiny_imagenet_50",
            "rded:imagenet_10",
            "fadrm:cifar100_10",
            "infer:cifar10_10",
            "cv_dd:cifar10_10",
            "cv_dd:tiny_imagenet_10",
        ),
    ),
}


def row(family: str, preset: str, rate: float) -> str:
    """Of the table."""
    name, _, which = preset.partition(":")
    config = configs.read(name, which)
    hyper = dict(config["method"])
    builder = getattr(methods, hyper.pop("name"))
    memory, operations = FAMILIES[family][0](builder, hyper, config["run"]["steps"], which.rpartition("_")[0])
    hours = [flops / rate / 3.6e15 for flops in operations]
    cells = [preset, *(f"{each:.2g}" for each in memory)]
    cells += [f"{flops / 1e15:,.3g}, {each:.2g} h" for flops, each in zip(operations, hours, strict=True)]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--presets", nargs="+", metavar="METHOD:DATA_IPC")
    parser.add_argument("--rate", type=float, default=20.0, help="10^12 operations a second")
    options = parser.parse_args()
    _, columns, presets = FAMILIES[options.family]
    print(f"| preset | {' | '.join(columns)} |")
    print("|---" * (1 + len(columns)) + "|")
    for preset in options.presets or presets:
        print(row(options.family, preset, options.rate), flush=True)


if __name__ == "__main__":
    main()
