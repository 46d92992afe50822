"""What was asked for, beside a run, so that it need not be typed again."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxdd._files import expanded, read_object, write_atomically
from jaxdd.errors import JaxddError

FILE = "command.json"


class Asked(NamedTuple):
    """What a run was asked for."""

    config: dict[str, Any]
    """Complete."""
    options: dict[str, Any]
    """Keywords of `distill` that are no config."""


def write(workdir: pathlib.Path, config: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Write down what is asked for, in the directory of its run."""
    write_atomically(workdir / FILE, json.dumps({"config": config, "options": options}, indent=2) + "\n")


def read(workdir: str | os.PathLike) -> Asked:
    """What the run in a directory was asked for.

    Raises:
      JaxddError: if the directory holds none, or what it says cannot be read.
    """
    path = expanded(workdir) / FILE
    if not path.exists():
        raise JaxddError(f"{workdir} holds no {FILE}: no run of jaxdd has begun there.")
    found = read_object(path) or {}
    if not all(isinstance(found.get(part), dict) for part in Asked._fields):
        raise JaxddError(f"{path} is damaged; give the whole command with --resume.")
    return Asked(found["config"], found["options"])
