"""One side of a row of the suite `selection`, in a process of its own.

    python -m benchmark.selection_sides herding_50k ours|plain|ahead|lazy POINTS CHOSEN

One line of JSON: CPU-seconds of all threads of the call (of ours the second one, since the first compiles),
the most memory the process had, and the rows. The data are made before.
"""

from __future__ import annotations

import json
import pathlib
import resource
import sys
import time
from collections.abc import Callable

import numpy as np

from benchmark import selection_numpy

POINTS = 50_000


def clustered(n: int, *, d: int = 512, clusters: int = 200, rank: int = 16, seed: int = 0) -> np.ndarray:
    """Float32 `(n, d)` like features of a network: clusters of different sizes, each flat and a little noisy."""
    draw = np.random.default_rng(seed)
    share = 1 / np.sqrt(np.arange(1, clusters + 1))
    owner = draw.choice(clusters, n, p=share / share.sum())
    points = draw.normal(size=(clusters, d)).astype(np.float32)[owner]
    points += 0.3 * draw.normal(size=(n, d)).astype(np.float32)
    for cluster in range(clusters):
        members = np.flatnonzero(owner == cluster)
        flat = draw.normal(size=(len(members), rank)) @ draw.normal(size=(rank, d))
        points[members] += 0.25 * flat.astype(np.float32)
    return points


def peak_bytes() -> int:
    """The most memory that this process had."""
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024


def cpu_seconds() -> float:
    """Of all threads of this process until now."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def ours(name: str) -> Callable[[np.ndarray, int], np.ndarray]:
    """A rule of the library."""
    from jaxdd.selection import choose

    rules = {
        "facility_50k": choose.facility_location,
        "kcenter_50k": lambda points, k: choose.k_center(points, k, first=0),
        "herding_50k": choose.herding,
    }
    return lambda points, k: np.asarray(rules[name](points, k))


def compile_seconds(name: str, n: int, d: int, k: int) -> float:
    """CPU-seconds of compiling the program of a rule."""
    import jax
    import jax.numpy as jnp

    from jaxdd.selection.choose import covering, means, submodular
    from jaxdd.selection.choose._points import length

    points, mask = jax.ShapeDtypeStruct((n, d), jnp.float32), jax.ShapeDtypeStruct((n,), bool)
    start = jax.ShapeDtypeStruct((n,), jnp.float32)
    lower = {
        "facility_50k": lambda: submodular._facility_location.lower(
            points, mask, k, similarity="euclidean", length=length(k, n)
        ),
        "kcenter_50k": lambda: covering._k_center.lower(points, mask, k, start, length=length(k, n)),
        "herding_50k": lambda: means._herding.lower(points, mask, k, length=length(k, n)),
    }[name]
    before = cpu_seconds()
    lower().compile()
    return cpu_seconds() - before


def main() -> None:
    """The command line."""
    name, form, n, k = sys.argv[1:]
    points = clustered(int(n))
    rule = ours(name) if form == "ours" else selection_numpy.RULES[name, form]
    took = []
    for _ in range(2 if form == "ours" else 1):
        wall, cpu = time.perf_counter(), cpu_seconds()
        rows = rule(points, int(k))
        took.append((time.perf_counter() - wall, cpu_seconds() - cpu))
    row = {"seconds": took[-1][0], "cpu_seconds": took[-1][1], "peak_bytes": peak_bytes()}
    if form == "ours":
        row["compile_cpu_seconds"] = compile_seconds(name, *points.shape, int(k))
    print(json.dumps(row | {"rows": rows.tolist()}))


if __name__ == "__main__":
    main()
