"""Trajectory matching: a step of an expert, gradients through a student's steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from peers.layout import Arrays, Theta, from_jaxdd, images_from_jaxdd
from peers.network import convnet, gradient


def expert_step(arrays: Arrays) -> Callable[[], dict[str, Tensor]]:
    """Plain gradient descent on a batch of real images."""
    theta, rate = from_jaxdd(arrays), float(arrays["rate"])
    images, labels = images_from_jaxdd(arrays["images"]), torch.from_numpy(arrays["labels"]).long()
    theta = {name: value.requires_grad_() for name, value in theta.items()}

    def run() -> dict[str, Tensor]:
        loss = F.cross_entropy(convnet(theta, images), labels)
        grads = torch.autograd.grad(loss, list(theta.values()))
        with torch.no_grad():
            moved = [value - rate * grad for value, grad in zip(theta.values(), grads, strict=True)]
        return {"loss": loss.detach(), "moved": moved[0]}

    return run


def mtt(arrays: Arrays) -> Callable[[], dict[str, Tensor]]:
    """All steps in one graph, as in MTT."""
    start, goal, images, labels, rate, steps = _given(arrays)

    def run() -> dict[str, Tensor]:
        theta = {name: value.detach().requires_grad_() for name, value in start.items()}
        for _ in range(steps):
            grads = gradient(theta, images, labels, create_graph=True)
            theta = {name: value - rate * grads[name] for name, value in theta.items()}
        loss = _apart(theta, goal) / _apart(start, goal)
        of_images, of_rate = torch.autograd.grad(loss, (images, rate))
        return {"loss": loss.detach(), "gradient": of_images.permute(0, 2, 3, 1), "rate": of_rate}

    return run


def tesla(arrays: Arrays) -> Callable[[], dict[str, Tensor]]:
    """Two passes, as in TESLA: where the steps lead, and one graph of each with its parameters as constants."""
    start, goal, images, labels, rate, steps = _given(arrays)

    def run() -> dict[str, Tensor]:
        theta, places, total = start, [], {name: torch.zeros_like(value) for name, value in start.items()}
        for _ in range(steps):
            theta = {name: value.detach().requires_grad_() for name, value in theta.items()}
            places.append(theta)
            grads = gradient(theta, images.detach(), labels, create_graph=False)
            with torch.no_grad():
                total = {name: value + grads[name] for name, value in total.items()}
                theta = {name: value - rate * grads[name] for name, value in theta.items()}
        moved = _apart(start, goal)
        along = {name: 2 * (theta[name] - goal[name]).detach() / moved for name in theta}
        of_images = torch.zeros_like(images)
        for place in places:
            grads = gradient(place, images, labels, create_graph=True)
            outputs = [-rate.detach() * along[name] for name in grads]
            of_images += torch.autograd.grad(list(grads.values()), images, grad_outputs=outputs)[0]
        of_rate = -sum((along[name] * total[name]).sum() for name in total)
        loss = _apart(theta, goal) / moved
        return {"loss": loss.detach(), "gradient": of_images.permute(0, 2, 3, 1), "rate": torch.as_tensor(of_rate)}

    return run


def _given(arrays: Arrays) -> tuple[Theta, Theta, Tensor, Tensor, Tensor, int]:
    goal = {f"theta/{name[5:]}": value for name, value in arrays.items() if name.startswith("goal/")}
    images = images_from_jaxdd(arrays["images"]).requires_grad_()
    labels = torch.from_numpy(arrays["labels"]).long()
    rate = torch.tensor(float(arrays["rate"]), requires_grad=True)
    return from_jaxdd(arrays), from_jaxdd(goal), images, labels, rate, int(arrays["steps"])


def _apart(a: Theta, b: Theta) -> Tensor:
    return torch.stack([((a[name] - b[name]) ** 2).sum() for name in a]).sum()
