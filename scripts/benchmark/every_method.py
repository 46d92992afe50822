"""The suites `all` and `choices`: steps of methods as they are shipped, in the engine's own program."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
from measuring import Row, Suite, matmul_rates, stored_images

from benchmark.flops import of_each_step
from jaxdd import engine, methods, models
from jaxdd.cli import config as configs
from jaxdd.errors import JaxddError
from jaxdd.types import AT_ONCE, Execution, Method, RealData, Recipe

POSITIVE = (
    *("batch", "compile_seconds", "seconds", "steps_per_second", "cpu_seconds", "steps"),
    *("flops", "flops_per_second", "matmul_flops_per_second", "matmul_share", "peak_bytes", "devices"),
)


def every_method(seconds: float, *, smoke: bool = False) -> Suite:
    """Every method, as its config has it."""
    for name in methods.available():
        yield name, functools.partial(method, name, name, seconds, smoke=smoke)


# Several networks, or classes, one after the other and all at once.
SIDE_BY_SIDE = {
    "dm": {},
    "dc": {},
    "rat_bptt": {"networks": 4},
}


def choices(seconds: float, *, smoke: bool = False) -> Suite:
    """Matching of features and of gradients, and unrolled training, each with one thing chosen differently."""
    for name, hyper in SIDE_BY_SIDE.items():
        for choice, options in {
            "float32": {"precision": "float32"},
            "bfloat16": {"precision": "bfloat16"},
            "native": {"conv": "xla"},
            "im2col": {"conv": "im2col"},
            "one_by_one": {"side_by_side": 1, **hyper},
            "together": {"side_by_side": None, **hyper},
        }.items():
            label = f"{name}_{choice}"
            yield label, functools.partial(method, name, label, seconds, smoke=smoke, **options)


def method(name: str, label: str, seconds: float, *, smoke: bool = False, **options: Any) -> Row:
    """A step of a method in a run, on all devices.

    Args:
      seconds: for how long steps are timed.
      options: hyper-parameters beside those of its config, and fields of `types.Execution`, which else are as a run on
        these devices has them; `conv` is that of its network.

    Raises:
      JaxddError: if a figure is missing.
    """
    named = {field: options.pop(field) for field in list(options) if hasattr(AT_ONCE, field)}
    preset, hyper = shipped(name, smoke=smoke)
    kind = hyper.pop("name")
    conv = options.pop("conv", None)
    if conv is not None:
        options["model"] = models.with_options(hyper["model"], conv=conv)
    hyper |= options
    data_name, real, decode = stored_images()
    build = methods.build(kind, **hyper)
    before = device_peak()
    rate, cpu_rate = matmul_rates(*((256, 2) if smoke else ()), devices=jax.devices())
    whole = build if decode is None else engine.decoding(build, decode)
    plan = engine.plan(whole, real, execution=Execution(**named), seconds=0 if smoke else seconds, count=of_each_step)
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
        **dataclasses.asdict(plan.execution),
        "batch": sum(map(len, drawn.rows.values())) or _images_of_a_part(build, foretold),
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


def _images_of_a_part(build: Method | Recipe, real: RealData) -> int:
    """Of a method that draws no real examples: what is recovered together."""
    return jax.eval_shape(lambda key: engine.first_state(build, real, key).block.labels, jax.random.key(0)).shape[0]


def shipped(name: str, *, smoke: bool = False) -> tuple[str, dict[str, Any]]:
    """The preset of a method's config that is measured here, and the hyper-parameters that it has.

    On accelerators the published settings, as the config names them; on CPUs the first of its presets.
    """
    config = configs.module_of(configs.shipped()[name])
    published = getattr(config, "PUBLISHED_PRESET", None) if jax.default_backend() != "cpu" else None
    preset = "smoke" if smoke else published or next(iter(config.PRESETS))
    return preset, configs.read(name, preset)["method"]


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
