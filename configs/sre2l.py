"""SRe2L (Yin, Xing & Shen, NeurIPS 2023, https://arxiv.org/abs/2306.13092): images recovered from a teacher.

`cpu` (the default): CIFAR-10, 10 images per class, a ConvNet of width 32 with batch normalisation, 500 steps a block:
some minutes on two cores. `cifar100`, `cifar10`, `tiny_imagenet`, `imagenet`: the authors' settings (CIFAR-10 has no
settings of its own and takes CIFAR-100's), for a GPU:

    jaxdd distill --config=sre2l --config.data.name=cifar10 --evaluate=full --workdir=runs/sre2l
    jaxdd distill --config=sre2l:cifar100 --config.data.name=FOLDER --evaluate=full --workdir=runs/sre2l_cifar100

The teacher is a stage: it is trained first, once for all runs with the same data, seed and settings of it. It labels
every view that a network is trained on, so it is in the distilled file and in its bits; `--config.method.labels=image`
gives one label an image instead. A run is `ipc` times (classes / `classes_together`) blocks of `run.steps` steps each.

The paper reports (ResNet-18) 41.1 / 49.7 % on Tiny ImageNet and 46.8 / 52.8 % on ImageNet-1K for 50 and 100 images per
class, and 49.4 % on CIFAR-100 for 50; others report 27 to 29 % on CIFAR-10 for 10. `cpu` gives 29.0 %, and 11.5 %
without the statistics. As many random real images, labelled in the same way by the same teacher, give 45.6 %: with ten
images a class recovery does not pay (docs/results/decoupled.md); see docs/decoupled.md for what differs.
"""

from jaxdd.cli import preset, smoke, template


def paper(steps: int = 1000, ipc: int = 50, protocol: str = "sre2l", **method) -> dict:
    return {
        "method": {"ipc": ipc, "decay_steps": steps, **method},
        "data": {"validation": 0.0},
        "run": {"steps": steps},
        "evaluation": {"protocol": protocol},
    }


PRESETS = {
    "cpu": {
        "method": {
            "ipc": 10,
            "model": "convnet(width=32, norm='batch')",
            "decay_steps": 500,
            "teacher_epochs": 10,
        },
        "data": {"name": "cifar10"},
        "run": {"steps": 500},
        "evaluation": {"protocol": "sre2l", "networks": 3},
    },
    "cifar10": {**paper(ipc=10), "data": {"name": "cifar10", "transform": "published", "validation": 0.0}},
    "cifar100": paper(),
    "tiny_imagenet": paper(
        4000, learning_rate=0.1, statistics_weight=1.0, crop=(0.08, 1.0), teacher_epochs=50, teacher_learning_rate=0.2
    ),
    "imagenet": paper(4000, jitter=32, crop=(0.08, 1.0)),
    "smoke": smoke(
        6,
        ipc=1,
        model="convnet(width=8, depth=2, norm='batch')",
        classes_together=4,
        decay_steps=6,
        teacher_epochs=2,
    ),
}

PUBLISHED_PRESET = "cifar10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("sre2l", **preset(PRESETS, name))
