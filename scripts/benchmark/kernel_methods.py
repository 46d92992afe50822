"""The suites `kernels` and `features`: updates of methods that regress on kernels."""

from __future__ import annotations

import dataclasses
import functools
import time

import jax
import numpy as np
from measuring import Row, Suite, matmul_rate, real_images, update

from jaxdd import engine, methods
from jaxdd.types import Execution


def kernels(repeats: int) -> Suite:
    """KIP with 10, 100 and 500 images."""
    for ipc in (1, 10, 50):
        yield f"kip_{10 * ipc}", functools.partial(kip, ipc, repeats)


def kip(ipc: int, repeats: int) -> Row:
    """One KIP step with the shipped defaults."""
    config = methods.KIP(ipc=ipc)
    support, targets, size = 10 * ipc, config.target_batch, 28 * 28
    row = update(f"kip_{support}", methods.kip(config), repeats, target_batch=targets)
    # Target kernel forward and backward in the support; support kernel forward, and backward on both sides.
    flops = 2 * size * (2 * targets * support + 3 * support * support)
    del row["convolution"]
    return row | {"matmul_share": flops / row["seconds"] / matmul_rate()}


SMALL_FREPO = {"ipc": 10, "model": "wide_convnet(width=32)", "target_batch": 256}


def features(repeats: int) -> Suite:
    """One update of the methods that regress on networks' features: FRePo's defaults, a small network, RFAD's kernel.

    FRePo's own code takes 4.2, 5.7 (`frepo_ipc10`) and 0.42 CPU-seconds (`frepo_w32_ipc10`) on two cores.
    """
    for name, options in {
        "frepo_ipc1": {"ipc": 1},
        "frepo_ipc10": {"ipc": 10},
        "frepo_ipc10_bf16": {"ipc": 10, "target_precision": "bfloat16"},
        "frepo_w32_ipc10": SMALL_FREPO,
    }.items():
        hyper = {field: value for field, value in options.items() if field != "target_precision"}
        asked = Execution(target_precision=options.get("target_precision", "default"))
        recipe = dataclasses.replace(methods.frepo(**hyper), asked=asked)
        yield name, functools.partial(update, name, recipe, repeats, **options)
    options = {"ipc": 1, "target_batch": 512}
    rfad = methods.build("rfad", **options)
    yield "rfad_ipc1", functools.partial(update, "rfad_ipc1", rfad, max(1, repeats // 4), **options)
    yield from pools(repeats)


def pools(repeats: int) -> Suite:
    """A pool of one network and of ten."""
    for size in (1, 10):
        yield f"frepo_pool{size}", functools.partial(step_of_run, size, repeats)


def step_of_run(size: int, repeats: int, *, steps: int = 10) -> Row:
    """A step of FRePo in a run, where the pool is updated in place."""
    data_name, real = real_images()
    marks = []
    engine.run(
        methods.build("frepo", **SMALL_FREPO, pool=size),
        real,
        steps=steps * (repeats + 1),
        log_every=steps,
        callback=lambda *_: marks.append((time.perf_counter(), time.process_time())),
        devices=jax.devices()[:1],
        progress=False,
    )
    seconds, cpu = np.median(np.diff(marks, axis=0), axis=0) / steps
    return {"name": f"frepo_pool{size}", "data": data_name, "seconds": float(seconds), "cpu_seconds": float(cpu)}
