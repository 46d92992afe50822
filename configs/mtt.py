"""MTT (Cazenavette et al., CVPR 2022, https://arxiv.org/abs/2203.11932): students walk where experts went.

`cpu` (the default): Fashion-MNIST, 10 images per class, a ConvNet of width 32, few experts of few epochs. `cifar10`:
the authors' settings for 10 images per class, whitened as theirs, for a GPU:

    jaxdd distill --config=mtt --config.data.name=fashion_mnist --evaluate=full --workdir=runs/mtt
    jaxdd distill --config=mtt:cifar10 --evaluate=full --workdir=runs/mtt_cifar10

Experts are a stage: they are trained first, once for all runs with the same data, seed and settings of experts, and
kept under JAXDD_CACHE_DIR (`jaxdd stages` lists them): 100 experts of 50 epochs are 6.5 GB. Networks are evaluated at
the protocol's rate, where the authors take the learned step size.

The paper reports 46.2 / 65.4 / 71.6 % on CIFAR-10 for 1, 10 and 50 images per class, whitened for the first two (not
for the last: `--config.data.transform=published`), the best of several evaluations on test data. What `cpu` gives is in
docs/results/matching.md.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.trajectories import presets, whitened

PRESETS = presets(
    published={
        "cifar10": whitened(5_000, ipc=10),
    },
)

PUBLISHED_PRESET = "cifar10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("mtt", **preset(PRESETS, name))
