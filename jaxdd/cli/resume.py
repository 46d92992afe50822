"""`jaxdd resume`."""

from __future__ import annotations

import copy
import pathlib
from typing import Any

from absl import flags

from jaxdd.cli import config as configs
from jaxdd.cli import distill
from jaxdd.cli.common import configured, one_argument
from jaxdd.errors import JaxddError

flags.disclaim_key_flags()
SPEAKS = True


def define(values: flags.FlagValues) -> None:
    """The flags of this command."""
    configs.define_config(values)
    distill.common(values)


def prepare(arguments: list[str]) -> list[str]:
    """The arguments with the config of the run that they name."""
    if any(argument.partition("=")[0] in ("--config", "-config", "--workdir") for argument in arguments):
        raise JaxddError("the run has its config and its directory: jaxdd resume DIR [--config.run.steps=2000 ..].")
    directory = one_argument([each for each in arguments if not each.startswith("-")], "directory of a run")
    from jaxdd.workflows import again

    again.read(directory)  # its sentences before those of a config
    return [f"--config={pathlib.Path(directory) / again.FILE}", *arguments]


def run(values: flags.FlagValues, positional: list[str], command: str) -> None:
    """Go on with a run, evaluate it and write the report: as it was asked for, or with more steps.

    jaxdd resume DIR [--config.run.steps=2000 --evaluate=full ..]
    """
    from jaxdd.workflows import again

    directory = one_argument(positional, "directory of a run")
    asked = again.read(directory)
    # Of the config only what was typed now: that of the run may say less than a complete one, and be the same.
    before = configs.load(str(pathlib.Path(directory) / again.FILE)).to_dict()
    options = {**asked.options, **{name: value for name, value in distill.typed(values).items() if value is not None}}
    config = _changed(asked.config, before, configured(values))
    again.check_data(config, asked)
    distill.carry_out(values, config, directory, options, command)


def _changed(config: dict[str, Any], before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """A config with what is not as before."""
    changed = copy.deepcopy(config)
    for name, value in now.items():
        if isinstance(value, dict):
            changed[name] = _changed(config.get(name, {}), before.get(name, {}), value)
        elif value != before.get(name):
            changed[name] = value
    return changed
