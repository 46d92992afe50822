"""What was asked for, beside a run, so that it need not be typed again."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxdd._files import expanded, read_object, write_atomically
from jaxdd.data.sources import located
from jaxdd.errors import JaxddError

FILE = "command.json"


class Asked(NamedTuple):
    """What a run was asked for."""

    config: dict[str, Any]
    """Complete."""
    options: dict[str, Any]
    """Keywords of `distill` that are no config."""
    folder: str = ""
    """Where it was asked for, which relative paths are of."""


def write(workdir: pathlib.Path, config: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Write down what is asked for, in the directory of its run."""
    asked = {"config": config, "options": options, "folder": os.getcwd()}
    write_atomically(workdir / FILE, json.dumps(asked, indent=2) + "\n")


def read(workdir: str | os.PathLike) -> Asked:
    """What the run in a directory was asked for.

    Raises:
      JaxddError: if the directory holds none, or what it says cannot be read.
    """
    path = expanded(workdir) / FILE
    if not path.exists():
        raise JaxddError(f"{workdir} holds no {FILE}: no run of jaxdd has begun there.")
    found = read_object(path) or {}
    folder = found.get("folder", "")
    if not all(isinstance(found.get(part), dict) for part in ("config", "options")) or not isinstance(folder, str):
        raise JaxddError(f"{path} is damaged; give the whole command with --resume.")
    return Asked(found["config"], found["options"], folder)


def check_data(config: Mapping[str, Any], asked: Asked) -> None:
    """Refuse data by a relative path that is one where the run was begun, and none here.

    Args:
      config: of the run as it goes on.

    Raises:
      JaxddError: which says where that is.
    """
    for field in ("name", "keep"):
        path = config.get("data", {}).get(field)
        if path and asked.folder and located(path) is None and (pathlib.Path(asked.folder) / path).exists():
            raise JaxddError(
                f"config.data.{field} is {path}, which lies in {asked.folder}, where this run was begun: go on with it "
                f"there, or add --config.data.{field}=PATH."
            )
