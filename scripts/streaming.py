#!/usr/bin/env python3
"""Distil from a folder of images that is larger than the memory a process may have; prints one JSON object.

    python scripts/streaming.py --folder cifar96 --images 100000 --budget 1536 --steps 50

The folder is made if it is not there: CIFAR-10 of the data directory (see `jaxdd list`), upscaled to 96x96, the first
training images once more as in a mirror, and its test images. Then `jaxdd distill` runs twice under a limit that the
system enforces on a process's own memory (RLIMIT_DATA, Linux), in MiB: with `--config.data.stream=True`, and without,
which must end in a sentence. `peak_mib` is the largest resident memory of the first, shared libraries included.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image, ImageOps

from jaxdd import data
from jaxdd.errors import JaxddError

SIZE = 96
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
    _, status, usage = os.wait4(child.pid, 0)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "said": said[-1] if said else "",
        "peak_mib": usage.ru_maxrss // 1024,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--budget", type=int, default=1536, help="MiB")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--evaluate", default="none", help="as for jaxdd distill")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if not folder.exists():
        build(folder, arguments.images)
    count = sum(1 for _ in folder.glob("*/*/*.jpg"))
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
