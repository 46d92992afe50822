"""CAFE (Wang et al., CVPR 2022, https://arxiv.org/abs/2203.01531): the mean features of every layer.

`cpu` (the default): Fashion-MNIST, 10 images per class, a ConvNet of width 64, 150 steps: a quarter of an hour on two
cores. `mnist`, `fashion_mnist`, `cifar10`: the authors' settings, for a GPU, but for what docs/matching.md says; any
`--config.method.ipc`; CAFE+DSA is `--config.method.augmentation=dsa --config.evaluation.protocol=dsa` (1,000 epochs
with augmentation, where without it there are 600):

    jaxdd distill --config=cafe --evaluate=full --workdir=runs/cafe
    jaxdd distill --config=cafe:cifar10 --evaluate=full --workdir=runs/cafe_cifar10

`mnist` is evaluated as the others are, where the authors have 1,000 epochs with an augmentation of its own.
The paper reports, for 1, 10 and 50 images per class, 93.1 / 97.2 / 98.6 % on MNIST, 77.1 / 83.0 / 84.8 % on
Fashion-MNIST, 30.3 / 46.3 / 55.5 % on CIFAR-10. What `cpu` gives is in docs/results/matching.md.
"""

from jaxdd.cli import preset, smoke, template


def paper(data: str) -> dict:
    return {
        "method": {"ipc": 10},
        "data": {"name": data, "transform": "published", "validation": 0.0},
        "run": {"steps": 20_000},
        "evaluation": {"protocol": "cafe"},
    }


PRESETS = {
    "cpu": {
        "method": {"ipc": 10, "model": "convnet(width=64)", "target_per_class": 64, "init": "real"},
        "data": {"name": "fashion_mnist"},
        "run": {"steps": 150},
        "evaluation": {"protocol": "dc", "networks": 3},
    },
    **{data: paper(data) for data in ("mnist", "fashion_mnist", "cifar10")},
    "smoke": smoke(
        10, model="convnet(width=8, depth=2)", target_per_class=32, init="real", query=8, window=3, max_epochs=5
    ),
}

PUBLISHED_PRESET = "fashion_mnist"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("cafe", **preset(PRESETS, name))
