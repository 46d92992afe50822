"""FTD (Du et al., CVPR 2023, https://arxiv.org/abs/2211.11004): experts in flat places, and the average of the set.

`cpu` (the default): Fashion-MNIST, 10 images per class, a ConvNet of width 32. `cifar10_1`, `cifar10_10`, `cifar10_50`:
the authors' settings by images per class, for a GPU:

    jaxdd distill --config=ftd --config.data.name=fashion_mnist --evaluate=full --workdir=runs/ftd
    jaxdd distill --config=ftd:cifar10_10 --evaluate=full --workdir=runs/ftd_cifar10

Experts are a stage, trained once for all runs with the same data, seed and settings of experts and kept under
JAXDD_CACHE_DIR (`jaxdd stages` lists them). Networks are evaluated at the protocol's rate, where the authors take the
learned step size, and after the last update, where they take the best of several evaluations on test data.

The paper reports 46.8 / 66.6 / 73.8 % on CIFAR-10 for 1, 10 and 50 images per class, and the better of the last iterate
and the average.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.trajectories import presets, whitened

PRESETS = presets(
    published={
        "cifar10_1": whitened(
            5000, ipc=1, steps=50, max_start=2, rate_learning_rate=1e-7, inner_learning_rate=0.01, decay=0.9999
        ),
        "cifar10_10": whitened(5_000, ipc=10),
        "cifar10_50": whitened(
            5_000,
            ipc=50,
            max_start=40,
            learning_rate=1000.0,
            inner_learning_rate=0.01,
            surrogate=1.0,
            decay=0.999,
        ),
    },
    cpu={"decay": 0.95},
    tiny={"decay": 0.5},
)

PUBLISHED_PRESET = "cifar10_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("ftd", **preset(PRESETS, name))
