"""Rounds that are done, a line each in a file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

import jaxdd
from jaxdd._files import disk_errors, expanded, write_lines
from jaxdd.errors import JaxddError

LOG = "queries.jsonl"
_FORMAT_VERSION = 2
"""Of 1 the rows were numbered after data were held out."""


class Rounds:
    """The rounds of queries that are done, in a file if there is a directory; its first line says of what they are.

    Args:
      workdir: where `queries.jsonl` lies; None for nowhere.
      about: JSON-able, what all rounds depend on, as far as it is known before anything is asked; see `depend_on`.
      numbers: int `(n,)`, the rows that may be asked.

    Attributes:
      done: JSON-able, in their order, see `workflows.ask`.

    Raises:
      JaxddError: for a file there with something else.
    """

    def __init__(self, workdir: str | os.PathLike | None, about: Mapping[str, Any], numbers: np.ndarray):
        self._path = None if workdir is None else expanded(workdir) / LOG
        version = {"format_version": _FORMAT_VERSION, "jaxdd_version": jaxdd.__version__}
        self._found: Any = None
        self._header = json.loads(json.dumps({**version, **about}))
        self.done: list[dict[str, Any]] = []
        if self._path is None or not self._path.exists():
            return
        with disk_errors(self._path):
            text = self._path.read_text(errors="replace")
        try:
            self._found, *self.done = map(json.loads, text.splitlines())
            told = {name: self._found.get(name) for name in version}
            asked = {row for each in self.done for row in each["asked"]}
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise JaxddError(f"{self._path} does not hold rounds of queries: take another directory.") from error
        if told != version:
            raise JaxddError(
                f"{self._path} was written by another version of jaxdd, which may count rows or draw otherwise: take "
                "another directory."
            )
        if not asked <= set(numbers.tolist()):
            raise self._others()
        self.depend_on({})

    def depend_on(self, facts: Mapping[str, Any]) -> None:
        """What they depend on besides: JaxddError if those in the file depend on something else."""
        facts = json.loads(json.dumps(facts))
        self._header = {**self._header, **facts}
        if self._found is not None and any(self._found.get(name) != value for name, value in self._header.items()):
            raise self._others()

    def _others(self) -> JaxddError:
        return JaxddError(f"{self._path} holds rounds of another config, data or teacher: take another directory.")

    def add(self, row: dict[str, Any]) -> None:
        """A round is done."""
        self.done.append(row)
        if self._path is not None:
            write_lines(self._path, [self._header, *self.done])
