"""Networks of the zoo as layers of PyTorch, written as code; named as their parameters are in jaxdd."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxdd import models
from jaxdd.errors import JaxddError

_NORMS = {
    "instance": "nn.GroupNorm({0}, {0})",
    "batch": "nn.BatchNorm2d({0})",
    "group": "nn.GroupNorm(4, {0})",
}
_WEIGHTS = {
    "xavier": ("nn.init.xavier_normal_(layer.weight)", "nn.init.zeros_(layer.bias)"),
    "he": ('nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")', "nn.init.normal_(layer.bias, std=0.1)"),
    "lecun": (
        "std = 1.1368 * layer.weight[0].numel() ** -0.5",
        "nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)",
        "nn.init.zeros_(layer.bias)",
    ),
}


class Layers(NamedTuple):
    """A network as code.

    Attributes:
      lines: of layers, `name=nn.Layer(..)`, in their order; the last is the head.
      initialise: statements for a `layer` that has weights; () where PyTorch's own are meant.
      instead_of: the model that this is not; "" where it is the one that was asked for.
    """

    lines: tuple[str, ...]
    initialise: tuple[str, ...]
    instead_of: str


def layers(model: str, image_shape: tuple[int, int, int], outputs: int) -> Layers:
    """A model by its name; of one that is not written here a ConvNet instead."""
    makers = {"convnet": _convnet, "mlp": _mlp, "lenet": _lenet}
    try:
        family, options = models.options_of(model)
    except JaxddError:  # a name from outside, of nobody knows what
        family, options = "", {}
    instead = "" if family in makers else model
    if instead:
        family, options = models.options_of(f"convnet(depth={_deepest(image_shape)})")
    lines = makers[family](image_shape, outputs, options)
    return Layers(tuple(lines), _WEIGHTS.get(options.get("initializer", "torch"), ()), instead)


def _convnet(shape: tuple[int, int, int], outputs: int, options: Mapping[str, Any]) -> list[str]:
    height, width, channels = shape
    lines = []
    for k in range(options["depth"]):
        pad = 3 if k == 0 and shape[2] == 1 else 1
        norm = _NORMS.get(options["norm"], "").format(options["width"])
        lines += [
            f"conv_{k}=nn.Conv2d({channels}, {options['width']}, 3, padding={pad})",
            *([f"norm_{k}={norm}"] if norm else []),
            f"relu_{k}=nn.ReLU()",
            f"pool_{k}=nn.AvgPool2d(2)",
        ]
        channels = options["width"]
        height, width = ((extent + 2 * pad - 2) // 2 for extent in (height, width))
    return [*lines, "flatten=Flatten()", f"head=nn.Linear({height * width * channels}, {outputs})"]


def _mlp(shape: tuple[int, int, int], outputs: int, options: Mapping[str, Any]) -> list[str]:
    return ["flatten=Flatten()", *_perceptron(math.prod(shape), [options["width"]] * options["depth"], outputs)]


def _lenet(shape: tuple[int, int, int], outputs: int, options: Mapping[str, Any]) -> list[str]:
    pad = 2 if shape[0] == 28 else 0
    height, width = (((extent + 2 * pad - 4) // 2 - 4) // 2 for extent in shape[:2])
    return [
        f"conv_0=nn.Conv2d({shape[2]}, 6, 5, padding={pad})",
        "relu_0=nn.ReLU()",
        "pool_0=nn.MaxPool2d(2)",
        "conv_1=nn.Conv2d(6, 16, 5)",
        "relu_1=nn.ReLU()",
        "pool_1=nn.MaxPool2d(2)",
        "flatten=Flatten()",
        *_perceptron(16 * height * width, [120, 84], outputs, first=2),
    ]


def _perceptron(inputs: int, widths: list[int], outputs: int, first: int = 0) -> list[str]:
    lines = []
    for k, units in enumerate(widths):
        lines += [f"dense_{k}=nn.Linear({inputs}, {units})", f"relu_{first + k}=nn.ReLU()"]
        inputs = units
    return [*lines, f"head=nn.Linear({inputs}, {outputs})"]


def _deepest(shape: tuple[int, int, int]) -> int:
    """Blocks of a ConvNet that such images allow, three at most."""
    return max(1, min(3, int(math.log2(min(shape[:2])))))
