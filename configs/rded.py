"""RDED (Sun et al., CVPR 2024, https://arxiv.org/abs/2312.03526): crops of real images that a teacher is sure of.

`cpu` (the default): CIFAR-10, 10 images per class, a ConvNet of width 32 with batch normalisation: some minutes on two
cores. `tiny_imagenet32`: 200 classes, one image each. `cifar10_10`, `cifar100_50`, `tiny_imagenet_1`, `imagenet_10`,
..: the authors' settings, for a GPU:

    jaxdd distill --config=rded --evaluate=full --workdir=runs/rded
    jaxdd distill --config=rded:cifar10_10 --evaluate=full --workdir=runs/rded_cifar10_10

The teacher is a stage, and labels every view that a network is trained on; `--config.method.labels=image` gives one
label an image, `hard` none but its class. An update chooses the images of a class: `run.steps` is the number of
classes.

| | 1 | 10 | 50 images per class |
|---|---|---|---|
| `cifar10` | 22.9 | 37.1 | 62.1 |
| `cifar100` | 11.0 | 42.6 | 62.6 |
| `tiny_imagenet` | 9.7 | 41.9 | 58.2 |
| `imagenet` | 6.6 | 42.0 | 56.5 |

are the paper's accuracies of ResNet-18, the best of several evaluations on test data. Batches are of 50 images here;
theirs are of 10 to 200, by images per class.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.decoupled import presets

PRESETS = presets(
    {"imagenet": {"grid": 2}},
    ipc={"cifar10": (1, 10, 50), "cifar100": (1, 10, 50), "tiny_imagenet": (1, 10, 50), "imagenet": (1, 10, 50)},
    protocol="rded",
    protocols={"imagenet": "rded-mosaics"},
    steps={
        "cpu": 10,
        "smoke": 10,
        "tiny_imagenet32": 200,
        "cifar10": 10,
        "cifar100": 100,
        "tiny_imagenet": 200,
        "imagenet": 1000,
    },
    tiny={"pool": 5},
)
PUBLISHED_PRESET = "cifar10_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("rded", **preset(PRESETS, name))
