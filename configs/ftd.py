"""FTD (Du et al., CVPR 2023, https://arxiv.org/abs/2211.11004): experts in flat places, and the average of the set.

`cpu` (the default): Fashion-MNIST, 10 images per class, a ConvNet of width 32. `DATA_IPC`, such
as `cifar10_10`: the authors' settings for cifar10 and cifar100 (1, 10, 50 images per class) and tiny_imagenet (a file
of 64x64 images; 1, 10), whitened but for the last, for a GPU:

    jaxdd distill --config=ftd --config.data.name=fashion_mnist --evaluate=full --workdir=runs/ftd
    jaxdd distill --config=ftd:cifar10_10 --evaluate=full --workdir=runs/ftd_cifar10

Experts are a stage, trained once for all runs with the same data, seed and settings of experts and kept under
JAXDD_CACHE_DIR (`jaxdd stages` lists them). Networks are evaluated at the protocol's rate, where the authors take the
learned step size, and after the last update, where they take the best of several evaluations on test data.

| | 1 | 10 | 50 images per class |
|---|---|---|---|
| `cifar10` | 46.8 | 66.6 | 73.8 |
| `cifar100` | 25.2 | 43.4 | 50.7 |
| `tiny_imagenet` | 10.4 | 24.5 | |

are the paper's accuracies, of the better of the last iterate and the average.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.trajectories import of_paper, presets

_WIDE = {"max_start": 40, "learning_rate": 1000.0, "inner_learning_rate": 0.01, "surrogate": 1.0}
_TINY = {**_WIDE, "learning_rate": 1e4, "rate_learning_rate": 1e-4, "decay": 0.999}
PRESETS = presets(
    published=of_paper(
        5_000,
        {
            "cifar10_1": {
                "steps": 50,
                "max_start": 2,
                "rate_learning_rate": 1e-7,
                "inner_learning_rate": 0.01,
                "decay": 0.9999,
            },
            "cifar10_10": {},
            "cifar10_50": {**_WIDE, "decay": 0.999},
            "cifar100_1": {**_WIDE, "steps": 40, "span": 3, "max_start": 20},
            "cifar100_10": {**_WIDE, "steps": 20},
            "cifar100_50": {**_WIDE, "steps": 80, "decay": 0.999},
            "tiny_imagenet_1": {**_TINY, "max_start": 10},
            "tiny_imagenet_10": {**_TINY, "steps": 20},
        },
        unwhitened=("tiny_imagenet_1", "tiny_imagenet_10"),
    ),
    cpu={"decay": 0.95},
    tiny={"decay": 0.5},
)

PUBLISHED_PRESET = "cifar10_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("ftd", **preset(PRESETS, name))
