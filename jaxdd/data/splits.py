"""Splits by their names: which files and arrays are train, validation or test, and what becomes of each."""

from __future__ import annotations

import collections
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdd.errors import JaxddError, printable

_LOG = logging.getLogger("jaxdd")
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
}
UNNAMED = ""
"""The split of what says none."""
_NAMED = 8  # of many


def split_in(name: str) -> str:
    """The split that the words of a file's name say, as "train-00000-of-00002"; `UNNAMED` if none or several do."""
    said = {SPLITS[word] for word in re.split(r"[-_.\s]+", name.casefold()) if word in SPLITS}
    return said.pop() if len(said) == 1 else UNNAMED


def arguments_of(what: str, splits: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Arguments of `from_arrays` from splits by their names, each `{"x": images, "y": labels}`.

    A single split is all there is, whatever its name. Of several, "train" is what is trained on and "test" what is
    tested on; "validation" is the validation split where there is a test split, and else the test split, which is said.

    Raises:
      JaxddError: for several splits of which none is called train.
    """
    found = {SPLITS.get(name.casefold(), name): split for name, split in splits.items()}
    if len(found) == 1:
        return dict(next(iter(found.values())))
    if "train" not in found:
        names = some(found)
        raise JaxddError(f"{what} has the splits {names}, and none is called 'train': rename the one to train on")
    suffixes = {"train": "", "test": "_test", "validation": "_validation"}
    if "validation" in found and "test" not in found:
        warn(f"{what} has no test split, so its validation split is tested on; validation is cut from train")
        suffixes["validation"] = "_test"
    return {
        f"{part}{suffix}": value for name, suffix in suffixes.items() for part, value in found.get(name, {}).items()
    }


def known(what: str, names: Iterable[str]) -> list[str]:
    """The splits that are read, of some with these names; others are left out with a warning. A single one is read."""
    names = list(names)
    beside = [name for name in names if name.casefold() not in SPLITS] if len(names) > 1 else []
    if beside:
        warn(f"{what}: left out {some(beside)}, as only the splits train, validation and test are read")
    return [name for name in names if name not in beside]


def files_by_split(path: Path, ending: str) -> dict[str, list[Path]]:
    """The files of a path, itself or those below it with this ending, by the splits that their names say.

    Raises:
      JaxddError: for names of which only some say a split, or a split in several folders.
    """
    if path.is_file():
        return {UNNAMED: [path]}
    found: dict[str, list[Path]] = collections.defaultdict(list)
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        if file.suffix.lower() != ending or any(part.startswith(".") for part in inside.parts):
            continue
        said = [split_in(part) for part in (inside.stem, *reversed(inside.parts[:-1]))]
        found[next(filter(None, said), UNNAMED)].append(file)
    if UNNAMED in found and len(found) > 1:
        raise JaxddError(
            f"{path}: {found[UNNAMED][0].relative_to(path)} does not say of which split it is, and others do: name it "
            "train, test or validation, or move it away"
        )
    for split, files in found.items():
        folders = list(dict.fromkeys(file.parent.relative_to(path) for file in files))
        if len(folders) > 1:
            raise JaxddError(
                f"{path} has files of {f'the split {split}' if split else 'a data set'} in several folders, "
                f"{folders[0]} and {folders[1]}: give the path of one of them"
            )
    return {split: found[split] for split in sorted(found, key=("train", "test", "validation", UNNAMED).index)}


def name_of(path: Path) -> str:
    """What data are called that lie at a path."""
    return path.stem if path.is_file() else path.resolve().name


def numbered(what: str, labels: dict[str, list[int | str]]) -> tuple[dict[str, np.ndarray], list[str] | None]:
    """Labels of each split as numbers, and the names of the classes where they were words: in the order of the words.

    Raises:
      JaxddError: words beside numbers.
    """
    everything = [label for of_split in labels.values() for label in of_split]
    words = sorted({label for label in everything if isinstance(label, str)})
    if not words:
        return {split: np.array(of_split, np.int64) for split, of_split in labels.items()}, None
    if len(words) < len(set(everything)):
        raise JaxddError(f"{what} has labels that are words, {words[0]!r}, beside such that are numbers")
    place = {word: number for number, word in enumerate(words)}
    return {split: np.array([place[str(label)] for label in of], np.int64) for split, of in labels.items()}, words


def some(names: Iterable[str]) -> str:
    """The first few of many names, in words."""
    names = list(names)
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def warn(sentence: str) -> None:
    """Say something that is no error; "" says nothing."""
    if sentence:
        _LOG.warning("%s.", printable(sentence))
