"""The suite `selection`: greedy rules over 50,000 points beside NumPy, gradients of single examples beside PyTorch."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from beside_pytorch.network import IMAGE
from beside_pytorch.peer import compared, peer
from measuring import Row, Suite, real_images

from benchmark.selection_sides import POINTS, peak_bytes
from jaxdd import models
from jaxdd.selection.scores import grand

SCRIPTS = pathlib.Path(__file__).resolve().parents[1]
# What NumPy has for each: the plain loop, and the form that computes columns ahead, or lazily, as ours does.
SIDES = {"facility_50k": ("lazy",), "kcenter_50k": ("plain", "ahead"), "herding_50k": ("plain", "ahead")}


def selection(repeats: int) -> Suite:
    """1,000 of 50,000 points of 512 features by three rules, and GraNd of 10,000 images."""
    for name in SIDES:
        yield name, functools.partial(greedy, name)
    yield "grand_10k", functools.partial(gradients, repeats)


def greedy(name: str, *, points: int = POINTS, chosen: int = 1000) -> Row:
    """A rule, each side in a process of its own; the peer is the cheaper of NumPy's forms, on one thread."""
    ours = side(name, "ours", points, chosen)
    theirs = {form: side(name, form, points, chosen) for form in SIDES[name]}
    best = min(theirs, key=lambda form: theirs[form]["cpu_seconds"])
    rows, others = ours.pop("rows"), theirs[best].pop("rows")
    row = {"name": name, "points": points, "chosen": chosen, **ours, "peer": best}
    row |= {f"peer_{field}": theirs[best][field] for field in ("seconds", "cpu_seconds", "peak_bytes")}
    row |= {f"{form}_cpu_seconds": took["cpu_seconds"] for form, took in theirs.items()}
    differ = np.flatnonzero(np.asarray(rows) != np.asarray(others))
    return row | {"same_until": int(differ[0]) if len(differ) else chosen}


def side(name: str, form: str, points: int, chosen: int) -> Row:
    """What one side took, and the rows it chose."""
    command = [sys.executable, "-m", "benchmark.selection_sides", name, form, str(points), str(chosen)]
    threads = {} if form == "ours" else {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL")}
    paths = os.pathsep.join(filter(None, [str(SCRIPTS), str(SCRIPTS.parent), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, **threads, "PYTHONPATH": paths}
    return json.loads(subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, env=environment).stdout)


def gradients(repeats: int, *, width: int = 32, count: int = 10_000) -> Row:
    """GraNd of real images by a ConvNet-3, here, and by `torch.func` in a process of its own."""
    data_name, real = real_images()
    images, labels = (
        jnp.resize(array, (count, *array.shape[1:])) for array in (real.images[:count], real.labels.values[:count])
    )
    network = models.build("convnet", IMAGE, 10, width=width, depth=3)
    theta, stats = network.init(jax.random.key(0))
    took = []
    for _ in range(1 + max(1, repeats)):
        wall, cpu = time.perf_counter(), time.process_time()
        scores = np.asarray(grand(network, theta, stats, images, labels))
        took.append((time.perf_counter() - wall, time.process_time() - cpu))
    seconds, cpu = np.median(took[1:], axis=0)
    row = {"name": "grand_10k", "data": data_name, "width": width, "images": count}
    row |= {"seconds": float(seconds), "cpu_seconds": float(cpu), "compile_cpu_seconds": max(0.0, took[0][1] - cpu)}
    row |= {"peak_bytes": peak_bytes()}
    arrays = {"images": np.asarray(images), "labels": np.asarray(labels)}
    measured, theirs = peer("grand", theta, arrays, repeats)
    return compared(row | measured, {"scores": scores}, theirs, {"scores": 1e-3})
