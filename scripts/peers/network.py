"""A ConvNet-3 and its gradient."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from peers.layout import DEPTH, Theta


def embed(theta: Theta, x: Tensor) -> Tensor:
    """The features of a ConvNet-3 with affine instance normalisation, as all PyTorch code of the field writes it."""
    for i in range(DEPTH):
        weight = theta[f"conv_{i}/kernel"]
        x = F.conv2d(x, weight, theta[f"conv_{i}/bias"], padding=3 if i == 0 and x.shape[1] == 1 else 1)
        x = F.group_norm(x, len(weight), theta[f"norm_{i}/scale"], theta[f"norm_{i}/bias"], eps=1e-5)
        x = F.avg_pool2d(F.relu(x), 2)
    return x.flatten(1)


def convnet(theta: Theta, x: Tensor) -> Tensor:
    return F.linear(embed(theta, x), theta["head/kernel"], theta["head/bias"])


def gradient(theta: Theta, images: Tensor, labels: Tensor, create_graph: bool) -> Theta:
    """Of the cross-entropy in the weights."""
    loss = F.cross_entropy(convnet(theta, images), labels)
    return dict(zip(theta, torch.autograd.grad(loss, list(theta.values()), create_graph=create_graph), strict=True))
