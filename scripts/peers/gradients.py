"""Gradients of single examples."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vmap

from peers.layout import Arrays, Results, Theta, from_jaxdd, images_from_jaxdd
from peers.network import convnet


def grand(arrays: Arrays, block: int = 32) -> Callable[[], Results]:
    """The length of each example's gradient in all weights."""
    theta, images = from_jaxdd(arrays), images_from_jaxdd(arrays["images"])
    labels = torch.from_numpy(arrays["labels"].copy()).long()

    def loss(theta: Theta, image: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(convnet(theta, image[None]), label[None])

    of_each = vmap(grad(loss), in_dims=(None, 0, 0))

    def run() -> Results:
        lengths = []
        for x, y in zip(images.split(block), labels.split(block), strict=True):
            squares = [g.flatten(1).square().sum(1) for g in of_each(theta, x, y).values()]
            lengths.append(torch.stack(squares).sum(0).sqrt())
        return {"scores": torch.cat(lengths)}

    return run
