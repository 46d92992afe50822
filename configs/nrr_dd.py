"""NRR-DD (Tran et al., CVPR 2025, https://arxiv.org/abs/2503.18267): crops whose other regions are refined.

`cpu` (the default): CIFAR-10, 10 images per class, a ConvNet of width 32 with batch normalisation: some minutes on two
cores. `tiny_imagenet32`: 200 classes, one image each. `cifar10_10`, `cifar100_10`, `imagenet_10`, ..: the authors'
settings, for a GPU:

    jaxdd distill --config=nrr_dd --evaluate=full --workdir=runs/nrr_dd
    jaxdd distill --config=nrr_dd:cifar10_10 --evaluate=full --workdir=runs/nrr_dd_cifar10_10

The teacher is a stage: it is trained first, once for all runs with the same data, seed and settings of it. It labels
every view that a network is trained on, so it is in the distilled file and in its bits; `--config.method.labels=image`
gives one label an image, `hard` none but its class. A run is of independent blocks of `run.steps` steps each.

A reconstruction: there is no code, and all numbers but SRe2L's are guesses. Others report of the paper 72.2 % on
CIFAR-10 and 62.7 on CIFAR-100 for 10 images per class, of an architecture that is not certain.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.decoupled import presets

PRESETS = presets(
    {"imagenet": {"grid": 2, "jitter": 32}},
    ipc={"cifar10": (10,), "cifar100": (10,), "tiny_imagenet": (10, 50), "imagenet": (10, 50)},
    protocol="rded",
)
PUBLISHED_PRESET = "cifar10_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("nrr_dd", **preset(PRESETS, name))
