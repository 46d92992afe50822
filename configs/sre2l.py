"""SRe2L (Yin, Xing & Shen, NeurIPS 2023, https://arxiv.org/abs/2306.13092): images recovered from a teacher.

`cpu` (the default): CIFAR-10, 10 images per class, a ConvNet of width 32 with batch normalisation, 500 steps a block:
some minutes on two cores. `tiny_imagenet32`: 200 classes, one image each. `cifar10_10`, `cifar100_50`,
`tiny_imagenet_50`, ..: the authors' settings (CIFAR-10 has none of its own and takes CIFAR-100's),
for a GPU. `t4`: `cifar10_10` with a teacher of 30 epochs, for a card of 16 GB, such as Colab's T4:

    jaxdd distill --config=sre2l --evaluate=full --workdir=runs/sre2l
    jaxdd distill --config=sre2l:cifar100_50 --evaluate=full --workdir=runs/sre2l_cifar100_50

The teacher is a stage: it is trained first, once for all runs with the same data, seed and settings of it. It labels
every view that a network is trained on, so it is in the distilled file and in its bits; `--config.method.labels=image`
gives one label an image instead. A run is `ipc` times (classes / `classes_together`) blocks of `run.steps` steps each.

The paper reports (ResNet-18) 41.1 / 49.7 % on Tiny ImageNet and 46.8 / 52.8 % on ImageNet-1K for 50 and 100 images per
class, and 49.4 % on CIFAR-100 for 50; others report 27 to 29 % on CIFAR-10 for 10. `cpu` gives 29.0 %, and 11.5 %
without the statistics. As many random real images, labelled in the same way by the same teacher, give 45.6 %: with ten
images a class recovery does not pay (docs/results/decoupled.md); see docs/decoupled.md for what differs.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.decoupled import presets

_PUBLISHED = presets(
    {
        "tiny_imagenet": {"learning_rate": 0.1, "statistics_weight": 1.0, "crop": (0.08, 1.0), "decay_steps": 4000},
        "imagenet": {"jitter": 32, "crop": (0.08, 1.0), "decay_steps": 4000},
    },
    ipc={"cifar10": (10, 50), "cifar100": (10, 50), "tiny_imagenet": (50, 100), "imagenet": (10, 50, 100)},
    tiny={"classes_together": 4},
)
PRESETS = {
    **_PUBLISHED,
    "t4": {
        **_PUBLISHED["cifar10_10"],
        "method": {**_PUBLISHED["cifar10_10"]["method"], "teacher_epochs": 30},
        "evaluation": {"protocol": "sre2l", "networks": 1},
    },
}

PUBLISHED_PRESET = "cifar10_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("sre2l", **preset(PRESETS, name))
