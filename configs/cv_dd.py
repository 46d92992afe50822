"""CV-DD (Cui et al., ICCV 2025, https://arxiv.org/abs/2501.07575): recovery by a committee, two of it at a time.

`cpu` (the default): CIFAR-10, 10 images per class, a ConvNet of width 32 with batch normalisation, ResNet-8 and a
small VGG-11: some minutes on two cores. `tiny_imagenet32`: 200 classes, one image each. `cifar10_10`, `cifar100_50`,
`tiny_imagenet_50`, ..: the authors' settings, for a GPU:

    jaxdd distill --config=cv_dd --evaluate=full --workdir=runs/cv_dd
    jaxdd distill --config=cv_dd:cifar10_10 --evaluate=full --workdir=runs/cv_dd_cifar10_10

The teacher is a stage: it is trained first, once for all runs with the same data, seed and settings of it. It labels
every view that a network is trained on, so it is in the distilled file and in its bits; `--config.method.labels=image`
gives one label an image, `hard` none but its class. A run is of independent blocks of `run.steps` steps each.

`performance` weighs the committee; the authors' numbers are of networks trained on what each of it distils alone, and
have to be measured first. The paper reports (ResNet-18, for 1 / 10 / 50 images per class) 26.1 / 44.6 / 70.1 % on
CIFAR-10, 15.9 / 53.6 / 65.1 on CIFAR-100, 10.1 / 47.8 / 54.1 on Tiny ImageNet, 9.2 / 46.0 / 59.5 on ImageNet-1K, with
five networks; DenseNet-121 is not in the zoo.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.decoupled import OTHERS, presets

_FOUR = {"others": ("resnet50", "shufflenet_v2", "mobilenet_v2"), "decay_steps": 4000}
PRESETS = presets(
    {
        "cifar10": {**_FOUR, "performance": (63.0, 65.3, 68.5, 67.6)},
        "cifar100": _FOUR,
        "tiny_imagenet": _FOUR,
        "imagenet": {**_FOUR, "grid": 2, "jitter": 32},
    },
    ipc={"cifar10": (1, 10, 50), "cifar100": (1, 10, 50), "tiny_imagenet": (1, 10, 50), "imagenet": (1, 10, 50)},
    protocol="cv-dd",
    cpu={"others": OTHERS},
    tiny={"others": ("convnet(width=4, depth=2, norm='batch')",)},
)
PUBLISHED_PRESET = "cifar10_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("cv_dd", **preset(PRESETS, name))
