"""DM (Zhao & Bilen, WACV 2023, https://arxiv.org/abs/2110.04181): distribution matching in random networks.

`cpu` (the default): Fashion-MNIST, 10 images per class, a ConvNet of width 64, 600 steps: ten minutes on two cores.
`mnist` (without flips), `fashion_mnist`, `cifar10`: the paper's settings, on all training images and with its constants
of their channels, for a GPU; any `--config.method.ipc` (from 100 on with `--config.method.learning_rate=10`).
`t4`: `cifar10` with 5,000 updates, for a card of 16 GB, such as Colab's T4:

    jaxdd distill --config=dm --evaluate=full --workdir=runs/dm
    jaxdd distill --config=dm:cifar10 --evaluate=full --workdir=runs/dm_cifar10

The paper reports, for 1, 10 and 50 images per class, 89.7 / 97.5 / 98.6 % on MNIST and 26.0 / 48.9 / 63.0 % on
CIFAR-10. What `cpu` gives is in docs/results/matching.md.
"""

from jaxdd.cli import preset, smoke, template


def paper(data: str, **method) -> dict:
    return {
        "method": {"ipc": 10, **method},
        "data": {"name": data, "transform": "published", "validation": 0.0},
        "run": {"steps": 20_000},
        "evaluation": {"protocol": "dsa-digits" if method else "dsa"},
    }


PRESETS = {
    "cpu": {
        "method": {"ipc": 10, "model": "convnet(width=64)", "target_per_class": 128},
        "data": {"name": "fashion_mnist"},
        "run": {"steps": 600},
        "evaluation": {"protocol": "dc", "networks": 3},
    },
    "mnist": paper("mnist", augmentation="dsa-digits"),
    "fashion_mnist": paper("fashion_mnist"),
    "cifar10": paper("cifar10"),
    "t4": {**paper("cifar10"), "run": {"steps": 5_000}},
    "smoke": smoke(20, model="convnet(width=8, depth=2)", target_per_class=32),
}

PUBLISHED_PRESET = "fashion_mnist"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("dm", **preset(PRESETS, name))
