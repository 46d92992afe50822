"""What a run will cost, and the fastest setting of its method that fits a budget of memory."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax

from jaxdd import engine, methods
from jaxdd.errors import JaxddError
from jaxdd.workflows.config import complete, told
from jaxdd.workflows.data import Real


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
            if not stage_fits(stage, self.budget):
                assert stage.plan is not None
                raise JaxddError(
                    f"the stage {stage.name!r}, which is run first, does not fit the budget of {mib(self.budget)} MiB "
                    f"on each device: it needs {mib(stage.plan.peak_bytes)} MiB."
                )
        if self.chosen is None:
            leanest = min(self.settings, key=lambda setting: setting.plan.peak_bytes)
            raise JaxddError(
                f"no setting fits the budget of {mib(self.budget)} MiB on each device: the leanest, {leanest.name}, "
                f"needs {mib(leanest.plan.peak_bytes)} MiB."
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
                {**dataclasses.asdict(stage), "fits": stage_fits(stage, self.budget), "seconds": stage_seconds(stage)}
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


def plan(config: Mapping[str, Any], *, budget: float | None = None) -> Planned:
    """Compile the steps of a run in every sensible setting of its method, and time those of the first that fits.

    Writes nothing.

    Args:
      config: as for `distill`.
      budget: bytes on each device; by default the device's memory, or its share of what the machine has free.

    Raises:
      JaxddError: for anything wrong in the config or the data.
    """
    full = complete(config)
    chosen, steps, hyper = full["data"], full["run"]["steps"], dict(full["method"])
    if not isinstance(steps, int) or steps < 1:
        raise JaxddError(f"steps must be an integer of at least 1, got {steps!r}.")
    name = hyper.pop("name")
    methods.build(name, **hyper)  # what is misspelt must not cost the data's loading
    budget = _memory() if budget is None else budget
    real = Real.of_config(chosen)
    own = {**methods.fields(name), **hyper}
    stages = engine.plan_stages(
        real.method(name, hyper),
        real.stored,
        seed=full["seed"],
        precision=full["run"]["precision"],
        config={"data": told(chosen)},
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


def stage_fits(stage: engine.StagePlan, budget: float) -> bool:
    """Whether a stage is done already, or its peak is within so many bytes."""
    return stage.plan is None or stage.plan.peak_bytes <= budget


def stage_seconds(stage: engine.StagePlan) -> float | None:
    """That a stage will take; None if it does not fit the budget."""
    if stage.plan is None:
        return 0.0
    each = stage.plan.seconds_per_step
    return None if each is None else stage.plan.compile_seconds + stage.steps * each


def mib(size: float) -> str:
    """Bytes as MiB, in words."""
    return f"{size / 2**20:,.1f}"
