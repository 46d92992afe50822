"""What a run will cost, and the fastest setting of its method that fits a budget of memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxdd import _progress, engine
from jaxdd._numbers import whole
from jaxdd.errors import JaxddError
from jaxdd.types import Execution, Recipe
from jaxdd.workflows import settled
from jaxdd.workflows.config import complete, told
from jaxdd.workflows.data import Real

_FIELDS = ("side_by_side", "block", "remat")  # those that change what a run needs


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a method is carried out, as far as that means something to it, and what that costs."""

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
      settings: from the one that should be fastest down to the first that fits, or to the leanest.
      stages: what is run first.
      chosen: the first that fits, with seconds a step; None if none does.
      flags: what to append to the command for it; empty if the config has it already.
      edits: what no flag can say, since the config file lacks the field, as lines of the config.
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
    """Compile the steps of a run, and leaner and leaner ones until they fit; time those that do. Writes nothing.

    It begins with what a run would: with what the config names, and with what "auto" is on these devices.

    Args:
      config: as for `distill`.
      budget: bytes on each device; by default the device's memory, or its share of what the machine has free.

    Raises:
      JaxddError: for anything wrong in the config or the data.
    """
    full = complete(config)
    chosen, steps, hyper = full["data"], full["run"]["steps"], dict(full["method"])
    whole(steps, "steps")
    name = hyper.pop("name")
    settled.check(name, hyper)  # what is misspelt must not cost the data's loading
    budget = engine.memory() if budget is None else budget
    real, execution = Real.of_config(chosen), Execution.of(full["execution"])
    method = real.method(name, settled.settle(name, hyper, real).hyper)
    how = {"seed": full["seed"], "execution": execution}
    with _progress.phase("compiling stages"):
        stages = engine.plan_stages(method, real.stored, config={"data": told(chosen)}, budget=budget, **how)
    with _progress.phase("compiling settings until one fits"):
        fit = engine.fit_to(method, real.stored, budget, **how)
    known = [field for field in method.lean.named() if field in _FIELDS] if isinstance(method, Recipe) else []
    settings = [
        Setting({field: getattr(each.execution, field) for field in known}, each, each is fit.plan)
        for each in fit.tried
    ]
    recommended = settings[-1] if settings[-1].fits else None
    changes = (
        {}
        if recommended is None
        else {field: value for field, value in recommended.options.items() if value != settings[0].options[field]}
    )
    there = config.get("execution", {})  # a flag can only overwrite a field that the config file has
    return Planned(
        title=f"{name} on {real.dataset.name}",
        settings=tuple(settings),
        stages=stages,
        chosen=recommended,
        flags=tuple(f"--config.execution.{field}={value}" for field, value in changes.items() if field in there),
        edits=tuple(f"execution.{field} = {value!r}" for field, value in changes.items() if field not in there),
        steps=steps,
        budget=budget,
    )


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
