"""Numbers as people give them: NumPy's scalars are numbers, booleans are none, and arrays are no settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdd.errors import JaxddError


def whole(value: Any, what: str, least: int = 1, below: int | None = None) -> int:
    """A whole number, as Python's.

        whole(np.int64(3), "steps")  # 3; True, 3.0 and None are refused

    Raises:
      JaxddError: if it is none, or not in the range.
    """
    number = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not number or value < least or (below is not None and value >= below):
        span = f"of at least {least}" if below is None else f"from {least} to {_in_words(below)} - 1"
        raise JaxddError(f"{what} must be an integer {span}, got {' '.join(repr(value).split())}.")
    return int(value)


def _in_words(number: int) -> str:
    power = number.bit_length() - 1
    return f"2**{power}" if number == 2**power and power > 10 else str(number)


def plain(value: Any, where: str = "config") -> Any:
    """A config of plain numbers, texts, lists and dicts: NumPy's scalars are numbers, paths are texts.

    Args:
      where: what it is called in a sentence.

    Raises:
      JaxddError: for everything else, as an array.
    """
    if isinstance(value, Mapping):
        return {name: plain(each, f"{where}.{name}") for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([plain(each, f"{where}[{i}]") for i, each in enumerate(value)])
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    what = f"an array of shape {value.shape}" if hasattr(value, "shape") else f"a {type(value).__name__}"
    raise JaxddError(f"{where} is {what}; a config holds numbers, texts, and lists and dicts of them.")
