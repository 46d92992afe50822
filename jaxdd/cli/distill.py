"""`jaxdd distill`."""

from __future__ import annotations

import os
from typing import Any

from absl import flags

from jaxdd.cli import config as configs
from jaxdd.cli.common import configured, evaluation_flags, finish, no_arguments
from jaxdd.cli.speaking import awake
from jaxdd.errors import JaxddError

flags.disclaim_key_flags()
EVALUATE = ("none", "kernel", "quick", "full")  # workflows.EVALUATIONS, without importing it
SPEAKS = True


def define(values: flags.FlagValues) -> None:
    """The flags of this command."""
    configs.define_config(values)
    flags.DEFINE_string("workdir", None, "directory for the run and its results", flag_values=values)
    flags.DEFINE_bool("resume", False, "go on with the run in --workdir, bit for bit", flag_values=values)
    common(values)


def common(values: flags.FlagValues) -> None:
    """The flags of a run that begins and of one that goes on."""
    flags.DEFINE_enum(
        "evaluate", None, EVALUATE, "how much evaluation at the end; by default quick", flag_values=values
    )
    flags.DEFINE_bool("tensorboard", None, "also write TensorBoard files", flag_values=values)
    flags.DEFINE_string(
        "callback",
        None,
        "package.module:function, called as function(step, metrics, state) at every logged step: for W&B and others",
        flag_values=values,
    )
    flags.DEFINE_string(
        "distributed",
        None,
        "one of several processes that share the run: auto (SLURM, Open MPI, Cloud TPU, Kubernetes) or "
        "HOST:PORT,COUNT,INDEX",
        flag_values=values,
    )
    evaluation_flags(values)


def run(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """Distil a data set as a config says, evaluate it and write the report.

    jaxdd distill --config=kip --workdir=DIR [--config.method.ipc=10 ..] [--resume]
    """
    no_arguments(positional)
    for name in ("config", "workdir"):
        if not getattr(values, name):
            raise JaxddError(f"--{name} is missing: jaxdd distill --config=kip --workdir=DIR.")
    options = {name: value for name, value in typed(values).items() if value is not None}
    carry_out(values, configured(values), values.workdir, options, command, resume=values.resume)


def typed(values: flags.FlagValues) -> dict[str, Any]:
    """What the common flags say, as keywords of `workflows.distill`; None where nobody has said anything."""
    return {name: getattr(values, name) for name in ("evaluate", "full_data", "tensorboard", "callback")}


def carry_out(
    values: flags.FlagValues,
    config: dict[str, Any],
    workdir: str | os.PathLike,
    options: dict[str, Any],
    command: str,
    *,
    resume: bool = True,
) -> None:
    """Distil, and show what comes of it."""
    engine, workflows = awake(values.distributed)
    outcome = workflows.distill(config, workdir, resume=resume, command=command, **options)
    if engine.is_first():
        finish(values, outcome, f"{workdir}: {outcome.summary}")
        if not values.json:
            print(f"{outcome.path}\n{outcome.path.parent / 'report.html'}")
