"""LPLD (Xiao & He, NeurIPS 2024, https://arxiv.org/abs/2410.15919): all images of a class recovered together.

`cpu` (the default): CIFAR-10, 10 images per class, a ConvNet of width 32 with batch normalisation: some minutes on two
cores. `tiny_imagenet32`: 200 classes, one image each. `tiny_imagenet_50`, `imagenet_10`, ..: the authors' settings,
for a GPU:

    jaxdd distill --config=lpld --evaluate=full --workdir=runs/lpld
    jaxdd distill --config=lpld:tiny_imagenet_50 --evaluate=full --workdir=runs/lpld_tiny_imagenet_50

The teacher is a stage: it is trained first, once for all runs with the same data, seed and settings of it. It labels
every view that a network is trained on, so it is in the distilled file and in its bits; `--config.method.labels=image`
gives one label an image, `hard` none but its class. A run is of independent blocks of `run.steps` steps each.

What a class looks like to the teacher's normalisations is another stage. The paper reports (ResNet-18) 46.7 % on
ImageNet-1K for 50 images per class with a fortieth of the labels, which are not thrown away here.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.decoupled import presets

PRESETS = presets(
    {
        "tiny_imagenet": {"learning_rate": 0.1, "statistics_weight": 0.05, "decay_steps": 4000},
        "imagenet": {"jitter": 32, "decay_steps": 4000},
    },
    ipc={"tiny_imagenet": (50, 100), "imagenet": (10, 50)},
)
PUBLISHED_PRESET = "tiny_imagenet_50"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("lpld", **preset(PRESETS, name))
