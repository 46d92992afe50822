"""Backpropagation through time (Deng & Russakovsky, NeurIPS 2022, https://arxiv.org/abs/2206.02916): free pixels.

`cpu` (the default): a ConvNet of width 32, 20 inner steps, Adam outside; some ten minutes on two cores. `paper`:
all of CIFAR-10 with a ConvNet of width 128, 150 inner steps and the authors' evaluation, for a GPU.

    jaxdd distill --config=bptt --config.data.name=fashion_mnist --evaluate=full --workdir=runs/bptt
    jaxdd distill --config=bptt:paper --workdir=runs/bptt_cifar10

`paper` augments by flips and rotations, one draw an update, as the authors' code does if it is asked to; networks are
evaluated without. The paper reports 49.1 / 62.4 / 70.5 % on CIFAR-10 with 1, 10 and 50 images per class. What `cpu`
gives, without augmentation, is in docs/results/meta.md.
"""

from jaxdd.cli import preset, smoke, template

PRESETS = {
    "cpu": {
        "method": {
            "model": "convnet(width=32)",
            "steps": 20,
            "optimizer": "adam",
            "learning_rate": 0.02,
            "target_batch": 256,
            "augmentation": "none",
        },
        "data": {"name": "mnist_5k"},
        "run": {"steps": 300},
    },
    "paper": {
        "data": {"name": "cifar10", "transform": "zca", "validation": 0.0},
        "run": {"steps": 50_000},
        "evaluation": {"protocol": "linba"},
    },
    "smoke": smoke(
        5,
        model="convnet(width=8, depth=2)",
        steps=10,
        target_batch=64,
        optimizer="adam",
        learning_rate=0.02,
        augmentation="none",
    ),
}

PUBLISHED_PRESET = "paper"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("bptt", **preset(PRESETS, name))
