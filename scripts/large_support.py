#!/usr/bin/env python3
"""KIP with a support whose kernel no device holds: what each of them needs, and its losses beside one device's.

    python scripts/large_support.py memory --images 40000 --devices 1 8 [--block 500] [--targets 10000]
    python scripts/large_support.py losses --images 8000 --devices 1 8 [--steps 3] [--float64] [--ridge 1e-6]
    python scripts/large_support.py solve --images 1000 2000 4000 --devices 2 8
    python scripts/large_support.py labels --images 500 --targets 5000 --blocks 0 500 1000 2500

The devices are virtual ones of a CPU. `memory` compiles the engine's program of an update, of float32 and a
fully-connected kernel, and runs nothing: arguments, temporaries and the largest array of it, those of each device.
`losses` runs it on real images, with JAX_ENABLE_X64=1 in the environment all of it in float64. `solve` times the solve
and its gradient alone, in CPU-seconds of all devices: each factorises the kernel whole, or together with the others.
`labels` times Label Solve on one, by blocks of targets.
"""

from __future__ import annotations

import argparse
import functools
import math
import re
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measuring import SHAPES, timed

from jaxdd import data, engine, inner, kernels, losses, methods
from jaxdd.engine.chunk import compile_program
from jaxdd.engine.placement import make_mesh
from jaxdd.inner.networks import share_networks
from jaxdd.types import AT_ONCE, Execution, Labels, RealData, Recipe

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s64": 8, "u64": 8, "f64": 8}


