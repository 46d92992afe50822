"""Numbers as people give them: NumPy's scalars are numbers, booleans are none, and arrays are no settings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdd.errors import JaxddError


def whole(value: Any, what: str, least: int = 1) -> int:
    """A whole number, as Python's.

        whole(np.int64(3), "steps")  # 3; True, 3.0 and None are refused

    Raises:
      JaxddError: if it is none, or less.
    """
    if not is_whole(value) or value < least:
        raise JaxddError(f"{what} must be an integer of at least {least}, got {_shown(value)}.")
    return int(value)


def rising(values: Any, what: str) -> tuple[int, ...]:
    """Whole numbers of at least 0 that rise, as Python's; one at least.

        rising([0, 2, 5], "epochs")  # (0, 2, 5)

    Raises:
      JaxddError: if they are none, or do not.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Sequence | np.ndarray):
        raise JaxddError(f"{what} must be whole numbers that rise, got {_shown(values)}.")
    found = tuple(whole(each, what, 0) for each in values)
    if not found or list(found) != sorted(set(found)):
        raise JaxddError(f"{what} must be whole numbers that rise, got {found}.")
    return found


def by_class(value: Any, what: str, least: int = 1) -> int | tuple[int, ...]:
    """One whole number for all classes, of at least 1, or a tuple of one for each, as Python's.

        by_class(np.array([5, 1, 1]), "images per class")  # (5, 1, 1)

    Args:
      least: what the number of a class may be where each has its own.

    Raises:
      JaxddError: if they are none, or less.
    """
    if (isinstance(value, Sequence) and not isinstance(value, str | bytes)) or (
        isinstance(value, np.ndarray) and value.ndim == 1
    ):
        return tuple(whole(each, f"{what}, for class {k},", least) for k, each in enumerate(value))
    return whole(value, what)


def of_each(value: int | Sequence[int], classes: int, what: str) -> tuple[int, ...]:
    """The number of each of so many classes, from what `by_class` gives.

        of_each(2, 3, "images per class")  # (2, 2, 2)

    Raises:
      JaxddError: for a tuple of another length.
    """
    if not isinstance(value, Sequence):
        return (value,) * classes
    if len(value) != classes:
        raise JaxddError(
            f"{what} are given for {len(value)} classes, but there are {classes}: give a number for each, or one for "
            "all."
        )
    return tuple(value)


def seed(value: Any, what: str = "seed") -> int:
    """A seed that JAX takes, 0 to 2**32 - 1, as Python's number; JaxddError for another, by the name it is given."""
    if not is_whole(value) or not 0 <= value < 2**32:
        raise JaxddError(f"{what} must be an integer from 0 to 2**32 - 1, got {_shown(value)}.")
    return int(value)


def positive(value: Any, what: str) -> float:
    """A number above zero, as Python's; JaxddError for another, by the name it is given."""
    if not _is_number(value) or not 0 < value < float("inf"):
        raise JaxddError(f"{what} must be a number above 0, got {_shown(value)}.")
    return float(value)


def share(value: Any, what: str, *, under: bool = False) -> float:
    """A number from 0 to 1, or below 1 if it is to be under that, as Python's; JaxddError for another, by its name."""
    if not _is_number(value) or not 0 <= value <= 1 or (under and value == 1):
        raise JaxddError(f"{what} must be {'from 0 to below 1' if under else 'between 0 and 1'}, got {_shown(value)}.")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether that is an integer, of Python's or NumPy's."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return " ".join(repr(value).split())  # a key is shown on two lines


def jsonable(value: Any, where: str = "config") -> Any:
    """A config of plain numbers, texts, lists and dicts: NumPy's scalars are numbers, paths are texts.

    Args:
      where: what it is called in a sentence.

    Raises:
      JaxddError: for everything else, as an array.
    """
    if isinstance(value, Mapping):
        return {name: jsonable(each, f"{where}.{name}") for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([jsonable(each, f"{where}[{i}]") for i, each in enumerate(value)])
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    what = f"an array of shape {value.shape}" if hasattr(value, "shape") else f"a {type(value).__name__}"
    raise JaxddError(f"{where} is {what}; a config holds numbers, texts, and lists and dicts of them.")
