"""The sets by name."""

from __future__ import annotations

import pathlib

from jaxdd.errors import unknown
from jaxdd.sets.table import SETS
from jaxdd.synthetic import DistilledDataset

_FOLDER = pathlib.Path(__file__).parent


def available() -> dict[str, str]:
    """Every set, and a line about it."""
    return {name: row.about for name, row in SETS.items()}


def path(name: str) -> pathlib.Path:
    """The file of a set. Raises JaxddError for an unknown name, suggesting the nearest."""
    if name not in SETS:
        raise unknown("set", name, SETS)
    return _FOLDER / f"{name}.safetensors"


def load(name: str) -> DistilledDataset:
    """A set with its preprocessing, labels and provenance; `SETS[name]` says how it was made and what it reaches.

    Raises:
      JaxddError: for an unknown name, suggesting the nearest.
    """
    return DistilledDataset.read(path(name))
