"""AST (Shen, Yang & Lan 2023, https://arxiv.org/abs/2310.10541): experts that go smoothly, students held to their way.

`cpu` (the default): Fashion-MNIST, 10 images per class, a ConvNet of width 32. `cifar10_10`: the authors' settings for
10 images per class, whitened, for a GPU:

    jaxdd distill --config=ast --config.data.name=fashion_mnist --evaluate=full --workdir=runs/ast
    jaxdd distill --config=ast:cifar10_10 --evaluate=full --workdir=runs/ast_cifar10

Experts are a stage, trained once for all runs with the same data, seed and settings of experts and kept under
JAXDD_CACHE_DIR (`jaxdd stages` lists them). Networks are evaluated at the protocol's rate, where the authors take the
learned step size, and after the last update, where they take the best of several evaluations on test data.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.trajectories import of_paper, presets

PRESETS = presets(
    published=of_paper(5_000, {"cifar10_10": {}}),
    cpu={
        "span": 2,
        "max_start": 4,
        "expert_learning_rate": 0.002,
        "clipped_epochs": 2,
        "inner_learning_rate": 0.01,
    },
    tiny={"clipped_epochs": 1},
)

PUBLISHED_PRESET = "cifar10_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("ast", **preset(PRESETS, name))
