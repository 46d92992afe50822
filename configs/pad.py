"""PAD (Li et al. 2024, https://arxiv.org/abs/2408.03360): experts on easy data first, and the large differences alone.

`cpu` (the default): Fashion-MNIST, 10 images per class, a ConvNet of width 32. `cifar10_IPC`: the authors' settings for
1, 10 and 50 images per class, whitened, for a GPU:

    jaxdd distill --config=pad --config.data.name=fashion_mnist --evaluate=full --workdir=runs/pad
    jaxdd distill --config=pad:cifar10_10 --evaluate=full --workdir=runs/pad_cifar10

Experts are a stage, trained once for all runs with the same data, seed and settings of experts; how hard examples are
is found in a stage before it. Both are kept under JAXDD_CACHE_DIR (`jaxdd stages` lists them). Networks are evaluated
at the protocol's rate, where the authors take the learned step size, and after the last update, where they take the
best of several evaluations on test data.

The paper reports 47.2 / 67.4 / 77.0 % on CIFAR-10 for 1, 10 and 50 images per class, with soft labels.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.trajectories import presets, whitened

PRESETS = presets(
    published={
        "cifar10_1": whitened(
            10_000,
            ipc=1,
            drop=0.0,
            max_start=4,
            first_max_start=None,
            batch=10,
            rate_learning_rate=1e-7,
            label_learning_rate=5.0,
            threshold=1.1,
        ),
        "cifar10_10": whitened(10_000, ipc=10),
        "cifar10_50": whitened(
            10_000,
            ipc=50,
            drop=0.25,
            span=3,
            max_start=40,
            first_max_start=20,
            growth=2000,
            batch=1000,
            learning_rate=1000.0,
        ),
    },
    cpu={"first_max_start": 1, "growth": 150, "grown": 2, "easy": ((3, 0.1),), "difficulty_epochs": 2},
    tiny={"first_max_start": None, "threshold": 10.0, "difficulty_epochs": 1, "grown": 1},
)

PUBLISHED_PRESET = "cifar10_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("pad", **preset(PRESETS, name))
