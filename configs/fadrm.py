"""FADRM (Cui et al., NeurIPS 2025, https://arxiv.org/abs/2506.24125): recovery that real crops are mixed into.

`cpu` (the default): CIFAR-10, 10 images per class, a ConvNet of width 32 with batch normalisation: some minutes on two
cores. `tiny_imagenet32`: 200 classes, one image each. `cifar100_1`, `cifar100_10`, `cifar100_50`, `tiny_imagenet_50`,
..: the authors' settings, for a GPU:

    jaxdd distill --config=fadrm --evaluate=full --workdir=runs/fadrm
    jaxdd distill --config=fadrm:cifar100_10 --evaluate=full --workdir=runs/fadrm_cifar100_10

The teacher is a stage: it is trained first, once for all runs with the same data, seed and settings of it. It labels
every view that a network is trained on, so it is in the distilled file and in its bits; `--config.method.labels=image`
gives one label an image, `hard` none but its class. A run is of independent blocks of `run.steps` steps each.

`others` are more teachers, in turn: FADRM+, of which the paper reports (ResNet-18, for 1 / 10 / 50 images per class)
40.6 / 67.9 / 71.3 % on CIFAR-100, 40.4 / 52.8 / 58.7 on Tiny ImageNet, 14.1 / 50.0 / 60.1 on ImageNet-1K. Its fourth
network, DenseNet-121, is not in the zoo. Its images of larger data begin smaller, which is not here.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.decoupled import presets

_PLUS = {"others": ("shufflenet_v2(width=48)", "mobilenet_v2"), "decay_steps": 2000}
PRESETS = presets(
    {
        "cifar100": _PLUS,
        "tiny_imagenet": {**_PLUS, "classes_together": 200},
        "imagenet": {**_PLUS, "grid": 2, "jitter": 32},
    },
    ipc={"cifar100": (1, 10, 50), "tiny_imagenet": (1, 10, 50), "imagenet": (1, 10, 50)},
    protocol="cv-dd",
    tiny={"segments": 3},
)
PUBLISHED_PRESET = "cifar100_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("fadrm", **preset(PRESETS, name))
