"""DC, Dataset Condensation (Zhao, Mopuri & Bilen, ICLR 2021, https://arxiv.org/abs/2006.05929): gradient matching.

`cpu` (the default): Fashion-MNIST, 10 images per class, a ConvNet of width 64, fewer and shorter steps, a quarter of an
hour on two cores. `mnist`, `fashion_mnist`, `cifar10`: the paper's settings, on all training images and with its
constants of their channels, for a GPU; any `--config.method.ipc`, and as many `--config.run.steps` as 1,000 times the
matching steps of that ipc (1 for 1, 10 for 10, 50 for 50):

    jaxdd distill --config=dc --evaluate=full --workdir=runs/dc
    jaxdd distill --config=dc:cifar10 --evaluate=full --workdir=runs/dc_cifar10

`mnist` is evaluated as the others are, where the authors have 1,000 epochs with an augmentation of its own.
The paper reports, for 1, 10 and 50 images per class, 91.7 / 97.4 / 98.8 % on MNIST, 70.5 / 82.3 / 83.6 % on
Fashion-MNIST, 28.3 / 44.9 / 53.9 % on CIFAR-10. What `cpu` gives is in docs/results/matching.md.
"""

from jaxdd.cli import preset, smoke, template


def paper(data: str) -> dict:
    return {
        "method": {"ipc": 10},
        "data": {"name": data, "transform": "published", "validation": 0.0},
        "run": {"steps": 10_000},
        "evaluation": {"protocol": "dc"},
    }


PRESETS = {
    "cpu": {
        "method": {
            "ipc": 10,
            "model": "convnet(width=64)",
            "target_per_class": 64,
            "epochs": 10,
        },
        "data": {"name": "fashion_mnist"},
        "run": {"steps": 300},
        "evaluation": {"protocol": "dc", "networks": 3},
    },
    **{data: paper(data) for data in ("mnist", "fashion_mnist", "cifar10")},
    "smoke": smoke(10, model="convnet(width=8, depth=2)", target_per_class=32, matching_steps=2, epochs=2),
}

PUBLISHED_PRESET = "fashion_mnist"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("dc", **preset(PRESETS, name))
