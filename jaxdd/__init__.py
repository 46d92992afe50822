"""jaxdd: dataset distillation in JAX.

`import jaxdd` is cheap: the rooms load when they are first touched, so that `jaxdd.losses` and `jaxdd.kernels` need
nothing but jax and optax, and no import ever loads TensorFlow, TFDS, matplotlib or orbax.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from jaxdd._version import __version__

__all__ = [
    "DistilledDataset",
    "JaxddError",
    "Method",
    "Network",
    "__version__",
    "audit",
    "data",
    "engine",
    "errors",
    "evaluation",
    "inner",
    "kernels",
    "losses",
    "methods",
    "models",
    "quantize",
    "report",
    "run",
    "selection",
    "sets",
    "synthetic",
    "training",
    "types",
    "workflows",
]

if TYPE_CHECKING:
    from jaxdd import (
        audit,
        data,
        engine,
        errors,
        evaluation,
        inner,
        kernels,
        losses,
        methods,
        models,
        quantize,
        report,
        selection,
        sets,
        synthetic,
        training,
        types,
        workflows,
    )
    from jaxdd.engine import run
    from jaxdd.errors import JaxddError
    from jaxdd.synthetic import DistilledDataset
    from jaxdd.types import Method, Network

# Names that live in a room; every other public name is a room.
_HOMES = {
    "DistilledDataset": "synthetic",
    "JaxddError": "errors",
    "Method": "types",
    "Network": "types",
    "run": "engine",
}


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module 'jaxdd' has no attribute {name!r}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"jaxdd.{_HOMES[name]}"), name)
    return importlib.import_module(f"jaxdd.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
