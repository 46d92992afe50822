"""The three operations of a convolution, alone, in a loop, for several networks."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from measuring import Row, Suite, convolution_of, timed

from beside_pytorch.inner_loops import meta_gradient
from beside_pytorch.peer import compared, peer
from jaxdd import models
from jaxdd.types import Array

Arrays = dict[str, Array]
Convolve = Callable[..., Array]


def convolutions(repeats: int) -> Suite:
    """The three operations of a convolution, alone, in a loop, for several networks, and in a whole meta-gradient."""
    few = max(1, repeats // 4)
    for name, operation, times, options in (
        ("conv_fwd", conv_fwd, repeats, {}),
        ("conv_dx", conv_dx, repeats, {}),
        ("conv_dw", conv_dw, repeats, {}),
        ("conv_dw_in_scan", conv_dw_in_scan, few, {"products": 5}),
        ("conv_grouped_4", conv_grouped, repeats, {"images": (4, 10, 16, 16, 128), "products": 3}),
        ("conv_fwd_bf16", conv_fwd, repeats, {"precision": "bfloat16", "tolerance": 1e-2}),
    ):
        yield name, functools.partial(convolution, name, operation, times, **options)
    yield "meta_gradient_w128_t10", functools.partial(meta_gradient, 128, 10, few)


def convolution(
    name: str,
    operation: Callable[[Arrays, Convolve], Arrays],
    repeats: int,
    *,
    images: tuple[int, ...] = (64, 32, 32, 128),
    products: int = 1,
    precision: str | None = None,
    tolerance: float = 1e-5,
) -> Row:
    """A convolution 3x3 with as many outputs as channels.

    Args:
      images: their shape, perhaps with networks in front.
      products: how many of its three operations are computed.
      tolerance: of the results' relative difference from PyTorch's, both in this precision.
    """
    *networks, n, height, width, channels = images
    key_x, key_w, key_g = jax.random.split(jax.random.key(0), 3)
    at = {
        "images": jax.random.normal(key_x, images),
        "kernel": jax.random.normal(key_w, (*networks, 3, 3, channels, channels)) / (9 * channels) ** 0.5,
        "to_maps": jax.random.normal(key_g, images),
    }
    convolve = functools.partial(models.conv2d, precision=precision)
    step = jax.jit(functools.partial(operation, convolve=convolve)).lower(at).compile()
    seconds, cpu = timed(step, at, repeats=repeats)
    took, theirs = peer(name, {}, at, repeats)
    work = products * 2 * int(np.prod(networks)) * n * height * width * 9 * channels**2
    row = {
        "name": name,
        "images": "x".join(map(str, images)),
        "convolution": convolution_of(step),
        "seconds": seconds,
        "cpu_seconds": cpu,
        **took,
        "gflop_per_cpu_second": work / cpu / 1e9,
    }
    if took:
        row["peer_gflop_per_cpu_second"] = work / took["peer_cpu_seconds"] / 1e9
    return compared(row, step(at), theirs, dict.fromkeys(theirs, tolerance))


def conv_fwd(at: Arrays, convolve: Convolve) -> Arrays:
    return {"maps": convolve(at["images"], at["kernel"])}


def conv_dx(at: Arrays, convolve: Convolve) -> Arrays:
    return {"to_images": jax.vjp(lambda x: convolve(x, at["kernel"]), at["images"])[1](at["to_maps"])[0]}


def conv_dw(at: Arrays, convolve: Convolve) -> Arrays:
    return {"to_kernel": jax.vjp(lambda w: convolve(at["images"], w), at["kernel"])[1](at["to_maps"])[0]}


def conv_dw_in_scan(at: Arrays, convolve: Convolve, steps: int = 5) -> Arrays:
    """Both operands change with every gradient, and all of it is summed: nothing can leave the loop or be left out."""

    def step(carry: tuple[Arrays, Array], _: None):
        at, total = carry
        weights = conv_dw(at, convolve)["to_kernel"]
        changed = {name: at[name].at[0, 0, 0, 0].add(1e-6 * weights[0, 0, 0, 0]) for name in ("images", "to_maps")}
        return ({**at, **changed}, total + weights), None

    return {"to_kernel": jax.lax.scan(step, (at, jnp.zeros_like(at["kernel"])), None, length=steps)[0][1]}


def conv_grouped(at: Arrays, convolve: Convolve) -> Arrays:
    """Forward and both gradients of several networks."""
    return jax.vmap(lambda at: conv_fwd(at, convolve) | conv_dx(at, convolve) | conv_dw(at, convolve))(at)
