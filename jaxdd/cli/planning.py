"""`jaxdd plan`: what a run will cost, and the fastest setting of its method that fits a budget of memory."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import pathlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax

from jaxdd import engine, methods
from jaxdd.cli import pipeline
from jaxdd.errors import JaxddError
from jaxdd.report.facts import duration, storage

if TYPE_CHECKING:
    from rich.console import Group

_UNITS = {"": 0, "B": 0, "KIB": 1, "MIB": 2, "GIB": 3, "TIB": 4, "KB": 1, "MB": 2, "GB": 3, "TB": 4}


@dataclasses.dataclass(frozen=True)
class Setting:
    """Hyper-parameters that change what a method costs and not what it finds, and that cost."""

    options: dict[str, Any]
    plan: engine.Plan
    fits: bool

    @property
    def name(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.options.items()) or "as configured"


@dataclasses.dataclass(frozen=True)
class Planned:
    """What `plan` returns.

    Attributes:
      title: the method and its data.
      settings: from the one that should be fastest to the leanest.
      stages: what is run first.
      chosen: the first that fits, with seconds a step; None if none does.
      flags: what to append to the command for it; empty if the config has it already.
      edits: what no flag can say (the config file lacks the field, or holds None), as lines of the config.
      steps: of the whole run.
      budget: bytes on each device.
    """

    title: str
    settings: tuple[Setting, ...]
    stages: tuple[engine.StagePlan, ...]
    chosen: Setting | None
    flags: tuple[str, ...]
    edits: tuple[str, ...]
    steps: int
    budget: float

    def advice(self) -> str:
        """One sentence: what to change, if anything.

        Raises:
          JaxddError: if nothing fits, or a stage does not.
        """
        for stage in self.stages:
            if not _fits(stage, self.budget):
                assert stage.plan is not None
                raise JaxddError(
                    f"the stage {stage.name!r}, which is run first, does not fit the budget of {_mib(self.budget)} MiB "
                    f"on each device: it needs {_mib(stage.plan.peak_bytes)} MiB."
                )
        if self.chosen is None:
            leanest = min(self.settings, key=lambda setting: setting.plan.peak_bytes)
            raise JaxddError(
                f"no setting fits the budget of {_mib(self.budget)} MiB on each device: the leanest, {leanest.name}, "
                f"needs {_mib(leanest.plan.peak_bytes)} MiB."
            )
        if not self.flags and not self.edits:
            return "The config fits as it is."
        parts = []
        if self.flags:
            parts.append(f"append {' '.join(self.flags)}")
        if self.edits:
            parts.append(f"write {', '.join(self.edits)} in the config file")
        return f"The fastest setting that fits: {' and '.join(parts)}"

    def as_dict(self) -> dict[str, Any]:
        """JSON-able. `chosen` is an index into `settings`."""
        seconds = self.chosen and self.chosen.plan.seconds_per_step
        return {
            "title": self.title,
            "budget_bytes": int(self.budget),
            "steps": self.steps,
            "run_seconds": None if seconds is None else self.steps * seconds,
            "chosen": self.chosen and self.settings.index(self.chosen),
            "stages": [
                {**dataclasses.asdict(stage), "fits": _fits(stage, self.budget), "seconds": _seconds(stage)}
                for stage in self.stages
            ],
            "flags": list(self.flags),
            "edits": list(self.edits),
            "settings": [
                {
                    "options": setting.options,
                    "fits": setting.fits,
                    "peak_bytes": setting.plan.peak_bytes,
                    **dataclasses.asdict(setting.plan),
                }
                for setting in self.settings
            ],
        }

    def tables(self) -> Group:
        """The settings, and the facts about the one that is chosen."""
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        title = Text(f"{self.title}, {_mib(self.budget)} MiB on each device")
        settings = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        settings.add_column("setting", overflow="fold")
        settings.add_column("peak MiB", justify="right")
        settings.add_column("fits")
        for setting in self.settings:
            cells = (setting.name, _mib(setting.plan.peak_bytes), "yes" if setting.fits else "no")
            settings.add_row(*map(Text, cells), style="bold" if setting is self.chosen else None)
        tables = [settings]
        if self.stages:
            tables.append(stages := Table(title="stages, run first", title_justify="left", box=box.SIMPLE_HEAD))
            stages.add_column("stage")
            for heading in ("steps", "peak MiB", "rows MiB", "time"):
                stages.add_column(heading, justify="right")
            for stage in self.stages:
                peak = "–" if stage.plan is None else _mib(stage.plan.peak_bytes)
                seconds = _seconds(stage)
                took = "in the cache" if stage.made else "does not fit" if seconds is None else duration(seconds)
                stages.add_row(*map(Text, (stage.name, f"{stage.steps:,}", peak, _mib(stage.num_bytes), took)))
        if self.chosen is None:
            return Group(*tables)
        facts = Table(box=box.SIMPLE, show_header=False, title=Text(self.chosen.name), title_justify="left")
        for name, value in _facts(self.chosen.plan, self.steps).items():
            facts.add_row(Text(name), Text(value))
        return Group(*tables, facts)


def plan(config: Mapping[str, Any], *, budget: float | None = None) -> Planned:
    """Compile the steps of a run in every sensible setting of its method, and time those of the first that fits.

    Writes nothing.

    Args:
      config: as for `pipeline.distill`.
      budget: bytes on each device; by default the device's memory, or its share of what the machine has free.

    Raises:
      JaxddError: for anything wrong in the config or the data.
    """
    full = pipeline.complete(config)
    chosen, steps, hyper = full["data"], full["run"]["steps"], dict(full["method"])
    if not isinstance(steps, int) or steps < 1:
        raise JaxddError(f"steps must be an integer of at least 1, got {steps!r}.")
    name = hyper.pop("name")
    methods.build(name, **hyper)  # what is misspelt must not cost the data's loading
    budget = _memory() if budget is None else budget
    real = pipeline.Real.of_config(chosen)
    own = {**methods.fields(name), **hyper}
    stages = engine.plan_stages(
        real.method(name, hyper),
        real.stored,
        seed=full["seed"],
        precision=full["run"]["precision"],
        config={"data": pipeline.told(chosen)},
        budget=budget,
    )
    settings: list[Setting] = []
    recommended = None
    for options in _candidates(own):
        method = real.method(name, {**hyper, **options})
        # Only the first that fits is run.
        allowed = budget if recommended is None else 0
        cost = engine.plan(method, real.stored, seed=full["seed"], precision=full["run"]["precision"], budget=allowed)
        settings.append(Setting(options, cost, cost.peak_bytes <= budget))
        if recommended is None and settings[-1].fits:
            recommended = settings[-1]
    changes = {} if recommended is None else {k: v for k, v in recommended.options.items() if v != own[k]}
    # A flag can only overwrite a field that the config file has, by a value of the same type.
    by_flag = {
        option: type(hyper.get(option)) is type(value) and value is not None for option, value in changes.items()
    }
    return Planned(
        title=f"{name} on {real.dataset.name}",
        settings=tuple(settings),
        stages=stages,
        chosen=recommended,
        flags=tuple(f"--config.method.{option}={value}" for option, value in changes.items() if by_flag[option]),
        edits=tuple(f"method.{option} = {value!r}" for option, value in changes.items() if not by_flag[option]),
        steps=steps,
        budget=budget,
    )


def _candidates(own: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Settings of the hyper-parameters `networks_per_batch` and `remat`, from the fastest to the leanest.

    Args:
      own: the method's hyper-parameters as configured; what is configured is always among the settings.
    """
    knobs: dict[str, list[Any]] = {}
    cpu = jax.default_backend() == "cpu"
    if "networks_per_batch" in own:
        # All at once fill an accelerator. On CPU they are slower than one after the other, and larger.
        every = own.get("networks")
        every = every if isinstance(every, int) else None  # None, too, means all of them
        batches = [1] if cpu else [every, every and every // 4, 1]
        configured = own["networks_per_batch"] or every
        sizes = {1 if size == 0 else size for size in (*batches, configured)}
        knobs["networks_per_batch"] = sorted(sizes, key=lambda size: size or math.inf, reverse=not cpu)
    if "remat" in own:
        # On CPU what is stored comes back from memory more slowly than it is computed: 3.6 times for an MLP, 30 steps.
        remats = ["step", "sqrt"] if cpu else ["none", "step", "sqrt"]
        knobs["remat"] = list(dict.fromkeys([*remats, own["remat"]]))
    return [dict(zip(knobs, values, strict=True)) for values in itertools.product(*knobs.values())]


def parse_bytes(text: str) -> int:
    """`"4GiB"`, `"1.5 GB"`, `"300000000"` in bytes; KiB, MiB, GiB, TiB are powers of 1024, KB to TB of 1000.

    Raises:
      JaxddError: for anything else.
    """
    match = re.fullmatch(r"(\d+\.?\d*)\s*([A-Z]*)", text.strip().upper())
    if match is None or match[2] not in _UNITS or float(match[1]) == 0:
        raise JaxddError(f"--budget must be bytes with a unit, as in 4GiB, 512MiB or 2GB, got {text!r}.")
    if not math.isfinite(float(match[1])):
        raise JaxddError("--budget is too large a number.")
    return int(float(match[1]) * (1024 if "I" in match[2] else 1000) ** _UNITS[match[2]])


def _memory() -> float:
    """Bytes that each device may use."""
    device = jax.local_devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit:
        return limit
    return _free() / jax.local_device_count()  # devices on CPU have one memory


def _free() -> int:
    """What the machine has free, with what it would give up for a program (Linux), or else all it has."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        raise JaxddError("this system does not say how much memory it has: give --budget=4GiB.") from None


def _fits(stage: engine.StagePlan, budget: float) -> bool:
    return stage.plan is None or stage.plan.peak_bytes <= budget


def _seconds(stage: engine.StagePlan) -> float | None:
    """That a stage will take; None if it does not fit the budget."""
    if stage.plan is None:
        return 0.0
    each = stage.plan.seconds_per_step
    return None if each is None else stage.plan.compile_seconds + stage.steps * each


def _facts(cost: engine.Plan, steps: int) -> dict[str, str]:
    seconds = cost.seconds_per_step
    facts = {
        "synthetic set": f"{cost.parameters:,} parameters, {storage(cost.num_bits) or 'bits not known'}",
        "state": f"{cost.state_parameters:,} floating-point numbers",
        "compiled, temporary": f"{_mib(cost.temp_bytes)} MiB",
        "compiled, arguments": f"{_mib(cost.argument_bytes)} MiB (real data and state)",
        "compiled, output": f"{_mib(cost.output_bytes)} MiB, {_mib(cost.aliased_bytes)} of it in place of arguments",
        "compilation": duration(cost.compile_seconds),
    }
    if seconds is not None:
        facts["step"] = f"{seconds:.3g} s"
        facts["run"] = f"{steps} steps, {duration(steps * seconds)} without validation"
    return {**facts, "devices": f"{cost.devices} × {cost.device}"}


def _mib(size: float) -> str:
    return f"{size / 2**20:,.1f}"
