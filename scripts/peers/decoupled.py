"""Decoupled distillation: a step of recovery, and one of a student that a teacher labels."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from peers.layout import Arrays, from_jaxdd, images_from_jaxdd

Norm = Callable[[str, Tensor], Tensor]


def recover(arrays: Arrays) -> Callable[[], dict[str, Tensor]]:
    """The gradient in images of cross-entropy and of the distances of statistics, as SRe2L's hooks take them."""
    theta, running = from_jaxdd(arrays), _running(arrays)
    images = images_from_jaxdd(arrays["images"]).requires_grad_()
    labels = torch.from_numpy(arrays["labels"]).long()

    def run() -> dict[str, Tensor]:
        distances: list[Tensor] = []

        def norm(name: str, x: Tensor) -> Tensor:
            mean, var = running[f"{name}/mean"], running[f"{name}/var"]
            channels = x.permute(1, 0, 2, 3).reshape(x.shape[1], -1)
            found = torch.norm(var - channels.var(1, unbiased=False), 2) + torch.norm(mean - x.mean([0, 2, 3]), 2)
            distances.append(found * (10.0 if not distances else 1.0))
            return F.batch_norm(x, mean, var, theta[f"{name}/scale"], theta[f"{name}/bias"], eps=1e-5)

        loss = F.cross_entropy(_logits(theta, images, norm), labels) + 0.01 * sum(distances)
        (gradient,) = torch.autograd.grad(loss, images)
        return {"loss": loss.detach(), "gradient": gradient.permute(0, 2, 3, 1)}

    return run


def student(arrays: Arrays) -> Callable[[], dict[str, Tensor]]:
    """A step of AdamW on what a teacher, of the same weights here, says of the images, at a temperature of 30."""
    theta, running = from_jaxdd(arrays), _running(arrays)
    taught = {name: value.clone().requires_grad_() for name, value in theta.items()}
    images = images_from_jaxdd(arrays["images"])
    optimizer = torch.optim.AdamW(list(taught.values()), lr=1e-9, weight_decay=0.01)

    def known(name: str, x: Tensor) -> Tensor:
        mean, var = running[f"{name}/mean"], running[f"{name}/var"]
        return F.batch_norm(x, mean, var, theta[f"{name}/scale"], theta[f"{name}/bias"], eps=1e-5)

    def by_batch(name: str, x: Tensor) -> Tensor:
        mean, var = running[f"{name}/mean"].clone(), running[f"{name}/var"].clone()
        return F.batch_norm(x, mean, var, taught[f"{name}/scale"], taught[f"{name}/bias"], training=True, eps=1e-5)

    def run() -> dict[str, Tensor]:
        with torch.no_grad():
            soft = F.softmax(_logits(theta, images, known) / 30, dim=1)
        optimizer.zero_grad()
        loss = F.kl_div(F.log_softmax(_logits(taught, images, by_batch) / 30, dim=1), soft, reduction="batchmean")
        loss.backward()
        gradient = taught["conv_1_0_0/kernel"].grad
        assert gradient is not None
        found = {"loss": loss.detach(), "gradient": gradient.permute(2, 3, 1, 0).clone()}
        optimizer.step()
        return found

    return run


def _running(arrays: Arrays) -> dict[str, Tensor]:
    names = [name for name in arrays if name.startswith("stats/")]
    return {name.removeprefix("stats/batch_stats/"): torch.from_numpy(arrays[name].copy()) for name in names}


def _logits(theta: dict[str, Tensor], x: Tensor, norm: Norm) -> Tensor:
    return _resnet(theta, x, norm) if "conv_stem/kernel" in theta else _convnet(theta, x, norm)


def _convnet(theta: dict[str, Tensor], x: Tensor, norm: Norm) -> Tensor:
    for i in range(3):
        x = F.conv2d(x, theta[f"conv_{i}/kernel"], theta[f"conv_{i}/bias"], padding=1)
        x = F.avg_pool2d(F.relu(norm(f"norm_{i}", x)), 2)
    return F.linear(x.flatten(1), theta["head/kernel"], theta["head/bias"])


def _resnet(theta: dict[str, Tensor], x: Tensor, norm: Norm) -> Tensor:
    def normed(name: str, x: Tensor, stride: int = 1) -> Tensor:
        kernel = theta[f"conv_{name}/kernel"]
        return norm(f"norm_{name}", F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2))

    x = F.relu(normed("stem", x))
    for stage in range(4):
        for block in range(2):
            name, stride = f"{stage}_{block}", 2 if stage and not block else 1
            out = normed(f"{name}_1", F.relu(normed(f"{name}_0", x, stride)))
            x = F.relu(out + (normed(f"{name}_around", x, stride) if f"conv_{name}_around/kernel" in theta else x))
    return F.linear(x.mean([2, 3]), theta["head/kernel"], theta["head/bias"])
