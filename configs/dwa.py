"""DWA (Du et al., NeurIPS 2024, https://arxiv.org/abs/2409.17612): each block by a teacher that is moved away from it.

`cpu` (the default): CIFAR-10, 10 images per class, a ConvNet of width 32 with batch normalisation: some minutes on two
cores. `tiny_imagenet32`: 200 classes, one image each. `cifar10_10`, `cifar100_50`, `tiny_imagenet_50`, `imagenet_10`,
..: the authors' settings, for a GPU:

    jaxdd distill --config=dwa --evaluate=full --workdir=runs/dwa
    jaxdd distill --config=dwa:cifar10_10 --evaluate=full --workdir=runs/dwa_cifar10_10

The teacher is a stage: it is trained first, once for all runs with the same data, seed and settings of it. It labels
every view that a network is trained on, so it is in the distilled file and in its bits; `--config.method.labels=image`
gives one label an image, `hard` none but its class. A run is of independent blocks of `run.steps` steps each.

| | 10 | 50 | 100 images per class |
|---|---|---|---|
| `cifar10` | 32.6 | 53.1 | |
| `cifar100` | 39.6 | 60.9 | |
| `tiny_imagenet` | | 52.8 | 56.0 |
| `imagenet` | 37.9 | 55.2 | 59.2 |

are the paper's accuracies of ResNet-18.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.decoupled import presets

PRESETS = presets(
    {
        "tiny_imagenet": {"learning_rate": 0.1, "classes_together": 200, "decay_steps": 2000},
        "imagenet": {
            "adjustment_steps": 15,
            "variance_weight": 2.0,
            "crop": (0.08, 1.0),
            "jitter": 32,
            "decay_steps": 2000,
        },
    },
    ipc={"cifar10": (10, 50), "cifar100": (10, 50), "tiny_imagenet": (50, 100), "imagenet": (10, 50, 100)},
)
PUBLISHED_PRESET = "cifar10_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("dwa", **preset(PRESETS, name))
