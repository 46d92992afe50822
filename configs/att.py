"""ATT (Liu et al., ECCV 2024, https://arxiv.org/abs/2407.14245): a student may arrive after any number of steps.

`cpu` (the default): Fashion-MNIST, 10 images per class, a ConvNet of width 32. `cifar10_10`: MTT's settings for 10
images per class, whitened, for a GPU (the paper's own are in its supplement and are not checked):

    jaxdd distill --config=att --config.data.name=fashion_mnist --evaluate=full --workdir=runs/att
    jaxdd distill --config=att:cifar10_10 --evaluate=full --workdir=runs/att_cifar10

Experts are a stage, trained once for all runs with the same data, seed and settings of experts and kept under
JAXDD_CACHE_DIR (`jaxdd stages` lists them). Networks are evaluated at the protocol's rate, where the authors take the
learned step size, and after the last update, where they take the best of several evaluations on test data.

The paper reports 48.3 / 67.7 / 74.5 % on CIFAR-10 for 1, 10 and 50 images per class.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.trajectories import of_paper, presets

PRESETS = presets(published=of_paper(5_000, {"cifar10_10": {}}))

PUBLISHED_PRESET = "cifar10_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("att", **preset(PRESETS, name))
