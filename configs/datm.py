"""DATM (Guo et al., ICLR 2024, https://arxiv.org/abs/2310.05773): easy parts for few images, hard ones for many.

`cpu` (the default): Fashion-MNIST, 10 images per class, a ConvNet of width 32. `DATA_IPC`, such
as `cifar10_10`: the authors' settings for cifar10 (1, 10, 50, 500, 1000 images per class), cifar100 (1, 10, 50, 100)
and tiny_imagenet (a file of 64x64 images; 1, 10, 50), whitened, for a GPU:

    jaxdd distill --config=datm --config.data.name=fashion_mnist --evaluate=full --workdir=runs/datm
    jaxdd distill --config=datm:cifar10_10 --evaluate=full --workdir=runs/datm_cifar10

Experts are a stage, trained once for all runs with the same data, seed and settings of experts and kept under
JAXDD_CACHE_DIR (`jaxdd stages` lists them). Networks are evaluated at the protocol's rate, where the authors take the
learned step size, and after the last update, where they take the best of several evaluations on test data.

| | 1 | 10 | 50 | 100 | 500 | 1000 images per class | all data |
|---|---|---|---|---|---|---|---|
| `cifar10` | 46.9 | 66.8 | 76.1 | | 83.5 | 85.5 | 84.8 |
| `cifar100` | 27.9 | 47.2 | 55.0 | 57.5 | | | 56.2 |
| `tiny_imagenet` | 17.1 | 31.1 | 39.7 | | | | 37.6 |

are the paper's accuracies, with soft labels.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.trajectories import ALIGNED, of_paper, presets

PRESETS = presets(
    published=of_paper(10_000, ALIGNED),
    cpu={"first_max_start": 2, "growth": 100},
    tiny={"first_max_start": None, "threshold": 10.0},
)

PUBLISHED_PRESET = "cifar10_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("datm", **preset(PRESETS, name))
