"""jaxdd: dataset distillation in JAX.

`import jaxdd` is cheap: the rooms load when they are first touched, so that `jaxdd.losses` and `jaxdd.kernels` need
nothing but jax and optax, and no import ever loads TensorFlow, TFDS, matplotlib or orbax.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_ROOMS = (
    "data",
    "engine",
    "errors",
    "evaluation",
    "kernels",
    "losses",
    "methods",
    "models",
    "report",
    "synthetic",
    "types",
)
_NAMES = {
    "run": "engine",
    "DistilledDataset": "synthetic",
    "Method": "types",
    "Network": "types",
    "JaxddError": "errors",
}

__all__ = [*_ROOMS, *_NAMES, "__version__"]

if TYPE_CHECKING:
    from jaxdd import data, engine, errors, evaluation, kernels, losses, methods, models, report, synthetic, types
    from jaxdd.engine import run
    from jaxdd.errors import JaxddError
    from jaxdd.synthetic import DistilledDataset
    from jaxdd.types import Method, Network


def __getattr__(name: str):
    if name in _ROOMS:
        return importlib.import_module(f"jaxdd.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"jaxdd.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'jaxdd' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
