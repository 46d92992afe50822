"""MTT (Cazenavette et al., CVPR 2022, https://arxiv.org/abs/2203.11932): students walk where experts went.

`cpu` (the default): Fashion-MNIST, 10 images per class, a ConvNet of width 32, few experts of few epochs. `DATA_IPC`,
such as `cifar10_10`: the authors' settings for cifar10, cifar100 and tiny_imagenet (a file of 64x64 images) with 1, 10
and 50 images per class, whitened where theirs are, for a GPU. `t4`: `cifar10_10` with 20 experts of 20 epochs and 1,000
updates, for a card of 16 GB, such as Colab's T4:

    jaxdd distill --config=mtt --config.data.name=fashion_mnist --evaluate=full --workdir=runs/mtt
    jaxdd distill --config=mtt:cifar10_10 --evaluate=full --workdir=runs/mtt_cifar10

Images need not be pixels. `multi_formation`, `frequencies`, `neural_fields` and `linear_bases` are `cpu` with what the
bits of one plain image per class pay for, 40, 110, 110 and 130 images of Fashion-MNIST. Their rates were chosen with
the experts and the 4,000 images of scripts/trajectory_claims.py:

    jaxdd distill --config=mtt:frequencies --evaluate=full --workdir=runs/mtt_frequencies

`cifar10_frequencies` (FreD, Shin et al. 2023, https://arxiv.org/abs/2311.08819) and `cifar10_neural_fields` (DDiF, Shin
et al. 2025, https://arxiv.org/abs/2503.04835) have their authors' settings for 1 image per class, not whitened, as
their scripts do. FreD's rate of 1e8 is of a DCT that is not normalised, 2 * 32 times the orthonormal one where both
frequencies are above zero; a step there is 1e8 / (2 * 32)^2 = 24,414 here. Where one is zero theirs is half of that,
where both are a quarter. Of DDiF's rate their code has 1e-4 for ImageNette and none for CIFAR-10. Labels and the places
of coefficients count as bits here: so FreD has 15 images per class (theirs 16), DDiF 37 as theirs.

Experts are a stage: they are trained first, once for all runs with the same data, seed and settings of experts, and
kept under JAXDD_CACHE_DIR (`jaxdd stages` lists them): 100 experts of 50 epochs are 6.5 GB, or 1.6 GB with
`--config.method.expert_store=int8`. Networks are evaluated at the protocol's rate, where the authors take the learned
step size.

| | 1 | 10 | 50 images per class |
|---|---|---|---|
| `cifar10` | 46.2 | 65.4 | 71.6 |
| `cifar100` | 24.3 | 39.7 | 47.7 |
| `tiny_imagenet` | 8.8 | 23.2 | 28.0 |

are the paper's accuracies, the best of several evaluations on test data. FreD's reports 60.6 and DDiF's 66.5 % with
the bits of 1 image per class of CIFAR-10. What `cpu` and the four beside it give is in docs/trajectories.md.
"""

from jaxdd.cli import preset, template
from jaxdd.cli.trajectories import of_paper, presets

_SLOW = {"rate_learning_rate": 1e-7, "inner_learning_rate": 0.01}
_WIDE = {"learning_rate": 1000.0, "inner_learning_rate": 0.01}
_TINY = {"steps": 20, "learning_rate": 1e4, "rate_learning_rate": 1e-4, "inner_learning_rate": 0.01}
_OF_PIXELS = presets(
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
_BASE = _OF_PIXELS["cpu"]


def of(parameterisation: str, **method) -> dict:
    """`cpu` with what the bits of one plain image per class pay for."""
    return _BASE | {"method": _BASE["method"] | {"ipc": 1, "parameterisation": parameterisation, **method}}


def plain(parameterisation: str, **method) -> dict:
    """Settings for CIFAR-10 with the bits of one image per class, not whitened."""
    fields = {"parameterisation": parameterisation, "inner_learning_rate": 0.01, **method}
    return of_paper(15_000, {"cifar10_1": fields}, unwhitened=("cifar10_1",))["cifar10_1"]


PRESETS = _OF_PIXELS | {
    "multi_formation": of("multi_formation(factor=2)", learning_rate=30.0),
    "frequencies": of("frequencies(coefficients=64)", learning_rate=1_000.0),
    "neural_fields": of(
        "neural_fields(width=6, fit=400, fit_learning_rate=0.01)", optimizer="adam", learning_rate=0.01
    ),
    "linear_bases": of("linear_bases(bases=24, fit=300, fit_learning_rate=0.03)", optimizer="adam", learning_rate=0.03),
    "t4": {
        **_OF_PIXELS["cifar10_10"],
        "method": {"ipc": 10, "experts": 20, "expert_epochs": 20, "max_start": 15},
        "run": {"steps": 1_000},
    },
    "cifar10_frequencies": plain(
        "frequencies(coefficients=64)",
        steps=50,
        max_start=5,
        learning_rate=1e8 / (2 * 32) ** 2,
        rate_learning_rate=1e-7,
    ),
    "cifar10_neural_fields": plain(
        "neural_fields(width=6)", steps=60, max_start=10, optimizer="adam", learning_rate=1e-4
    ),
}

PUBLISHED_PRESET = "cifar10_10"  # the preset that accelerators are measured with


def get_config(name: str = "cpu"):
    return template("mtt", **preset(PRESETS, name))