def recipe(images: int, targets: int, **options: Any) -> Recipe:
    return methods.kip(ipc=images // 10, target_batch=targets, **options)


def memory(images: int, devices: int, block: int | None, targets: int, name: str) -> None:
    """As compiled; the real images are zeros, as they are stored."""
    count, shape, classes = SHAPES[name]
    zeros = RealData.of(jnp.zeros((count, *shape), jnp.uint8), Labels.index(np.arange(count) % classes, classes))
    method = engine.decoding(recipe(images, targets), as_floats)
    chosen, began = jax.devices()[:devices], time.perf_counter()
    chunk = compile_program(method, zeros, seed=0, devices=chosen, execution=Execution(block=block).over(AT_ONCE)).chunk
    needed, seconds = chunk.memory_analysis(), time.perf_counter() - began
    sizes = {
        found[0]: _BYTES.get(found[1], 4) * math.prod(int(size) for size in found[2].split(",") if size)
        for found in re.finditer(r"\b(\w+)\[([\d,]+)\]", chunk.as_text())
    }
    largest = max(sizes, key=sizes.__getitem__)
    parts = needed.argument_size_in_bytes, needed.temp_size_in_bytes
    print(
        f"{images} images, {devices} devices: arguments {parts[0] / 2**20:,.0f} MiB, temporaries "
        f"{parts[1] / 2**20:,.0f} MiB; largest array {largest}, {sizes[largest] / 2**20:,.0f} MiB; compiled in "
        f"{seconds:.0f} s",
        flush=True,
    )


def decoded(decode: Callable[[jax.Array], jax.Array] | None, images: jax.Array) -> jax.Array:
    """In float64 where JAX is told so, and then everything is."""
    return (images if decode is None else decode(images)).astype(jnp.result_type(float))


def as_floats(images: jax.Array) -> jax.Array:
    return images.astype(jnp.float32) / 255


def compared(
    images: int, devices: list[int], block: int | None, targets: int, name: str, steps: int, **options: Any
) -> None:
    """Of updates on real images, on so many devices each."""
    dataset = data.load(name)
    transform = data.fit_transform("standardize", dataset.train.pixels())
    real, decode = data.compact_data(dataset.train, transform, dataset.num_classes)
    method = recipe(images, targets, **options)
    method = engine.decoding(method, functools.partial(decoded, decode))
    found: dict[int, np.ndarray] = {}
    for count in devices:
        began = time.process_time()
        run = engine.run(
            method,
            real,
            steps=steps,
            devices=jax.devices()[:count],
            execution=Execution(block=block),
            log_every=1,
            progress=False,
        )
        found[count] = np.array([row["loss"] for row in run.history])
        took = time.process_time() - began
        print(f"{count} devices: losses {[f'{loss:.9g}' for loss in found[count]]}, {took:.0f} CPU-seconds", flush=True)
    first = found[devices[0]]
    for count in devices[1:]:
        print(f"{count} devices beside {devices[0]}: off by {np.abs(found[count] / first - 1)} of it")


def solve(images: int, devices: int, block: int | None, width: int) -> None:
    """With the gradient for images, by both."""
    x = jax.random.normal(jax.random.key(0), (images, 28 * 28))
    y = jax.random.normal(jax.random.key(1), (images, 10))
    kernel = kernels.build("ntk", block=block)
    for name, least in {"whole": images, "shared": width}.items():

        def loss(x: jax.Array, y: jax.Array, least: int = least) -> jax.Array:
            coefficients = inner.kernel_ridge_solve_over_devices(kernel, x, y, ridge=1e-3, block=block, width=least)
            return jnp.sum(jnp.square(coefficients))

        step = jax.jit(share_networks(jax.value_and_grad(loss), make_mesh(jax.devices()[:devices])))
        compiled = step.lower(x, y).compile()
        wall, cpu = timed(step, x, y, repeats=3)
        temporaries = compiled.memory_analysis().temp_size_in_bytes / 2**20
        print(f"{images} images, {devices} devices, {name}: {wall:.2f} s, {cpu:.2f} CPU-s, {temporaries:.0f} MiB")


def labels(images: int, targets: int, blocks: list[int], name: str) -> None:
    """Label Solve of real images, as shipped, by blocks of so many targets; 0 is all."""
    dataset = data.load(name)
    real = data.real_data(dataset.train, data.fit_transform("standardize", dataset.train.pixels()), dataset.num_classes)
    rows = np.random.default_rng(0).permutation(len(real.images))[: images + targets]
    x, t, numbers = real.images[rows[:images]], real.images[rows[images:]], real.labels.values[rows[images:]]
    y = losses.centred_one_hot(numbers, dataset.num_classes)

    def error(found: jax.Array) -> jax.Array:
        predicted = kernels.kernel_ridge_predict(kernels.ntk(t, x), kernels.ntk(x), found, float64=True)
        return jnp.mean(losses.squared_error(predicted, y))

    for block in blocks:
        solved = jax.jit(functools.partial(kernels.label_solve, kernels.ntk, block=block or None))
        compiled = solved.lower(x, t, y).compile()
        _, cpu = timed(solved, x, t, y, repeats=3)
        found, temporaries = solved(x, t, y), compiled.memory_analysis().temp_size_in_bytes / 2**20
        size = float(jnp.linalg.norm(found))
        print(
            f"{images} images, {targets} targets by {block or 'all'}: {cpu:.2f} CPU-s, {temporaries:.0f} MiB, "
            f"error {float(jax.jit(error)(found)):.7g}, norm of the labels {size:.5g}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("memory", "losses", "solve", "labels"))
    parser.add_argument("--images", type=int, nargs="+", default=[8000])
    parser.add_argument("--devices", type=int, nargs="+", default=[8])
    parser.add_argument("--block", type=int, default=500, help="targets and rows at once; 0: all")
    parser.add_argument("--blocks", type=int, nargs="+", default=[0], help="of Label Solve")
    parser.add_argument("--targets", type=int, default=8000)
    parser.add_argument("--width", type=int, default=512, help="of the tiles, at least")
    parser.add_argument("--data", default="fashion_mnist")
    parser.add_argument("--ridge", type=float, default=1e-6)
    parser.add_argument("--float64", action="store_true")
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", max(options.devices))
    block, solver = options.block or None, {"ridge": options.ridge, "float64": options.float64}
    for images in options.images:
        if options.what == "labels":
            labels(images, options.targets, options.blocks, options.data)
            continue
        if options.what == "losses":
            compared(images, options.devices, block, options.targets, options.data, options.steps, **solver)
            continue
        for devices in options.devices:
            if options.what == "memory":
                memory(images, devices, block, options.targets, options.data)
            else:
                solve(images, devices, block, options.width)


if __name__ == "__main__":
    main()
