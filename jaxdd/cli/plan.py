"""`jaxdd plan`."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from jaxdd.cli import config as configs
from jaxdd.cli.common import no_arguments, show
from jaxdd.cli.speaking import awake
from jaxdd.errors import JaxddError

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from jaxdd import engine, workflows

flags.disclaim_key_flags()
SPEAKS = True
_UNITS = {"": 0, "B": 0, "KIB": 1, "MIB": 2, "GIB": 3, "TIB": 4, "KB": 1, "MB": 2, "GB": 3, "TB": 4}


def define(values: flags.FlagValues) -> None:
    """The flags of this command."""
    configs.define_config(values)
    flags.DEFINE_string(
        "budget", None, "memory of each device, such as 4GiB; by default what there is", flag_values=values
    )
    flags.DEFINE_bool("json", False, "print the result as one JSON object on the last line", flag_values=values)


def run(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """Say what a run will cost in memory and time, and the setting that fits. Writes nothing.

    jaxdd plan --config=kip [--config.method.ipc=10 ..] [--budget=4GiB]
    """
    no_arguments(positional)
    if not values.config:
        raise JaxddError("--config is missing: jaxdd plan --config=kip.")
    budget = None if values.budget is None else parse_bytes(values.budget)
    _, workflows = awake()
    planned = workflows.plan(values.config.to_dict(), budget=budget)
    show(_tables(planned), to_stderr=values.json)
    print(planned.advice(), file=sys.stderr if values.json else sys.stdout)
    if values.json:
        print(json.dumps(planned.as_dict()))


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


def _tables(planned: workflows.Planned) -> Group:
    """The settings, and the facts about the one that is chosen."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from jaxdd.workflows.cost import mib

    title = Text(f"{planned.title}, {mib(planned.budget)} MiB on each device")
    settings = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    settings.add_column("setting", overflow="fold")
    settings.add_column("peak MiB", justify="right")
    settings.add_column("fits")
    for setting in planned.settings:
        cells = (setting.name, mib(setting.plan.peak_bytes), "yes" if setting.fits else "no")
        settings.add_row(*map(Text, cells), style="bold" if setting is planned.chosen else None)
    tables = [settings]
    if planned.stages:
        tables.append(_stages(planned.stages))
    if planned.chosen is None:
        return Group(*tables)
    facts = Table(box=box.SIMPLE, show_header=False, title=Text(planned.chosen.name), title_justify="left")
    for name, value in _facts(planned.chosen.plan, planned.steps).items():
        facts.add_row(Text(name), Text(value))
    return Group(*tables, facts)


def _stages(stages: Sequence[engine.StagePlan]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from jaxdd.report.facts import duration
    from jaxdd.workflows.cost import mib, stage_seconds

    table = Table(title="stages, run first", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("stage")
    for heading in ("steps", "peak MiB", "rows MiB", "time"):
        table.add_column(heading, justify="right")
    for stage in stages:
        peak = "–" if stage.plan is None else mib(stage.plan.peak_bytes)
        seconds = stage_seconds(stage)
        took = "in the cache" if stage.made else "does not fit" if seconds is None else duration(seconds)
        table.add_row(*map(Text, (stage.name, f"{stage.steps:,}", peak, mib(stage.num_bytes), took)))
    return table


def _facts(cost: engine.Plan, steps: int) -> dict[str, str]:
    from jaxdd.report.facts import duration, storage
    from jaxdd.workflows.cost import mib

    seconds = cost.seconds_per_step
    facts = {
        "synthetic set": f"{cost.parameters:,} parameters, {storage(cost.num_bits) or 'bits not known'}",
        "state": f"{cost.state_parameters:,} floating-point numbers",
        "compiled, temporary": f"{mib(cost.temp_bytes)} MiB",
        "compiled, arguments": f"{mib(cost.argument_bytes)} MiB (real data and state)",
        "compiled, output": f"{mib(cost.output_bytes)} MiB, {mib(cost.aliased_bytes)} of it in place of arguments",
        "compilation": duration(cost.compile_seconds),
    }
    if seconds is not None:
        facts["step"] = f"{seconds:.3g} s"
        of_parts = "" if cost.groups == 1 else f"{cost.groups:,} groups of parts, each of "
        facts["run"] = f"{of_parts}{steps} steps, {duration(cost.groups * steps * seconds)} without validation"
    return {**facts, "devices": f"{cost.devices} × {cost.device}"}
