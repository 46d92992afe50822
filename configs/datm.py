"""DATM (Guo et al., ICLR 2024, https://arxiv.org/abs/2310.05773): easy parts for few images, hard ones for many.

`cpu` (the default): Fashion-MNIST, 10 images per class, a ConvNet of width 32. `cifar10_IPC`: the authors' settings for
1, 10, 50, 500 and 1000 images per class, whitened, for a GPU:

    jaxdd distill --config=datm --config.data.name=fashion_mnist --evaluate=full --workdir=runs/datm
    jaxdd distill --config=datm:cifar10_10 --evaluate=full --workdir=runs/datm_cifar10

Experts are a stage, trained once for all runs with the same data, seed and settings of experts and kept under
JAXDD_CACHE_DIR (`jaxdd stages` lists them). Networks are evaluated at the protocol's rate, where the authors take the
learned step size, and after the last update, where they take the best of several evaluations on test data.

The paper reports 46.9 / 66.8 / 76.1 / 83.5 / 85.5 % on CIFAR-10 for 1, 10, 50, 500 and 1000 images per class, with soft
labels; all of the data give 84.8 %.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.trajectories import presets, whitened

PRESETS = presets(
    published={
        "cifar10_1": whitened(
            10_000,
            ipc=1,
            max_start=4,
            first_max_start=None,
            batch=10,
            rate_learning_rate=1e-7,
            label_learning_rate=5.0,
            threshold=1.1,
        ),
        "cifar10_10": whitened(10_000, ipc=10),
        "cifar10_50": whitened(
            10_000, ipc=50, max_start=40, first_max_start=20, growth=2000, batch=500, learning_rate=1000.0
        ),
        "cifar10_500": whitened(
            10_000,
            ipc=500,
            steps=40,
            min_start=40,
            max_start=60,
            first_max_start=None,
            batch=1000,
            learning_rate=50.0,
            label_learning_rate=10.0,
        ),
        "cifar10_1000": whitened(
            10_000,
            ipc=1000,
            steps=100,
            min_start=40,
            max_start=60,
            first_max_start=None,
            batch=1000,
            learning_rate=50.0,
            label_learning_rate=10.0,
        ),
    },
    cpu={"first_max_start": 1, "growth": 150},
    tiny={"first_max_start": None, "threshold": 10.0},
)

PUBLISHED_PRESET = "cifar10_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("datm", **preset(PRESETS, name))
