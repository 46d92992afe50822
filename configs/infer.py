"""INFER (Zhang et al., ICLR 2025, https://arxiv.org/abs/2408.06927): one change for a real image of every class.

`cpu` (the default): CIFAR-10, 10 images per class, a ConvNet of width 32 with batch normalisation, and ResNet-8: some
minutes on two cores. `tiny_imagenet32`: 200 classes, one image each. `cifar10_10`, `cifar100_50`, `tiny_imagenet_50`,
..: the authors' settings, for a GPU:

    jaxdd distill --config=infer --evaluate=full --workdir=runs/infer
    jaxdd distill --config=infer:cifar10_10 --evaluate=full --workdir=runs/infer_cifar10_10

Real images, and the same with what is added to them by one of several teachers, which are stages. Labels are one an
image, of the teachers' mean logits; `--config.method.labels=view` labels views.

The paper reports (ResNet-18, 10 / 50 images per class) 32.0 / 60.4 % on CIFAR-10, 45.2 / 62.8 on CIFAR-100, 32.0 / 52.9
on Tiny ImageNet, with four networks of which EfficientNet-B0 and ShuffleNetG2 are not in the zoo.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.decoupled import presets

_FOUR = {"others": ("mobilenet_v2", "shufflenet_v2", "vgg11"), "decay_steps": 1000}
PRESETS = presets(
    {"cifar10": _FOUR, "cifar100": _FOUR, "tiny_imagenet": _FOUR},
    ipc={"cifar10": (10, 50), "cifar100": (10, 50, 100), "tiny_imagenet": (10, 50)},
    cpu={"others": ("resnet8",)},
    tiny={"ipc": 2},
)
PUBLISHED_PRESET = "cifar10_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("infer", **preset(PRESETS, name))
