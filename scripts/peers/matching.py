"""Updates of the matching family, the training of its networks, and their test."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from peers.layout import Arrays, Results, Theta, from_jaxdd, images_from_jaxdd, images_to_jaxdd, kernel_to_jaxdd
from peers.network import convnet, embed, gradient


def flipped(images: Tensor, draw: Tensor) -> Tensor:
    """Some of the images, or all, from left to right: the cheapest of the siamese augmentations."""
    return torch.where(draw[:, None, None, None] < 0.5, images.flip(3), images)


def row_distance(ours: Theta, target: Theta) -> Tensor:
    """DC's: 1 - cosine of each output's weights, summed; biases and norms are left out."""
    total = torch.zeros(())
    for name, theirs in target.items():
        if theirs.ndim > 1:
            a, b = ours[name].flatten(1), theirs.flatten(1)
            total = total + (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)).sum()
    return total


def by_classes(matched: Callable[[Theta, Tensor, Tensor, int], Tensor], arrays: Arrays) -> Callable[[], Results]:
    """An update of the images by a loss that is the sum over classes of `matched(theta, real, synthetic, label)`."""
    theta = from_jaxdd(arrays)
    start, real_images = images_from_jaxdd(arrays["images"]), images_from_jaxdd(arrays["real_images"])
    rate, momentum, flips, classes = float(arrays["rate"]), float(arrays["momentum"]), bool(arrays["flips"]), 10

    def run() -> Results:
        images = start.clone().requires_grad_()
        optimizer = torch.optim.SGD([images], rate, momentum)
        loss = torch.zeros(())
        for label, (real, own) in enumerate(zip(real_images.chunk(classes), images.chunk(classes), strict=True)):
            if flips:
                draw = torch.rand(1)
                real, own = flipped(real, draw), flipped(own, draw)
            loss = loss + matched(theta, real, own, label)
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach(), "gradient": images_to_jaxdd(images.grad)}

    return run


def dm(theta: Theta, real: Tensor, own: Tensor, label: int) -> Tensor:
    return ((embed(theta, real).mean(0) - embed(theta, own).mean(0)) ** 2).sum()


def dc(theta: Theta, real: Tensor, own: Tensor, label: int) -> Tensor:
    theta = {name: value.detach().requires_grad_() for name, value in theta.items()}
    target = gradient(theta, real, torch.full((len(real),), label), create_graph=False)
    return row_distance(gradient(theta, own, torch.full((len(own),), label), create_graph=True), target)


def train(arrays: Arrays) -> Callable[[], Results]:
    """Steps of SGD on all images."""
    theta0, images = from_jaxdd(arrays), images_from_jaxdd(arrays["images"])
    labels = torch.from_numpy(arrays["labels"]).long()
    options = {"lr": "rate", "momentum": "momentum", "weight_decay": "decay"}

    def run() -> Results:
        theta = {name: value.clone().requires_grad_() for name, value in theta0.items()}
        optimizer = torch.optim.SGD(theta.values(), **{ours: float(arrays[name]) for ours, name in options.items()})
        for _ in range(int(arrays["steps"])):
            batch = flipped(images, torch.rand(len(images))) if arrays["flips"] else images
            optimizer.zero_grad()
            F.cross_entropy(convnet(theta, batch), labels).backward()
            optimizer.step()
        return {"moved": kernel_to_jaxdd((theta["conv_0/kernel"] - theta0["conv_0/kernel"]).detach())}

    return run


def test_pass(arrays: Arrays, batch: int = 256) -> Callable[[], Results]:
    theta, images = from_jaxdd(arrays), images_from_jaxdd(arrays["real_images"])
    labels = torch.from_numpy(arrays["real_labels"]).long()

    @torch.no_grad()
    def run() -> Results:
        right = sum(
            (convnet(theta, x).argmax(1) == y).sum()
            for x, y in zip(images.split(batch), labels.split(batch), strict=True)
        )
        return {"accuracy": right[None].double() / len(labels)}

    return run
