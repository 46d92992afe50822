#!/usr/bin/env python3
"""What one step costs, beside the machine's own matmul rate in the same run.

    python scripts/benchmark.py --suite all [--smoke] [--json FILE] [--markdown FILE]
    python scripts/benchmark.py --suite choices [--smoke] [--rows dm_bfloat16 dm_together] [--json FILE]
    python scripts/benchmark.py --read FILE.json --markdown docs/benchmarks.md
    python scripts/benchmark.py --suite conv | features | inner | kernels | matching [--json FILE]

`all` is every method as its shipped config has it, in the engine's own program; `choices` some of them with another
precision, convolution or number of networks side by side. Seconds are medians (of these two suites means), and
CPU-seconds (all threads) are the figure to compare on shared machines. Convolutions, inner loops and matching stand
beside the same arithmetic in PyTorch (`peers.py`; `pip install "jaxdd[bench]"`), which runs afterwards, in a process of
its own.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from beside_pytorch import convolutions, inner_loops, matching
from measuring import Row, Suite, matmul_rate, matmul_rates, real_images, stored_images, update

from jaxdd import engine, methods
from jaxdd.cli import config as configs
from jaxdd.errors import JaxddError, unknown


def kip(ipc: int, repeats: int) -> Row:
    """One KIP step with the shipped defaults."""
    config = methods.KIP(ipc=ipc)
    support, targets, size = 10 * ipc, config.target_batch, 28 * 28
    row = update(f"kip_{support}", methods.kip(config), repeats, target_batch=targets)
    # Target kernel forward and backward in the support; support kernel forward, and backward on both sides.
    flops = 2 * size * (2 * targets * support + 3 * support * support)
    del row["convolution"]
    return row | {"matmul_share": flops / row["seconds"] / matmul_rate()}


def kernels(repeats: int) -> Suite:
    """KIP with 10, 100 and 500 images."""
    for ipc in (1, 10, 50):
        yield f"kip_{10 * ipc}", functools.partial(kip, ipc, repeats)


SMALL_FREPO = {"ipc": 10, "model": "wide_convnet(width=32)", "target_batch": 256}


def features(repeats: int) -> Suite:
    """One update of the methods that regress on networks' features: FRePo's defaults, a small network, RFAD's kernel.

    FRePo's own code takes 4.2, 5.7 (`frepo_ipc10`) and 0.42 CPU-seconds (`frepo_w32_ipc10`) on two cores.
    """
    for name, options in {
        "frepo_ipc1": {"ipc": 1},
        "frepo_ipc10": {"ipc": 10},
        "frepo_ipc10_bf16": {"ipc": 10, "precision": "bfloat16"},
        "frepo_w32_ipc10": SMALL_FREPO,
    }.items():
        yield name, functools.partial(update, name, methods.build("frepo", **options), repeats, **options)
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


POSITIVE = (
    *("batch", "compile_seconds", "seconds", "steps_per_second", "cpu_seconds", "steps"),
    *("flops", "flops_per_second", "matmul_flops_per_second", "matmul_share", "peak_bytes", "devices"),
)


def shipped(name: str, *, smoke: bool = False) -> tuple[str, dict[str, Any]]:
    """The preset of a method's config that is measured here, and the hyper-parameters that it has.

    On accelerators the published settings, as the config names them; on CPUs the first of its presets.
    """
    config = configs.module_of(configs.shipped()[name])
    published = getattr(config, "PUBLISHED_PRESET", None) if jax.default_backend() != "cpu" else None
    preset = "smoke" if smoke else published or next(iter(config.PRESETS))
    return preset, configs.read(name, preset)["method"]


def method(
    name: str, label: str, seconds: float, *, smoke: bool = False, precision: str = "default", **options: Any
) -> Row:
    """A step of a method in a run, on all devices.

    Args:
      seconds: for how long steps are timed.
      options: hyper-parameters beside those of its config; `conv` is that of its network.

    Raises:
      JaxddError: if a figure is missing.
    """
    preset, hyper = shipped(name, smoke=smoke)
    kind = hyper.pop("name")
    conv = options.pop("conv", None)
    if conv is not None:
        options["model"] = with_convolution(hyper["model"], conv)
    hyper |= options
    data_name, real, decode = stored_images()
    build = methods.build(kind, **hyper)
    before = device_peak()
    rate, cpu_rate = matmul_rates(*((256, 2) if smoke else ()), devices=jax.devices())
    whole = build if decode is None else engine.decoding(build, decode)
    plan = engine.plan(whole, real, precision=precision, seconds=0 if smoke else seconds, count=True)
    libraries = {"jaxdd_onednn": "onednn", "cudnn$conv": "cudnn"}
    called = [of for call, of in libraries.items() if call in " ".join(plan.custom_calls)]
    convolution = [*called, conv or "xla"][0] if "model" in hyper else "none"
    foretold = engine.foretold(build, real)
    drawn = jax.eval_shape(lambda key: engine.draw(build, foretold, key), jax.random.key(0))
    row = {
        "name": label,
        "data": data_name,
        "preset": preset,
        **{field: hyper[field] for field in ("ipc", "model") if field in hyper},
        **options,
        "precision": precision if precision != "default" else hyper.get("precision", precision),
        "batch": sum(map(len, drawn.rows.values())),
        "compile_seconds": plan.compile_seconds,
        "seconds": plan.seconds_per_step,
        "steps_per_second": 1 / plan.seconds_per_step,
        "cpu_seconds": plan.cpu_seconds_per_step,
        "steps": plan.measured_steps,
        "flops": plan.flops,
        "flops_per_second": plan.flops / plan.seconds_per_step,
        "matmul_flops_per_second": rate,
        "matmul_share": plan.flops / plan.seconds_per_step / rate,
        "peak_bytes": plan.peak_bytes,
        "convolution": convolution,
        "devices": plan.devices,
    }
    if jax.default_backend() == "cpu":
        row["cpu_share"] = plan.flops / plan.cpu_seconds_per_step / cpu_rate
    if device_peak() > before:  # it is that of the whole process, so that of this row only if it is a new one
        row["device_peak_bytes"] = device_peak()
    return checked(row)


def with_convolution(model: str, conv: str) -> str:
    """The name of a model, with the implementation of its convolutions."""
    name, _, options = model.rstrip(")").partition("(")
    return f"{name}({options}{', ' if options else ''}conv={conv!r})"


def device_peak() -> int:
    """Bytes that this process has had on a device at most; 0 where the device does not say."""
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def checked(row: Row) -> Row:
    """The row, with all its figures.

    Raises:
      JaxddError: for one that is missing, or not positive and finite.
    """
    for field in POSITIVE:
        if not 0 < row.get(field, 0) < math.inf:
            raise JaxddError(f"the row {row['name']!r} has {row.get(field)!r} for its {field}.")
    return row


def every_method(seconds: float, *, smoke: bool = False) -> Suite:
    """Every method, as its config has it."""
    for name in methods.available():
        yield name, functools.partial(method, name, name, seconds, smoke=smoke)


# Several networks, or classes, one after the other and all at once.
SIDE_BY_SIDE = {
    "dm": ({"classes_per_batch": 1}, {"classes_per_batch": None}),
    "dc": ({"classes_per_batch": 1}, {"classes_per_batch": None}),
    "rat_bptt": ({"networks": 4, "networks_per_batch": 1}, {"networks": 4, "networks_per_batch": None}),
}


def choices(seconds: float, *, smoke: bool = False) -> Suite:
    """Matching of features and of gradients, and unrolled training, each with one thing chosen differently."""
    for name, (one_by_one, together) in SIDE_BY_SIDE.items():
        for choice, options in {
            "float32": {"precision": "float32"},
            "bfloat16": {"precision": "bfloat16"},
            "native": {"conv": "xla"},
            "im2col": {"conv": "im2col"},
            "one_by_one": one_by_one,
            "together": together,
        }.items():
            label = f"{name}_{choice}"
            yield label, functools.partial(method, name, label, seconds, smoke=smoke, **options)


# Each with how often it repeats, of the first two for how many seconds.
SUITES: dict[str, tuple[Callable[..., Suite], int]] = {
    "all": (every_method, 8),
    "choices": (choices, 4),
    "conv": (convolutions, 20),
    "features": (features, 5),
    "inner": (inner_loops, 10),
    "kernels": (kernels, 20),
    "matching": (matching, 3),
}
SMALL = ("all", "choices")


def wanted(suite: Suite, names: list[str] | None) -> Iterator[Row]:
    """The rows of a suite, or those of these names.

    Raises:
      JaxddError: for a name that is none of them.
    """
    rows = dict(suite)
    for name in names or ():
        if name not in rows:
            raise unknown("row", name, rows)
    for name in names or rows:
        yield rows[name]()


def measured(suite: Suite, names: list[str] | None) -> list[Row]:
    """The rows, each printed as soon as it is there."""
    rows = []
    with engine.one_blas_thread():  # as in a run
        for row in wanted(suite, names):
            rows.append(row)
            print("  ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()), flush=True)
    return rows


# Heading, field, and what makes a cell of it.
COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("", "name", "`{}`".format),
    ("ipc", "ipc", str),
    ("network", "model", lambda model: "" if model is None else f"`{model}`"),
    ("batch", "batch", "{:,}".format),
    ("compile, s", "compile_seconds", "{:.1f}".format),
    ("steps/s", "steps_per_second", "{:.3g}".format),
    ("CPU-s/step", "cpu_seconds", "{:.3g}".format),
    ("GFLOP/step", "flops", lambda flops: f"{flops / 1e9:.3g}"),
    ("GFLOP/s", "flops_per_second", lambda rate: f"{rate / 1e9:,.0f}"),
    ("matmul share", "matmul_share", "{:.0%}".format),
    ("by CPU-s", "cpu_share", "{:.0%}".format),
    ("peak, MiB", "peak_bytes", lambda size: f"{size / 2**20:,.0f}"),
    ("convolution", "convolution", str),
)


def markdown(report: dict[str, Any]) -> str:
    """The rows of the suites `all` and `choices` as a table, under a line about the machine."""
    rows = report["rows"]
    ceiling = np.median([row["matmul_flops_per_second"] for row in rows]) / 1e9
    about = (
        f"{report['devices']} × {report['device']}, {report['cpus']} CPU cores, JAX {report['jax']}, "
        f"{rows[0]['data']}; a float32 matrix product: {ceiling:,.0f} GFLOP/s (median over the rows)."
    )
    columns = [column for column in COLUMNS if any(column[1] in row for row in rows)]
    lines = ["| " + " | ".join(heading for heading, _, _ in columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(cell(row.get(field)) for _, field, cell in columns) + " |" for row in rows]
    return "\n".join([about, "", *lines])


def write_markdown(report: dict[str, Any], file: pathlib.Path) -> None:
    """Put the table of a suite where the file has its marks, `<!-- SUITE -->` and `<!-- end of SUITE -->`.

    Raises:
      JaxddError: if it has none.
    """
    start, end = f"<!-- {report['suite']} -->\n", f"\n<!-- end of {report['suite']} -->"
    text = file.read_text()
    before, found, rest = text.partition(start)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise JaxddError(f"{file} has no place for this table: {start.strip()} and {end.strip()}, each on a line.")
    file.write_text(f"{before}{start}{markdown(report)}{end}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--suite", choices=sorted(SUITES))
    source.add_argument("--read", type=pathlib.Path, metavar="FILE", help="an earlier report instead, as --json wrote")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the rows here as well")
    parser.add_argument(
        "--markdown", type=pathlib.Path, metavar="FILE", help="put their table in this file (all, choices)"
    )
    parser.add_argument("--repeats", type=int, help="how often each is timed, of all and choices for how many seconds")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only these rows of the suite")
    parser.add_argument("--smoke", action="store_true", help="tiny settings, two steps: does it run? (all, choices)")
    arguments = parser.parse_args()
    if (arguments.smoke or arguments.markdown) and arguments.suite not in (*SMALL, None):
        parser.error(f"--smoke and --markdown are for the suites {' and '.join(SMALL)}")
    if arguments.markdown and not arguments.markdown.is_file():
        parser.error(f"{arguments.markdown} is no file: --markdown puts a table where an existing one has its marks")
    if arguments.read:
        report = json.loads(arguments.read.read_text())
    else:
        suite, repeats = SUITES[arguments.suite]
        if suite in (convolutions, inner_loops, matching) and importlib.util.find_spec("torch") is None:
            print('No peers: PyTorch is not installed (pip install "jaxdd[bench]").', file=sys.stderr)
        options = {"smoke": True} if arguments.smoke else {}
        report = {
            "suite": arguments.suite,
            "backend": jax.default_backend(),
            "device": jax.devices()[0].device_kind,
            "devices": jax.device_count(),
            "cpus": os.cpu_count(),
            "jax": jax.__version__,
            "rows": measured(suite(arguments.repeats or repeats, **options), arguments.rows),
        }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    if arguments.markdown:
        write_markdown(report, arguments.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
