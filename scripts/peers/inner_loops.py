"""Gradients through a network's training."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from peers.layout import Arrays, Theta, from_jaxdd, images_from_jaxdd
from peers.network import convnet, gradient


def meta_gradient(arrays: Arrays) -> Callable[[], dict[str, Tensor]]:
    """Gradient in the images and the learning rates of the real loss after plain SGD steps, all in one graph."""
    theta0 = from_jaxdd(arrays)
    images = images_from_jaxdd(arrays["images"]).requires_grad_()
    rates = torch.from_numpy(arrays["rates"]).requires_grad_()
    labels = torch.from_numpy(arrays["labels"]).long()
    real_images, real_labels = images_from_jaxdd(arrays["real_images"]), torch.from_numpy(arrays["real_labels"]).long()

    def run() -> dict[str, Tensor]:
        theta = {name: value.detach().requires_grad_() for name, value in theta0.items()}
        for rate in rates:
            grads = gradient(theta, images, labels, create_graph=True)
            theta = {name: value - rate * grads[name] for name, value in theta.items()}
        loss = F.cross_entropy(convnet(theta, real_images), real_labels)
        of_images, of_rates = torch.autograd.grad(loss, (images, rates))
        return {"loss": loss.detach(), "gradient": of_images.permute(0, 2, 3, 1), "rates": of_rates}

    return run


def rat_bptt(arrays: Arrays) -> Callable[[], dict[str, Tensor]]:
    """One outer step of RaT-BPTT (Feng et al. 2024): Adam without gradient, a window with, Adam on the images."""
    theta0, prefix, window = from_jaxdd(arrays), int(arrays["prefix"]), int(arrays["window"])
    start = images_from_jaxdd(arrays["images"])
    labels = torch.from_numpy(arrays["labels"]).long()
    real_images, real_labels = images_from_jaxdd(arrays["real_images"]), torch.from_numpy(arrays["real_labels"]).long()
    rate, outer_rate = float(arrays["rate"]), float(arrays["outer_rate"])
    b1, b2, eps, eps_root = 0.9, 0.999, 1e-8, 1e-16

    def move(theta: Theta, mean: Theta, square: Theta, grads: Theta, t: int) -> tuple[Theta, Theta, Theta]:
        mean = {n: b1 * m + (1 - b1) * grads[n] for n, m in mean.items()}
        square = {n: b2 * s + (1 - b2) * grads[n] * grads[n] for n, s in square.items()}
        c1, c2 = 1 - b1 ** (t + 1), 1 - b2 ** (t + 1)
        moved = {n: p - rate * (mean[n] / c1) / ((square[n] / c2 + eps_root).sqrt() + eps) for n, p in theta.items()}
        return moved, mean, square

    def run() -> dict[str, Tensor]:
        images = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([images], outer_rate)
        theta = theta0
        mean, square = ({n: torch.zeros_like(p) for n, p in theta.items()} for _ in range(2))
        for t in range(prefix):
            theta = {n: p.detach().requires_grad_() for n, p in theta.items()}
            grads = gradient(theta, images.detach(), labels, create_graph=False)
            with torch.no_grad():
                theta, mean, square = move(theta, mean, square, grads, t)
        theta = {n: p.detach().requires_grad_() for n, p in theta.items()}
        for t in range(prefix, prefix + window):
            theta, mean, square = move(theta, mean, square, gradient(theta, images, labels, create_graph=True), t)
        loss = F.cross_entropy(convnet(theta, real_images), real_labels)
        (images.grad,) = torch.autograd.grad(loss, (images,))
        optimizer.step()
        moved = images.detach().permute(0, 2, 3, 1)
        return {"loss": loss.detach(), "gradient": images.grad.permute(0, 2, 3, 1), "images": moved}

    return run
