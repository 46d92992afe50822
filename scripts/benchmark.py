#!/usr/bin/env python3
"""What one step costs, beside the machine's own matmul rate in the same run.

    python scripts/benchmark.py --suite kernels [--json FILE]

Seconds are medians, and CPU-seconds (all threads) are the figure to compare on shared machines.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd import data, methods
from jaxdd.data import load
from jaxdd.engine import one_blas_thread
from jaxdd.errors import JaxddError
from jaxdd.types import Batch

Row = dict[str, Any]


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


def matmul_rate(size: int = 2048, repeats: int = 10) -> float:
    """FLOP/s of a float32 matrix product here and now."""
    a, b = jax.random.normal(jax.random.key(0), (2, size, size))
    seconds, _ = timed(jax.jit(jnp.matmul), a, b, repeats=repeats)
    return 2 * size**3 / seconds


def kernels(repeats: int) -> Iterator[Row]:
    """One KIP step with the shipped defaults and 10, 100 and 500 images."""
    try:
        dataset = load("fashion_mnist")
    except JaxddError:
        dataset = load("mnist_5k")
    transform = data.fit_transform("standardize", dataset.train.pixels())
    real = data.real_data(dataset.train, transform, dataset.num_classes)
    for ipc in (1, 10, 50):
        config = methods.KIP(ipc=ipc)
        method, key = methods.kip(config), jax.random.key(0)
        state = jax.jit(method.init)(key, real)
        chosen = method.sample(key, real.labels)
        batch = Batch(real.images[chosen], real.labels.values[chosen])
        step = jax.jit(method.update).lower(key, state, batch).compile()
        memory = step.memory_analysis()
        seconds, cpu = timed(step, key, state, batch, repeats=repeats)
        support, targets, size = ipc * dataset.num_classes, config.target_batch, real.images[0].size
        # Target kernel forward and backward in the support; support kernel forward, and backward on both sides.
        flops = 2 * size * (2 * targets * support + 3 * support * support)
        yield {
            "name": f"kip_{support}",
            "data": dataset.name,
            "target_batch": targets,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "peak_bytes": memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes,
            "matmul_share": flops / seconds / matmul_rate(),
        }


SUITES = {"kernels": kernels}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=sorted(SUITES), required=True)
    parser.add_argument("--json", type=pathlib.Path, help="write the rows here as well")
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    rows = []
    with one_blas_thread():  # as in a run
        for row in SUITES[arguments.suite](arguments.repeats):
            rows.append(row)
            print("  ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()), flush=True)
    if arguments.json:
        report = {"backend": jax.default_backend(), "devices": jax.device_count(), "jax": jax.__version__, "rows": rows}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
