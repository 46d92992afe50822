"""Presets that the configs of the trajectory family share."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from jaxdd.cli.config import smoke

_CPU = {
    "ipc": 10,
    "model": "convnet(width=32)",
    "experts": 5,
    "expert_epochs": 8,
    "max_start": 5,
    "span": 1,
    "steps": 15,
    "learning_rate": 30.0,
    "inner_learning_rate": 0.05,
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
_LATE = {"min_start": 40, "max_start": 60, "first_max_start": None, "batch": 1000, "learning_rate": 50.0}
_WIDE = {"learning_rate": 1000.0, "label_learning_rate": 10.0, "batch": 1000}  # of CIFAR-100
_TINY = {"steps": 40, "label_learning_rate": 10.0, "rate_learning_rate": 1e-4, "first_max_start": None}

ALIGNED: Mapping[str, Mapping[str, Any]] = {
    "cifar10_1": {
        "max_start": 4,
        "first_max_start": None,
        "batch": 10,
        "rate_learning_rate": 1e-7,
        "label_learning_rate": 5.0,
        "threshold": 1.1,
    },
    "cifar10_10": {},
    "cifar10_50": {"max_start": 40, "first_max_start": 20, "growth": 2000, "batch": 500, "learning_rate": 1000.0},
    "cifar10_500": {**_LATE, "steps": 40, "label_learning_rate": 10.0},
    "cifar10_1000": {**_LATE, "steps": 100, "label_learning_rate": 10.0},
    "cifar100_1": {**_WIDE, "steps": 40, "span": 3},
    "cifar100_10": {**_WIDE, "max_start": 50, "first_max_start": 30, "growth": 2000},
    "cifar100_50": {**_WIDE, "min_start": 20, "max_start": 70, "first_max_start": None},
    "cifar100_100": {**_WIDE, "min_start": 30, "max_start": 70, "first_max_start": None, "learning_rate": 50.0},
    "tiny_imagenet_1": {**_TINY, "first_max_start": 15, "growth": 2000, "batch": 1000, "learning_rate": 1e4},
    "tiny_imagenet_10": {**_TINY, "min_start": 10, "max_start": 50, "batch": 500},
    "tiny_imagenet_50": {**_TINY, "steps": 20, "min_start": 40, "max_start": 70, "batch": 1000},
}
"""DATM's settings by data and images per class, where they differ from its defaults; PAD's are these and its own."""


def presets(
    published: Mapping[str, Any], cpu: Mapping[str, Any] | None = None, tiny: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """`cpu` (Fashion-MNIST, few experts of few epochs, half an hour on two cores), those of the authors, and `smoke`.

    Args:
      published: by name, see `of_paper`.
      cpu, tiny: hyper-parameters of the method's own in `cpu` and in `smoke`.
    """
    small = {
        "method": _CPU | dict(cpu or {}),
        "data": {"name": "fashion_mnist"},
        "run": {"steps": 600},
        "evaluation": {"protocol": "dc", "networks": 3},
    }
    return {"cpu": small, **published, "smoke": smoke(5, **_SMOKE | dict(tiny or {}))}


def of_paper(
    updates: int, rows: Mapping[str, Mapping[str, Any]], *, unwhitened: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """The authors' settings: all training data, whitened, the protocol "dsa", by the name DATA_IPC.

    The 0.1 of their whitening is absolute: here it is a share of the mean eigenvalue, some 1.54 of CIFAR-10. Of other
    data it was not measured: they have the same share.

    Args:
      updates: of every run.
      rows: hyper-parameters that are not the method's defaults, by name.
      unwhitened: the names of those that are only standardised.
    """
    found = {}
    for name, fields in rows.items():
        data, ipc = name.rsplit("_", 1)
        white = {} if name in unwhitened else {"zca_ridge": 0.065}
        deep = {"model": "convnet(depth=4)"} if data == "tiny_imagenet" else {}
        found[name] = {
            "method": {"ipc": int(ipc), **deep, **fields},
            "data": {"name": data, "transform": "published" + "+zca" * bool(white), **white, "validation": 0.0},
            "run": {"steps": updates},
            "evaluation": {"protocol": "dsa"},
        }
    return found
