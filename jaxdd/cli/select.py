"""`jaxdd select`."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from jaxdd._files import expanded
from jaxdd.cli import config as configs
from jaxdd.cli.common import configured, evaluation_flags, finish, no_arguments
from jaxdd.cli.speaking import awake
from jaxdd.errors import JaxddError, unknown

flags.disclaim_key_flags()
SPEAKS = True


def define(values: flags.FlagValues) -> None:
    """The flags of this command."""
    configs.define_config(values)
    flags.DEFINE_integer("ipc", None, "examples of each class", lower_bound=1, flag_values=values)
    flags.DEFINE_float("fraction", None, "share of all examples, of each class alike", flag_values=values)
    flags.DEFINE_string("workdir", None, "directory of the selection, its report and scores", flag_values=values)
    flags.DEFINE_enum(
        "evaluate", "quick", ("none", "quick", "full"), "how much evaluation afterwards", flag_values=values
    )
    evaluation_flags(values)


def prepare(arguments: Sequence[str]) -> list[str]:
    """`--config=herding` is that rule of `configs/selection/rules.py`, unless there is a file of this name."""
    known, found = configs.rules(), []
    for argument in arguments:
        name = argument.removeprefix("--config=")
        if name != argument and not expanded(name.partition(":")[0]).is_file():
            if name.partition(":")[0] in configs.shipped():
                raise JaxddError(f"{name} distils a set: jaxdd distill --config={name}")
            if name not in known:
                raise unknown("selection (neither a file nor the name of a rule)", name, known)
            argument = f"--config={known[name]}"
        found.append(argument)
    return found


def run(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """Choose some of the real data, evaluate them as a distilled set is evaluated, and report.

    jaxdd select --config=herding --ipc=10 --workdir=DIR [--config.data.name=..] [--fraction=0.1]
    """
    no_arguments(positional)
    for name in ("config", "workdir"):
        if not getattr(values, name):
            raise JaxddError(f"--{name} is missing: jaxdd select --config=herding --ipc=10 --workdir=DIR.")
    config = configured(values)
    if "select" not in config:
        raise JaxddError("this config says how to distil, not what to select: jaxdd distill takes it.")
    for name in ("ipc", "fraction"):
        if (given := getattr(values, name)) is not None:
            config["select"][name] = given
    _, workflows = awake()
    outcome = workflows.select(
        config, values.workdir, evaluate=values.evaluate, full_data=bool(values.full_data), command=command
    )
    finish(values, outcome, f"{values.workdir}: {outcome.summary}")
    if not values.json:
        print(f"{outcome.path}: {outcome.result['num_images']} examples, chosen in {outcome.result['seconds']:.1f} s")
