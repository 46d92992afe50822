"""The points of a sweep: a config for each setting of a grid and each seed, and the directory of each."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxdd._numbers import jsonable, whole
from jaxdd.errors import JaxddError
from jaxdd.report.runs import short_names
from jaxdd.workflows.config import check_seed

_LONGEST = 120  # letters of a directory's name
_KEPT = " !#$&'()*+,-.:;<=>?@[]^_`{|}~\""  # what needs no escape in one


class Point(NamedTuple):
    """A run of a sweep.

    Attributes:
      settings: what the grid sets, by dotted names.
      config: as `distill` takes it, with its seed.
      directory: below the sweep's, with slashes.
    """

    settings: dict[str, Any]
    config: dict[str, Any]
    directory: str

    @property
    def program(self) -> str:
        """Points of the same are compiled once: they differ in nothing but their seeds."""
        return key_of({name: value for name, value in self.config.items() if name != "seed"})

    @property
    def data(self) -> str:
        """Points of the same have the same data."""
        return key_of(self.config.get("data", {}))


def key_of(value: Any) -> str:
    """Equal texts for equal JSON-able values."""
    return json.dumps(value, sort_keys=True)


def points_of(config: Mapping[str, Any], grid: Mapping[str, Sequence[Any]], seeds: int | Sequence[int]) -> list[Point]:
    """The points of a grid, those with the same data and then those with the same settings behind each other.

        [point.directory for point in points_of(config, {"method.ipc": [1, 10]}, 2)]
        # ["ipc=1/seed=0", "ipc=1/seed=1", "ipc=10/seed=0", "ipc=10/seed=1"]

    Args:
      config: nested plain dicts.
      grid: values of fields, by dotted names; of several fields every combination.
      seeds: how many, from `config["seed"]` on, or which.

    Raises:
      JaxddError: for a field that is no `SECTION.FIELD`, none or equal values, or seeds that are none.
    """
    config = jsonable(config)
    grid = {field: _values(field, values) for field, values in grid.items()}
    numbers = seeds_of(config.get("seed", 0), seeds)
    names = short_names(list(grid))
    found = []
    for values in itertools.product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        folders = [_folder(names[field], value) for field, value in settings.items()]
        changed = with_settings(config, settings)
        found += [Point(settings, {**changed, "seed": seed}, "/".join([*folders, f"seed={seed}"])) for seed in numbers]
    first = {data: i for i, data in reversed(list(enumerate(point.data for point in found)))}
    return sorted(found, key=lambda point: first[point.data])


def with_settings(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A config with some fields set, by dotted names."""
    changed = copy.deepcopy(dict(config))
    for field, value in settings.items():
        *sections, last = field.split(".")
        place = changed
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise JaxddError(f"{field!r} of the grid: config.{section} holds no fields.")
        place[last] = value
    return changed


def seeds_of(first: Any, seeds: int | Sequence[int]) -> list[int]:
    """So many seeds from the first one on, or those that are named."""
    if isinstance(seeds, Iterable) and not isinstance(seeds, str):
        found = [check_seed(seed, "seeds") for seed in seeds]
    else:
        count, first = whole(seeds, "seeds"), check_seed(first)
        found = [check_seed(first + i) for i in range(count)]
    if not found or len(set(found)) < len(found):
        raise JaxddError(f"seeds must be different numbers, at least one, got {found}.")
    return found


def _values(field: str, values: Sequence[Any]) -> list[Any]:
    if field == "seed":
        raise JaxddError("seeds are no field of the grid: give them as seeds.")
    if "." not in field or not all(field.split(".")):
        raise JaxddError(f"a field of the grid is named SECTION.FIELD, as 'method.ipc', got {field!r}.")
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise JaxddError(f"{field} of the grid must be a list of values, got {values!r}.")
    found = [jsonable(value, f"{field} of the grid") for value in values]
    texts = [_text(value) for value in found]
    for text in texts:
        if texts.count(text) > 1:
            raise JaxddError(f"{field} of the grid has {text} {texts.count(text)} times: name it once.")
    return found


def _folder(name: str, value: Any) -> str:
    """`learning_rate=0.01`; what no file's name can hold is escaped, and what is too long is cut."""
    folder = urllib.parse.quote(f"{name}={_text(value)}", safe=_KEPT)
    if len(folder) <= _LONGEST:
        return folder
    return f"{folder[:_LONGEST]}~{hashlib.sha256(folder.encode()).hexdigest()[:8]}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value).replace(" ", "")
