"""Weights, images and kernels from jaxdd's layout to PyTorch's and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

Arrays = Mapping[str, np.ndarray]
Theta = dict[str, Tensor]
Results = Mapping[str, "Tensor | tuple[Tensor, ...]"]
DEPTH = 3


def from_jaxdd(arrays: Arrays) -> Theta:
    """Weights by "layer/kind" to PyTorch's layout: kernels OIHW, a head that sees its map as (c, h, w)."""
    theta = {}
    for name in (n.removeprefix("theta/") for n in arrays if n.startswith("theta/")):
        value = torch.from_numpy(arrays[f"theta/{name}"].copy())
        if name.startswith("conv") and name.endswith("kernel"):
            value = value.permute(3, 2, 0, 1)
        elif name == "head/kernel":
            last = arrays.get(f"theta/conv_{DEPTH - 1}/bias")  # of a ConvNet; others have seen the mean of a map
            width = len(value) if last is None else len(last)
            side = round((len(value) // width) ** 0.5)
            value = value.reshape(side, side, width, -1).permute(3, 2, 0, 1).flatten(1)
        theta[name] = value.contiguous()
    return theta


def images_from_jaxdd(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images.copy()).permute(0, 3, 1, 2).contiguous()


def images_to_jaxdd(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1)


def kernel_to_jaxdd(kernel: Tensor) -> Tensor:
    return kernel.permute(2, 3, 1, 0)
