"""`jaxdd distill`."""

from __future__ import annotations

from absl import flags

from jaxdd.cli import config as configs
from jaxdd.cli.common import evaluation_flags, finish, no_arguments
from jaxdd.errors import JaxddError

flags.disclaim_key_flags()
EVALUATE = ("none", "kernel", "quick", "full")  # workflows.EVALUATIONS, without importing it


def define(values: flags.FlagValues) -> None:
    """The flags of this command."""
    configs.define_config(values)
    flags.DEFINE_string("workdir", None, "directory for the run and its results", flag_values=values)
    flags.DEFINE_bool("resume", False, "go on with the run in --workdir, bit for bit", flag_values=values)
    flags.DEFINE_enum("evaluate", "quick", EVALUATE, "how much evaluation at the end", flag_values=values)
    flags.DEFINE_bool("tensorboard", False, "also write TensorBoard files", flag_values=values)
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
    from jaxdd import engine, workflows

    no_arguments(positional)
    for name in ("config", "workdir"):
        if not getattr(values, name):
            raise JaxddError(f"--{name} is missing: jaxdd distill --config=kip --workdir=DIR.")
    if values.distributed:
        engine.connect(None if values.distributed == "auto" else values.distributed)
    outcome = workflows.distill(
        values.config.to_dict(),
        values.workdir,
        resume=values.resume,
        evaluate=values.evaluate,
        full_data=values.full_data,
        tensorboard=values.tensorboard,
        command=command,
    )
    if not engine.is_first():
        return
    finish(values, outcome, f"{values.workdir}: {outcome.summary}")
    if not values.json:
        print(f"{outcome.path}\n{outcome.path.parent / 'report.html'}")
