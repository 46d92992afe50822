#!/usr/bin/env python3
"""Distil from a folder of images that is larger than the memory a process may have; prints one JSON object.

    python scripts/streaming.py --folder cifar96 --images 100000 --budget 1536 --steps 50

The folder is made if it is not there: CIFAR-10 of the data directory (see `jaxdd list`), upscaled to 96x96, the first
training images once more as in a mirror, and its test images. Then `jaxdd distill` runs twice under a limit that the
system enforces on a process's own memory (RLIMIT_DATA, Linux), in MiB: with `--config.data.stream=True`, and without,
which must end in a sentence. `peak_mib` is the largest resident memory of the first, shared libraries included.

    python scripts/streaming.py --folder cifar96 --images 14400 --rates

measures instead how many images a second are read, from the files and from the cache of decoded images
(`JAXDD_CACHE_DIR`), by rows at random and through the windows of a run whose update adds up what it is given; and how
long a start takes. "cold" is with the file's pages given back to the system first (Linux; a disk may have a cache too).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import gc
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageOps

from jaxdd import _cache, data, engine
from jaxdd.data import mapped
from jaxdd.errors import JaxddError
from jaxdd.types import Method, RealData

SIZE = 96
BATCH = 2560  # of a published DM update
PER_CLASS = 32  # real images of each class a step
DISTIL = (
    "--config=dm",
    "--config.method.ipc=1",
    "--config.method.model=convnet(width=16)",
    f"--config.method.target_per_class={PER_CLASS}",
    "--config.evaluation.networks=1",
    "--json",
)


def build(folder: pathlib.Path, count: int) -> None:
    """Write `count` images as `folder/{train,test}/CLASS/NUMBER.jpg`."""
    source = data.load("cifar10", validation=0)
    held_out = len(source.test)
    if not held_out < count <= 2 * len(source.train) + held_out:
        raise JaxddError(f"--images must lie between {held_out + 1} and {2 * len(source.train) + held_out}.")
    staged = folder.with_name(f"{folder.name}.part")
    for split in ("train", "test"):
        for name in source.class_names:
            (staged / split / name).mkdir(parents=True, exist_ok=True)

    def write(number: int) -> None:
        row, mirrored = number - held_out, number - held_out >= len(source.train)
        name, split = ("test", source.test) if row < 0 else ("train", source.train)
        row = number if row < 0 else row % len(split)
        image = Image.fromarray(np.asarray(split.images[row])).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        path = staged / name / source.class_names[split.labels[row]] / f"{number:06d}.jpg"
        (ImageOps.mirror(image) if mirrored else image).save(path, quality=95)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(write, range(count)):
            pass
    staged.rename(folder)


def distil(folder: pathlib.Path, workdir: str, *, steps: int, budget: int, evaluate: str, stream: bool) -> dict:
    """What a run under the limit did: its exit status, its last words, its peak memory in MiB, and its time."""
    arguments = [
        *DISTIL,
        f"--config.data.name={folder}",
        f"--config.data.stream={stream}",
        f"--config.run.steps={steps}",
        f"--evaluate={evaluate}",
        f"--workdir={workdir}/{stream}",
    ]
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "jaxdd", "distill", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (budget * 2**20, budget * 2**20)),
    )
    assert child.stdout is not None
    said = child.stdout.read().strip().splitlines()
    said = [line for line in said if line.startswith("{")] or said  # hints may follow the outcome
    _, status, usage = os.wait4(child.pid, 0)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "said": said[-1] if said else "",
        "peak_mib": usage.ru_maxrss // 1024,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
    }


class Adding(NamedTuple):
    """The state of a method that looks at every pixel and does nothing else."""

    total: jax.Array


def adding() -> Method:
    def update(key, state, batch):
        total = state.total + jnp.sum(batch.images, dtype=jnp.float32)
        return Adding(total), {"total": total}

    return Method(
        lambda key, data: Adding(jnp.float32(0)), data.uniform_sampler(BATCH), update, lambda state: state.total
    )


def images_per_second(images: Any, batches: int) -> float:
    """Of rows at random, read from images on the host."""
    rng = np.random.default_rng(0)
    began = time.perf_counter()
    for _ in range(batches):
        images.read(rng.integers(0, len(images), BATCH))
    return batches * BATCH / (time.perf_counter() - began)


def given_back(folder: pathlib.Path) -> None:
    """The pages of the decoded images of a folder, to the system; while they are mapped they stay."""
    gc.collect()
    (file,) = _cache.folder(_cache.IMAGES).glob(f"{folder.name}-*/*.raw")
    with file.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    found = function()
    return found, round(time.perf_counter() - began, 2)


def rates(folder: pathlib.Path, steps: int) -> dict:
    """Images a second and seconds of starts."""
    held = _cache.folder(_cache.IMAGES)
    for old in held.glob(f"{folder.name}-*"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    files, start_files = timed(lambda: data.load(folder, stream=True))

    def cached(**cuts: Any) -> data.Dataset:
        return data.load(folder, stream=True, cache=True, **cuts)

    starts = {"files": start_files, "filling the cache": timed(cached)[1]}
    given_back(folder)
    starts["cache, cold"] = timed(cached)[1]
    given_back(folder)
    usual, mapped._LOOKED_AT = mapped._LOOKED_AT, 0  # so that the pages are cold when they are measured
    cold = images_per_second(cached().train.images, 1)
    mapped._LOOKED_AT = usual
    starts["cache"] = timed(cached)[1]
    starts["cache, cut anew"] = timed(lambda: cached(seed=1))[1]
    dataset = cached()
    transform = data.fit_transform("standardize", dataset.train.images)
    standardised = data.real_data(dataset.train, transform, dataset.num_classes)
    stored = standardised.with_images(dataclasses.replace(standardised.images, decode=None))

    def through_windows(of: RealData) -> float:
        return steps * BATCH / engine.run(adding(), of, steps=steps, progress=False).seconds

    found = {
        "files": images_per_second(files.train.images, 2),
        "cache, cold": cold,
        "cache": images_per_second(dataset.train.images, steps),
        "windows, uint8": through_windows(stored),
        "windows, standardised": through_windows(standardised),
    }
    return {
        "images": len(dataset.train),
        "batch": BATCH,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "images_per_second": {name: round(rate) for name, rate in found.items()},
        "seconds_of_starts": starts,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--budget", type=int, default=1536, help="MiB")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--evaluate", default="none", help="as for jaxdd distill")
    parser.add_argument("--rates", action="store_true", help="measure images a second instead")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if not folder.exists():
        build(folder, arguments.images)
    count = sum(1 for _ in folder.glob("*/*/*.jpg"))
    if arguments.rates:
        print(json.dumps(rates(folder, arguments.steps)))
        return 0
    settings = {"steps": arguments.steps, "budget": arguments.budget, "evaluate": arguments.evaluate}
    with tempfile.TemporaryDirectory() as workdir:
        streamed = distil(folder, workdir, **settings, stream=True)
        whole = distil(folder, workdir, **settings, stream=False)
    result = {
        "images": count,
        "decoded_mib": count * SIZE * SIZE * 3 // 2**20,
        "budget_mib": arguments.budget,
        "peak_mib": streamed["peak_mib"],
        "seconds": round(streamed["seconds"], 1),
        "cpu_seconds": round(streamed["cpu_seconds"], 1),
        "in_memory": {"status": whole["status"], "said": whole["said"]},
    }
    if streamed["status"] == 0:
        run = json.loads(streamed["said"])
        rate = arguments.steps * PER_CLASS * 10 / run["seconds"]
        before = streamed["seconds"] - run["seconds"] - run["compile_seconds"]
        result |= {
            "seconds_of_reading_before": round(before, 1),
            "seconds_of_steps": round(run["seconds"], 1),
            "images_per_second": round(rate),
        }
    else:
        result["said"] = streamed["said"]
    print(json.dumps(result))
    return streamed["status"]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except JaxddError as error:
        sys.exit(f"streaming: {error}")
