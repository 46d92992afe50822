"""Programs of methods for a device that is not there."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measuring import SHAPES

from accelerators.program import facts, trips
from accelerators.targets import MEMORY, compiling_for, device
from accelerators.thunks import host_launches
from jaxdd import engine, methods
from jaxdd.cli import config as configs
from jaxdd.engine.execution import Job, of_program, settled
from jaxdd.engine.stages import foretold
from jaxdd.types import Execution, Labels, RealData, Spec, parts_of


def rows(
    platform: str,
    names: Sequence[str] | None,
    dump: pathlib.Path,
    *,
    smoke: bool = False,
    precision: str = "default",
) -> Iterator[dict[str, Any]]:
    """Of each method; one that does not compile has its error.

    Args:
      dump: where the compiler writes, see `targets.environment`; what is there is removed.
    """
    target = device(platform)
    for name in names or methods.available():
        name, _, preset = name.partition(":")
        module = configs.module_of(configs.shipped()[name])
        own = str(getattr(module, "PUBLISHED_PRESET", next(iter(module.PRESETS))))
        published = preset or ("smoke" if smoke else own)
        began = time.perf_counter()
        row: dict[str, Any] = {"name": name, "preset": published, "platform": platform, "compiles": True}
        try:
            row |= of_method(name, published, platform, target, dump, precision)
        except Exception as error:
            row |= {"compiles": False, "error": f"{type(error).__name__}: {str(error).splitlines()[0]}"[:300]}
        shutil.rmtree(dump, ignore_errors=True)
        row["seconds"] = round(time.perf_counter() - began, 1)
        yield row


def of_method(name: str, preset: str, platform: str, target: Any, dump: pathlib.Path, precision: str) -> dict[str, Any]:
    """What its update is compiled to."""
    config = configs.read(name, preset)
    hyper = dict(config["method"])
    count, shape, classes = SHAPES[config["data"]["name"]]
    labels = Labels.index(np.arange(count) % classes, classes)
    real = RealData.of(jnp.zeros((count, *shape), jnp.uint8), labels)
    recipe = engine.decoding(methods.build(hyper.pop("name"), **hyper), decode)
    data = foretold(recipe, real)
    job = Job(recipe, data, parts_of(recipe, Spec.of(data)), 2**20, 0, [target])
    with compiling_for(platform):
        execution = settled(job, Execution(precision=precision), accelerated=True, limit=MEMORY[platform])
        program = job.compile(execution)
    text = program.chunk.as_text() or ""
    return {
        **facts(text),
        "host_launches": host_launches(dump, trips(text)),
        "peak_bytes": of_program(program),
        "execution": dataclasses.asdict(execution),
    }


def decode(images: jax.Array) -> jax.Array:
    """Standardised pixels of stored bytes."""
    return (images.astype(np.float32) / 255 - 0.5) / 0.25
