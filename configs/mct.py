"""MCT (Zhong et al., CVPR 2025, https://arxiv.org/abs/2406.19827): experts' ways made straight between a few points.

`cpu` (the default): Fashion-MNIST, 10 images per class, a ConvNet of width 32. `cifar10_IPC`: the authors' settings for
1 and 10 images per class, whitened, for a GPU:

    jaxdd distill --config=mct --config.data.name=fashion_mnist --evaluate=full --workdir=runs/mct
    jaxdd distill --config=mct:cifar10_10 --evaluate=full --workdir=runs/mct_cifar10

A reconstruction from the paper and notes of its settings: no code of the authors was found. Experts are those of MTT.
Networks are evaluated at the protocol's rate, where the authors take the learned step size.

The paper reports 48.5 / 66.0 / 72.3 % on CIFAR-10 for 1, 10 and 50 images per class.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.trajectories import of_paper, presets

PRESETS = presets(
    published=of_paper(
        5_000,
        {
            "cifar10_1": {
                "steps": 60,
                "span": 6,
                "max_start": 4,
                "rate_learning_rate": 1e-7,
                "inner_learning_rate": 0.01,
            },
            "cifar10_10": {},
        },
    ),
    cpu={"points": (0, 2, 5, 8)},
    tiny={"span": 1, "points": (0, 1, 2)},
)

PUBLISHED_PRESET = "cifar10_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("mct", **preset(PRESETS, name))
