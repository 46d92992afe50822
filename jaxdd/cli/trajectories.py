"""Presets that the configs of the trajectory family share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxdd.cli.config import smoke

_CPU = {
    "ipc": 10,
    "model": "convnet(width=32)",
    "experts": 4,
    "expert_epochs": 4,
    "max_start": 2,
    "steps": 10,
    "inner_learning_rate": 0.01,
}
_SMOKE = {
    "ipc": 1,
    "model": "convnet(width=8, depth=2)",
    "experts": 2,
    "expert_epochs": 2,
    "max_start": 1,
    "steps": 3,
    "inner_learning_rate": 0.02,
}


def presets(
    published: Mapping[str, Any], cpu: Mapping[str, Any] | None = None, tiny: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """`cpu` (Fashion-MNIST, few experts of few epochs), those of the authors, and `smoke`.

    Args:
      published: by name, see `whitened`.
      cpu, tiny: hyper-parameters of the method's own in `cpu` and in `smoke`.
    """
    small = {
        "method": _CPU | dict(cpu or {}),
        "data": {"name": "fashion_mnist"},
        "run": {"steps": 300},
        "evaluation": {"protocol": "dc", "networks": 3},
    }
    return {"cpu": small, **published, "smoke": smoke(5, **_SMOKE | dict(tiny or {}))}


def whitened(updates: int, /, data: str = "cifar10", **method: Any) -> dict[str, Any]:
    """The authors' settings: all training data, whitened, the protocol "dsa".

    The 0.1 of their whitening is absolute: here it is a share of the mean eigenvalue, some 1.54 of CIFAR-10.

    Args:
      method: hyper-parameters that are not the method's defaults.
    """
    return {
        "method": method,
        "data": {"name": data, "transform": "published+zca", "zca_ridge": 0.065, "validation": 0.0},
        "run": {"steps": updates},
        "evaluation": {"protocol": "dsa"},
    }
