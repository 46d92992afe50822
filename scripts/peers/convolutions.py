"""The three operations of a convolution, in PyTorch's fastest way."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from peers.layout import Arrays, Results, images_from_jaxdd, images_to_jaxdd, kernel_to_jaxdd

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
