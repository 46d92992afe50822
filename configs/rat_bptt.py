"""RaT-BPTT (Feng, Vedantam & Kempe, ICLR 2024, https://arxiv.org/abs/2311.07025).

`cpu` (the default): a ConvNet of width 32 and a window of 15 among 60 inner steps, some ten minutes on two cores.
`paper`: all of CIFAR-10, 1 image per class, a ConvNet of width 128, a window of 60 among 200 inner steps and the
authors' evaluation, for a GPU. `t4`: the same with 5,000 updates instead of 60,000, for a card of 16 GB, such as
Colab's T4.

    jaxdd distill --config=rat_bptt --config.data.name=fashion_mnist --evaluate=full --workdir=runs/rat_bptt
    jaxdd distill --config=rat_bptt:paper --evaluate=full --workdir=runs/rat_bptt_cifar10

`paper` augments by flips or rotations, anew at each inner step, and the real batch too. The paper reports
53.2 / 69.4 / 75.3 % on CIFAR-10 with 1, 10 and 50 images per class (the best on test). What `cpu` gives, without
augmentation, is in docs/results/windows.md.
"""

from jaxdd.cli import preset, smoke, template

PRESETS = {
    "cpu": {
        "method": {
            "ipc": 1,
            "model": "convnet(width=32)",
            "steps": 60,
            "window": 15,
            "learning_rate": 0.01,
            "target_batch": 256,
            "augmentation": "none",
        },
        "data": {"name": "mnist_5k"},
        "run": {"steps": 300},
    },
    "paper": {
        "method": {"ipc": 1},
        "data": {"name": "cifar10", "transform": "zca", "validation": 0.0},
        "run": {"steps": 60_000},
        "evaluation": {"protocol": "rat"},
    },
    "t4": {
        "method": {"ipc": 1},
        "data": {"name": "cifar10", "transform": "zca", "validation": 0.0},
        "run": {"steps": 5_000},
        "evaluation": {"protocol": "rat"},
    },
    "smoke": smoke(
        5,
        model="convnet(width=8, depth=2)",
        steps=10,
        window=5,
        target_batch=64,
        learning_rate=0.01,
        augmentation="none",
    ),
}

PUBLISHED_PRESET = "paper"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("rat_bptt", **preset(PRESETS, name))
