"""Presets that the configs of the decoupled family share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jaxdd import models
from jaxdd.cli.config import smoke

OTHERS = ("resnet8", "vgg11(width=16)")
"""Of a committee in `cpu`, beside a ConvNet."""
_CPU = {"ipc": 10, "model": "convnet(width=32, norm='batch')", "teacher_epochs": 10}
_SMOKE = {"ipc": 1, "model": "convnet(width=8, depth=2, norm='batch')", "teacher_epochs": 2}
_DATA = {
    "cifar10": {"name": "cifar10", "transform": "published", "validation": 0.0},
    "cifar100": {"name": "cifar100", "transform": "published", "validation": 0.0},
    "tiny_imagenet": {"name": "tiny_imagenet", "transform": "published", "validation": 0.0},
    "tiny_imagenet32": {"name": "tiny_imagenet32", "transform": "published", "validation": 0.0},
    "imagenet": {"name": "imagenet", "transform": "published", "validation": 0.0},
}
_TINY_TEACHER = {"teacher_epochs": 50, "teacher_learning_rate": 0.2}
_IMAGENET_TEACHER = {
    "model": "resnet18(form='large')",
    "teacher_epochs": 90,
    "teacher_batch": 256,
    "teacher_weight_decay": 1e-4,
    "teacher_augmentation": "resized-crop",
}
_STEPS = "decay_steps"


def presets(
    published: Mapping[str, Mapping[str, Any]],
    *,
    ipc: Mapping[str, Iterable[int]],
    protocol: str = "sre2l",
    protocols: Mapping[str, str] | None = None,
    cpu: Mapping[str, Any] | None = None,
    tiny: Mapping[str, Any] | None = None,
    steps: Mapping[str, int] | None = None,
) -> dict[str, dict[str, Any]]:
    """`cpu` (CIFAR-10, a ConvNet of width 32, 500 steps a block), `tiny_imagenet32` (200 classes, one image of each),
    those of the authors as DATA_IPC, and `smoke`.

    Args:
      published: the authors' hyper-parameters by data, where they are not the method's defaults.
      ipc: of these, images per class.
      protocol: networks are trained by it.
      protocols: by data, where they are trained by another one.
      cpu, tiny: hyper-parameters of the method's own in `cpu`, and in `smoke`.
      steps: updates by data, "cpu", "smoke" and "tiny_imagenet32" too, of a method that learns nothing; of all others
        `decay_steps` says.
    """
    cpu, tiny = dict(cpu or {}), dict(tiny or {})

    def one(data: Mapping[str, Any], method: Mapping[str, Any], name: str, networks: int = 5) -> dict[str, Any]:
        updates = (steps or {}).get(name, method.get(_STEPS, 0))
        return {
            "method": dict(method),
            "data": dict(data),
            "run": {"steps": updates},
            "evaluation": {"protocol": (protocols or {}).get(name, protocol), "networks": networks},
        }

    few, small = ({_STEPS: count} if steps is None else {} for count in (500, 6))
    found = {
        "cpu": one({"name": "cifar10"}, {**_CPU, **few, **cpu}, "cpu", 3),
        "tiny_imagenet32": one(
            _DATA["tiny_imagenet32"], {**_CPU, "ipc": 1, **few, **cpu} | {"ipc": 1}, "tiny_imagenet32", 3
        ),
    }
    for data, numbers in ipc.items():
        of_teacher = {"tiny_imagenet": _TINY_TEACHER, "imagenet": _IMAGENET_TEACHER}.get(data, {})
        for number in numbers:
            fields = {
                "ipc": number,
                **of_teacher,
                **({_STEPS: 1000} if steps is None else {}),
                **published.get(data, {}),
            }
            if data == "imagenet" and "others" in fields:
                fields["others"] = tuple(models.with_options(name, form="large") for name in fields["others"])
            found[f"{data}_{number}"] = one(_DATA[data], fields, data)
    updates = (steps or {}).get("smoke", 6)
    return {**found, "smoke": smoke(updates, **{**_SMOKE, **small, **tiny})}
