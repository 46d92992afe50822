"""`jaxdd sweep`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from absl import flags

from jaxdd.cli import config as configs
from jaxdd.cli import swept
from jaxdd.cli.common import configured, evaluation_flags, no_arguments, show, under
from jaxdd.cli.distill import EVALUATE
from jaxdd.cli.speaking import awake
from jaxdd.errors import JaxddError

flags.disclaim_key_flags()
parse = swept.parse


def define(values: flags.FlagValues) -> None:
    """The flags of this command."""
    configs.define_config(values)
    swept.define(values)
    flags.DEFINE_string("seeds", "1", "how many, from --config.seed on, or which, as in 0,1,7", flag_values=values)
    flags.DEFINE_string("workdir", None, "directory of all runs and of their table", flag_values=values)
    flags.DEFINE_bool(
        "resume", False, "take points that are finished, go on with the others bit for bit", flag_values=values
    )
    flags.DEFINE_enum("evaluate", "quick", EVALUATE, "how much evaluation at the end of each run", flag_values=values)
    flags.DEFINE_integer(
        "devices", None, "how many devices take points side by side; by default all", lower_bound=1, flag_values=values
    )
    evaluation_flags(values)


def run(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """Distil over a grid of settings and seeds, in one process, and print the table.

    jaxdd sweep --config=kip --sweep.method.learning_rate=0.01,0.04 --seeds=5 --workdir=DIR [--resume]
    """
    no_arguments(positional)
    for name in ("config", "workdir"):
        if not getattr(values, name):
            raise JaxddError(f"--{name} is missing: jaxdd sweep --config=kip --seeds=5 --workdir=DIR.")
    seeds = _seeds(values.seeds)
    _, workflows = awake()
    import jax

    from jaxdd import report

    found = workflows.sweep(
        configured(values),
        values.sweep or {},
        seeds,
        values.workdir,
        resume=values.resume,
        evaluate=values.evaluate,
        full_data=values.full_data,
        devices=jax.local_devices()[: values.devices],
        command=command,
        tell=_tell,
    )
    table = found["table"]
    show(report.tables.terminal(report.runs.content(table), report.runs.title(table)), to_stderr=values.json)
    under(report.runs.sentences(table), to_stderr=values.json)
    taken = sum(point["taken"] for point in found["points"])
    before = f", {taken} of them before" if taken else ""
    took = f"{found['seconds']:.1f} s, of which compiling {found['compile_seconds']:.1f} s"
    under(
        [f"Points: {len(found['points'])}{before}; {took}. {values.workdir}/{workflows.SWEEP}"], to_stderr=values.json
    )
    if values.json:
        print(json.dumps(found))
    if failed := [point for point in found["points"] if point["status"] == "failed"]:
        raise JaxddError(f"{len(failed)} of {len(found['points'])} points failed; --resume tries them again")


def _seeds(text: str) -> int | list[int]:
    """`5` or `0,1,7`."""
    parts = swept.split(text, f"--seeds={text}")
    try:
        numbers = [int(part) for part in parts]
    except ValueError:
        raise JaxddError(f"--seeds={text}: this takes how many, as in 5, or which, as in 0,1,7") from None
    return numbers if len(numbers) > 1 else numbers[0]


def _tell(point: Mapping[str, Any], number: int, total: int) -> None:
    """A line about a point that is done."""
    how = "was done" if point["taken"] else f"{point['seconds']:.1f} s, compiling {point['compile_seconds']:.1f} s"
    said = point["sentence"] if point["status"] == "failed" else how
    print(f"[{number}/{total}] {point['directory']}: {said}", file=sys.stderr, flush=True)
