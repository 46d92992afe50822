"""TESLA (Cui et al., ICML 2023, https://arxiv.org/abs/2211.10586): MTT without the graph of the student's steps.

`cpu` (the default): Fashion-MNIST, 10 images per class, a ConvNet of width 32. `cifar10_1`: the authors' settings for
one image per class, whitened, for a GPU:

    jaxdd distill --config=tesla --config.data.name=fashion_mnist --evaluate=full --workdir=runs/tesla
    jaxdd distill --config=tesla:cifar10_1 --evaluate=full --workdir=runs/tesla_cifar10

Experts are a stage, trained once for all runs with the same data, seed and settings of experts and kept under
JAXDD_CACHE_DIR (`jaxdd stages` lists them). Networks are evaluated at the protocol's rate, where the authors take the
learned step size, and after the last update, where they take the best of several evaluations on test data.

The paper reports 48.5 / 66.4 / 72.6 % on CIFAR-10 for 1, 10 and 50 images per class.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.trajectories import of_paper, presets

PRESETS = presets(published=of_paper(5_000, {"cifar10_1": {}}))

PUBLISHED_PRESET = "cifar10_1"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("tesla", **preset(PRESETS, name))
