"""PAD (Li et al. 2024, https://arxiv.org/abs/2408.03360): experts on easy data first, and the large differences alone.

`cpu` (the default): Fashion-MNIST, 10 images per class, a ConvNet of width 32. `DATA_IPC`, such
as `cifar10_10`: the authors' settings for the data and numbers of images of DATM, whitened, for a GPU:

    jaxdd distill --config=pad --config.data.name=fashion_mnist --evaluate=full --workdir=runs/pad
    jaxdd distill --config=pad:cifar10_10 --evaluate=full --workdir=runs/pad_cifar10

Experts are a stage, trained once for all runs with the same data, seed and settings of experts; how hard examples are
is found in a stage before it. Both are kept under JAXDD_CACHE_DIR (`jaxdd stages` lists them). Networks are evaluated
at the protocol's rate, where the authors take the learned step size, and after the last update, where they take the
best of several evaluations on test data.

| | 1 | 10 | 50 | 100 | 500 | 1000 images per class |
|---|---|---|---|---|---|---|
| `cifar10` | 47.2 | 67.4 | 77.0 | | 84.6 | 86.7 |
| `cifar100` | 28.4 | 47.8 | 55.9 | 58.5 | | |
| `tiny_imagenet` | 17.7 | 32.3 | 41.6 | | | |

are the paper's accuracies, with soft labels. What its code drops on Tiny ImageNet is not known here: `drop` is the
default.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.trajectories import ALIGNED, of_paper, presets

_OWN = {
    "cifar10_1": {"drop": 0.0},
    "cifar10_50": {"drop": 0.25, "span": 3, "batch": 1000},
    "cifar10_500": {"max_start": 70, "first_max_start": 60},
    "cifar100_1": {"span": 3},
    "cifar100_50": {"drop": 0.0},
}
PRESETS = presets(
    published=of_paper(10_000, {name: {**fields, **_OWN.get(name, {})} for name, fields in ALIGNED.items()}),
    cpu={
        "first_max_start": 2,
        "growth": 100,
        "drop": 0.25,
        "grown": 3,
        "easy": ((5, 0.1),),
        "difficulty_epochs": 2,
    },
    tiny={"first_max_start": None, "threshold": 10.0, "difficulty_epochs": 1, "grown": 1},
)

PUBLISHED_PRESET = "cifar10_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("pad", **preset(PRESETS, name))
