#!/usr/bin/env python3
"""What `benchmark.py` compares with: the same arithmetic in plain PyTorch, timed in a process of its own.

    python scripts/peers.py meta_gradient INPUT.npz OUTPUT.npz --repeats 10

INPUT holds the arrays of the step as jaxdd has them; OUTPUT gets its results, in jaxdd's layout, to be compared. Where
PyTorch has several ways to compute a convolution, its fastest is taken. One line of JSON on standard output says what
it took. Needs PyTorch, nothing of jaxdd and no JAX, so that no other library's threads are about.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before PyTorch: waiting threads are not to count as work

import numpy as np
import torch
import torch.nn.functional as F
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
            width = len(arrays[f"theta/conv_{DEPTH - 1}/bias"])
            side = round((len(value) // width) ** 0.5)
            value = value.reshape(side, side, width, -1).permute(3, 2, 0, 1).flatten(1)
        theta[name] = value.contiguous()
    return theta


def images_from_jaxdd(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images.copy()).permute(0, 3, 1, 2).contiguous()


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


def peak_bytes() -> dict[str, int]:
    """Of the whole process, PyTorch itself included; on Linux only. (`getrusage` counts what the parent had, too.)"""
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        return {}
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return {"peer_peak_bytes": int(fields["VmHWM"].split()[0]) * 1024}


LAYOUTS = (torch.contiguous_format, torch.channels_last)
Convolution = tuple[Tensor, Tensor, Tensor]  # images, kernel, gradient in the maps


def fastest(ways: Iterator[Callable[[], Results]]) -> Callable[[], Results]:
    def seconds(run: Callable[[], Results]) -> float:
        run()
        start = time.process_time()
        for _ in range(3):
            run()
        return time.process_time() - start

    return min(ways, key=seconds)


def operands_from_jaxdd(arrays: Arrays, layout: torch.memory_format) -> Convolution:
    images, maps = (images_from_jaxdd(arrays[name]) for name in ("images", "to_maps"))
    kernel = torch.from_numpy(arrays["kernel"].copy()).permute(3, 2, 0, 1)
    return tuple(operand.contiguous(memory_format=layout) for operand in (images, kernel, maps))


def images_to_jaxdd(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1)


def kernel_to_jaxdd(kernel: Tensor) -> Tensor:
    return kernel.permute(2, 3, 1, 0)


def backward(operands: Convolution, *, images: bool = False, kernel: bool = False, groups: int = 1) -> list[Tensor]:
    """The gradients that are wanted and no others, as autograd computes them."""
    x, w, g = operands
    one, none = (1, 1), (0, 0)
    wanted = (images, kernel, False)
    return torch.ops.aten.convolution_backward(g, x, w, None, one, one, one, False, none, groups, wanted)


def conv_fwd(operands: Convolution) -> Results:
    return {"maps": images_to_jaxdd(F.conv2d(*operands[:2], padding=1))}


def conv_dx(operands: Convolution) -> Results:
    return {"to_images": images_to_jaxdd(backward(operands, images=True)[0])}


def conv_dw(operands: Convolution) -> Results:
    return {"to_kernel": kernel_to_jaxdd(backward(operands, kernel=True)[1])}


def conv_dw_in_scan(operands: Convolution, steps: int = 5) -> Results:
    x, w, g = operands
    x, g, total = x.clone(), g.clone(), torch.zeros_like(w)
    for _ in range(steps):
        weights = backward((x, w, g), kernel=True)[1]
        total += weights
        for changed in (x, g):
            changed[0, 0, 0, 0] += 1e-6 * weights[0, 0, 0, 0]
    return {"to_kernel": kernel_to_jaxdd(total)}


def in_each_layout(operation: Callable[[Convolution], Results], arrays: Arrays) -> Callable[[], Results]:
    return fastest(functools.partial(operation, operands_from_jaxdd(arrays, layout)) for layout in LAYOUTS)


def conv_fwd_bf16(arrays: Arrays) -> Callable[[], Results]:
    """From float32 to float32: by autocast, or by oneDNN's own switch."""

    def by_autocast(operands: Convolution) -> Results:
        with torch.autocast("cpu", torch.bfloat16):
            maps = conv_fwd(operands)["maps"]
        return {"maps": maps.float()}

    def by_switch(operands: Convolution) -> Results:
        setting = torch.backends.mkldnn.conv
        before, setting.fp32_precision = setting.fp32_precision, "bf16"
        try:
            return conv_fwd(operands)
        finally:
            setting.fp32_precision = before

    ways = [by_autocast, *([by_switch] if hasattr(torch.backends.mkldnn, "conv") else [])]
    return fastest(
        functools.partial(way, operands_from_jaxdd(arrays, layout)) for way, layout in itertools.product(ways, LAYOUTS)
    )


def conv_grouped(arrays: Arrays) -> Callable[[], Results]:
    """Forward and both gradients of several networks: as one grouped convolution, or one network after the other."""
    count = len(arrays["kernel"])
    each = [{name: array[i] for name, array in arrays.items()} for i in range(count)]

    def one_after_the_other(networks: list[Convolution]) -> Results:
        all_three = [{**conv_fwd(at), **conv_dx(at), **conv_dw(at)} for at in networks]
        return {name: tuple(result[name] for result in all_three) for name in all_three[0]}

    def grouped(operands: Convolution) -> Results:
        maps = F.conv2d(*operands[:2], padding=1, groups=count)
        to_images, to_kernel, _ = backward(operands, images=True, kernel=True, groups=count)
        return {
            "maps": tuple(map(images_to_jaxdd, maps.chunk(count, 1))),
            "to_images": tuple(map(images_to_jaxdd, to_images.chunk(count, 1))),
            "to_kernel": tuple(map(kernel_to_jaxdd, to_kernel.chunk(count, 0))),
        }

    def ways() -> Iterator[Callable[[], Results]]:
        for layout in LAYOUTS:
            networks = [operands_from_jaxdd(network, layout) for network in each]
            yield functools.partial(one_after_the_other, networks)
            images, kernels, maps = zip(*networks, strict=True)
            side_by_side = (torch.cat(images, 1), torch.cat(kernels, 0), torch.cat(maps, 1))
            yield functools.partial(grouped, tuple(a.contiguous(memory_format=layout) for a in side_by_side))

    return fastest(ways())


TASKS = {
    **{f.__name__: functools.partial(in_each_layout, f) for f in (conv_fwd, conv_dx, conv_dw, conv_dw_in_scan)},
    "conv_fwd_bf16": conv_fwd_bf16,
    "conv_grouped_4": conv_grouped,
    "dc": functools.partial(by_classes, dc),
    "dm": functools.partial(by_classes, dm),
    "meta_gradient": meta_gradient,
    "rat_bptt": rat_bptt,
    "test_pass": test_pass,
    "train": train,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("input", help=".npz")
    parser.add_argument("output", help=".npz")
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    with np.load(options.input) as arrays:
        run = TASKS[options.task](dict(arrays))
    results = run()  # and it is warm now
    np.savez(
        options.output,
        **{name: np.stack(value) if isinstance(value, tuple) else value.numpy() for name, value in results.items()},
    )
    walls, cpus = [], []
    for _ in range(options.repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    took = {"peer_seconds": statistics.median(walls), "peer_cpu_seconds": statistics.median(cpus)}
    print(json.dumps(took | peak_bytes()))


if __name__ == "__main__":
    main()
