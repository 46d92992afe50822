"""MTT (Cazenavette et al., CVPR 2022, https://arxiv.org/abs/2203.11932): students walk where experts went.

`cpu` (the default): Fashion-MNIST, 10 images per class, a ConvNet of width 32, few experts of few epochs. `DATA_IPC`,
such as `cifar10_10`: the authors' settings for cifar10, cifar100 and tiny_imagenet (a file of 64x64 images) with 1, 10
and 50 images per class, whitened where theirs are, for a GPU:

    jaxdd distill --config=mtt --config.data.name=fashion_mnist --evaluate=full --workdir=runs/mtt
    jaxdd distill --config=mtt:cifar10_10 --evaluate=full --workdir=runs/mtt_cifar10

Experts are a stage: they are trained first, once for all runs with the same data, seed and settings of experts, and
kept under JAXDD_CACHE_DIR (`jaxdd stages` lists them): 100 experts of 50 epochs are 6.5 GB, or 1.6 GB with
`--config.method.expert_store=int8`. Networks are evaluated at the protocol's rate, where the authors take the learned
step size.

| | 1 | 10 | 50 images per class |
|---|---|---|---|
| `cifar10` | 46.2 | 65.4 | 71.6 |
| `cifar100` | 24.3 | 39.7 | 47.7 |
| `tiny_imagenet` | 8.8 | 23.2 | 28.0 |

are the paper's accuracies, the best of several evaluations on test data. What `cpu` gives is in docs/trajectories.md.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.trajectories import of_paper, presets

_SLOW = {"rate_learning_rate": 1e-7, "inner_learning_rate": 0.01}
_WIDE = {"learning_rate": 1000.0, "inner_learning_rate": 0.01}
_TINY = {"steps": 20, "learning_rate": 1e4, "rate_learning_rate": 1e-4, "inner_learning_rate": 0.01}
PRESETS = presets(
    published=of_paper(
        5_000,
        {
            "cifar10_1": {"steps": 50, "max_start": 2, **_SLOW},
            "cifar10_10": {},
            "cifar10_50": {"max_start": 40, "learning_rate": 1000.0},
            "cifar100_1": {"steps": 20, "span": 3, **_WIDE},
            "cifar100_10": {"steps": 20, **_WIDE},
            "cifar100_50": {"steps": 80, "max_start": 40, "batch": 125, **_WIDE},
            "tiny_imagenet_1": {**_TINY, "steps": 10, "max_start": 10},
            "tiny_imagenet_10": {**_TINY, "max_start": 40, "batch": 200},
            "tiny_imagenet_50": {**_TINY, "max_start": 40, "batch": 300},
        },
        unwhitened=("cifar10_50", "cifar100_10", "tiny_imagenet_1", "tiny_imagenet_10", "tiny_imagenet_50"),
    ),
)

PUBLISHED_PRESET = "cifar10_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("mtt", **preset(PRESETS, name))
