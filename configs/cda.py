"""CDA (Yin & Shen, TMLR 2024, https://arxiv.org/abs/2311.18838): crops of recovery that begin with whole images.

`cpu` (the default): CIFAR-10, 10 images per class, a ConvNet of width 32 with batch normalisation: some minutes on two
cores. `tiny_imagenet32`: 200 classes, one image each. `tiny_imagenet_50`, `tiny_imagenet_100`, `imagenet_50`: the
authors' settings, for a GPU:

    jaxdd distill --config=cda --evaluate=full --workdir=runs/cda
    jaxdd distill --config=cda:tiny_imagenet_50 --evaluate=full --workdir=runs/cda_tiny_imagenet_50

The teacher is a stage: it is trained first, once for all runs with the same data, seed and settings of it. It labels
every view that a network is trained on, so it is in the distilled file and in its bits; `--config.method.labels=image`
gives one label an image, `hard` none but its class. A run is of independent blocks of `run.steps` steps each.

The paper reports (ResNet-18) 48.7 / 53.2 % on Tiny ImageNet for 50 and 100 images per class, beside 41.1 / 49.7 of
SRe2L, and 53.5 % on ImageNet-1K for 50. It has no settings for CIFAR.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.decoupled import presets

PRESETS = presets(
    {
        "tiny_imagenet": {"learning_rate": 0.4, "statistics_weight": 0.05, "decay_steps": 4000},
        "imagenet": {"jitter": 32, "decay_steps": 4000},
    },
    ipc={"tiny_imagenet": (50, 100), "imagenet": (50,)},
)
PUBLISHED_PRESET = "tiny_imagenet_50"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("cda", **preset(PRESETS, name))
