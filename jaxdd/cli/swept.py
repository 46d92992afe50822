"""`--sweep.SECTION.FIELD=a,b,c`: values of a config's field, each as the field's own flag takes it."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxdd.cli import config as configs
from jaxdd.errors import JaxddError

flags.disclaim_key_flags()
_CLOSED_BY = {"(": ")", "[": "]", "{": "}", "'": "'", '"': '"'}


def define(values: flags.FlagValues) -> None:
    """The flag --sweep, which becomes `{field: values}` once the config is known."""
    flags.DEFINE_string(
        "sweep",
        None,
        "--sweep.SECTION.FIELD=a,b,c: values of a field of the config; of several fields every combination",
        flag_values=values,
    )


def parse(values: flags.FlagValues, command: str, arguments: Sequence[str]) -> list[str]:
    """As `config.parse`, of a command that has the flag --sweep as well.

    Raises:
      JaxddError: for a field that the config has not, is there twice or set as well, or a value that it does not take.
    """
    rest, swept = _taken_out(arguments)
    positional = configs.parse(values, command, rest)
    if values.sweep is not None:
        raise JaxddError("--sweep needs a field: --sweep.method.learning_rate=0.01,0.04.")
    if isinstance(values.config, ConfigDict):
        for field in swept:
            configs.check_field(f"--config.{field}", values.config)
        values.sweep = {field: values_of(values.config, field, text) for field, text in swept.items()}
    return positional


def _taken_out(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Arguments without those of --sweep, and these by their fields."""
    rest, found = [], {}
    for argument in arguments:
        name, equals, text = re.sub(r"^--?", "--", argument, count=1).partition("=")
        field = name.removeprefix("--sweep.")
        if not argument.startswith("-") or field == name:
            rest.append(argument)
            continue
        if field == "seed":
            raise JaxddError("seeds are swept by --seeds=5, from --config.seed on, or --seeds=0,1,7.")
        if not equals:
            raise JaxddError(f"{name} needs its values: {name}=a,b,c.")
        if field in found:
            raise JaxddError(f"{name} is there 2 times: give it once.")
        found[field] = text
    for argument in rest:
        field = argument.partition("=")[0].lstrip("-").removeprefix("config.")
        if field in found:
            raise JaxddError(f"{field} is both set and swept: leave --config.{field} out.")
    return rest, found


def values_of(config: ConfigDict, field: str, text: str) -> list[Any]:
    """The values of `--sweep.FIELD=TEXT`.

    Raises:
      JaxddError: for one that the field does not take.
    """
    found = []
    for part in split(text, f"--sweep.{field}={text}"):
        values, line = flags.FlagValues(), ["jaxdd sweep", f"--config.{field}={part}"]
        try:
            with configs.argv(line):
                config_flags.DEFINE_config_dict("config", copy.deepcopy(config), flag_values=values)
                values(line)
        except Exception as error:  # whatever absl and ml_collections raise
            raise JaxddError(configs.said_of_value(str(error)).replace("--config.", "--sweep.")) from error
        value: Any = values.config
        for name in field.split("."):
            value = value[name]
        found.append(value)
    return found


def split(text: str, where: str) -> list[str]:
    """The parts of a list `a,b,c`; commas in brackets and quotes do not part.

        split("convnet(width=32,depth=3),mlp", "--sweep.method.model")  # ["convnet(width=32,depth=3)", "mlp"]

    Raises:
      JaxddError: for a part that is empty, or brackets that do not close.
    """
    parts, missing = [""], ""
    for letter in text:
        if letter == "," and not missing:
            parts.append("")
            continue
        parts[-1] += letter
        if letter == missing[-1:]:
            missing = missing[:-1]
        elif letter in _CLOSED_BY and missing[-1:] not in ("'", '"'):
            missing += _CLOSED_BY[letter]
    if missing:
        raise JaxddError(f"{where}: a {missing[-1]} is missing.")
    parts = [part.strip() for part in parts]
    if not all(parts):
        raise JaxddError(f"{where}: a value is missing beside a comma.")
    return parts
