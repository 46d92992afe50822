"""WebDataset shards: `.tar` files of NAME.png beside NAME.cls or NAME.json, read where they lie."""

from __future__ import annotations

import collections
import dataclasses
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from jaxdd.data.decoded import pictures_of
from jaxdd.data.splits import arguments_of, files_by_split, name_of, numbered, some, warn
from jaxdd.data.streaming import Reading, refusing
from jaxdd.errors import JaxddError

_IMAGES = ("png", "jpg", "jpeg")
_LABELS = ("cls", "json")
_KEYS = ("label", "cls")  # of a label in JSON
_END = 1024  # zero bytes that end an archive


@dataclasses.dataclass(frozen=True)
class _Member:
    """A file within an archive that is not compressed."""

    archive: Path
    name: str
    start: int
    size: int

    def open(self) -> BinaryIO:
        with self.archive.open("rb") as file:
            file.seek(self.start)
            return io.BytesIO(file.read(self.size))

    @property
    def within(self) -> tuple[Path, int, int]:
        return self.archive, self.start, self.size

    def __str__(self) -> str:
        return f"{self.archive}: {self.name}"


def read_shards(path: Path, reading: Reading) -> dict[str, Any]:
    """A shard or a folder of shards as arguments of `from_arrays`.

    Members that are called alike up to the first dot are one example. Words in the names of shards say their splits,
    `train-000000.tar`. Labels are whole numbers, or words, which are then the names of the classes in their order.

    Raises:
      JaxddError: examples without an image or a label, shards that are damaged or compressed.
    """
    files = files_by_split(path, ".tar")
    left_out: collections.Counter[str] = collections.Counter()
    examples = {
        split: [each for file in shards for each in _examples(file, left_out)] for split, shards in files.items()
    }
    if left_out:
        kinds = some(f"{count} {kind or 'nameless'}" for kind, count in sorted(left_out.items()))
        warn(f"{path}: left out members by their endings ({kinds}), as only {', '.join(_IMAGES + _LABELS)} are read")
    labels, names = numbered(str(path), {split: [label for _, label in of] for split, of in examples.items()})
    pairs = {
        split: [(member, int(label)) for (member, _), label in zip(of, labels[split], strict=True)]
        for split, of in examples.items()
    }
    source = {"name": name_of(path), **arguments_of(str(path), pictures_of(name_of(path), pairs, reading))}
    return source | ({"class_names": names} if names else {})


def _examples(file: Path, left_out: collections.Counter[str]) -> list[tuple[_Member, int | str]]:
    """The images of a shard with their labels, in the order in which the archive has them."""
    parts: dict[str, dict[str, _Member]] = collections.defaultdict(dict)
    for member in _members(file):
        folder, slash, base = member.name.rpartition("/")
        stem, _, ending = base.partition(".")
        ending = ending.casefold()
        kind = "image" if ending in _IMAGES else ending if ending in _LABELS else None
        if kind is None:
            left_out[ending] += 1
            continue
        key = f"{folder}{slash}{stem}"
        if kind in parts[key]:
            raise JaxddError(f"{member} is there twice, or beside another image of its name")
        parts[key][kind] = member
    if not parts:
        raise JaxddError(f"{file} holds no {_IMAGES[0]} file with a label: a shard has NAME.png and NAME.cls")
    return [(_image(file, key, members), _label(file, key, members)) for key, members in parts.items()]


def _members(file: Path) -> list[_Member]:
    size = file.stat().st_size
    with refusing(f"{file} is not a readable .tar file"):
        with file.open("rb") as stream:
            if stream.read(2) == b"\x1f\x8b":
                raise JaxddError(f"{file} is compressed, and members are read where they lie: gunzip it")
        with tarfile.open(file, "r:") as archive:
            found = [
                _Member(file, member.name, member.offset_data, member.size)
                for member in archive
                if member.isreg() and not member.issparse() and not Path(member.name).name.startswith(".")
            ]
            end = archive.offset
    if any(member.start + member.size > size for member in found) or size < end + _END // 2:
        raise JaxddError(f"{file} is truncated: its last member or its end is missing")
    with file.open("rb") as stream:
        stream.seek(end)
        while block := stream.read(2**20):
            if block.strip(b"\0"):
                raise JaxddError(f"{file} holds more after its end: archives that are joined must be joined by tar")
    return found


def _image(file: Path, key: str, members: Mapping[str, _Member]) -> _Member:
    if "image" not in members:
        raise JaxddError(f"{file}: {key} has a label and no {' or '.join(_IMAGES)} file")
    return members["image"]


def _label(file: Path, key: str, members: Mapping[str, _Member]) -> int | str:
    if "cls" in members:
        with refusing(f"{members['cls']} is not text"):
            return _number(str(members["cls"]), members["cls"].open().read().decode().strip())
    if "json" not in members:
        raise JaxddError(f"{file}: {key} has an image and neither a .cls nor a .json file with its label")
    with refusing(f"{members['json']} is not JSON"):
        found = json.loads(members["json"].open().read())
    said = [found[name] for name in _KEYS if isinstance(found, dict) and name in found]
    if len(said) != 1:
        raise JaxddError(f"{members['json']} must have one of the keys {', '.join(_KEYS)}")
    return _number(str(members["json"]), said[0])


def _number(what: str, label: Any) -> int | str:
    if isinstance(label, int) and not isinstance(label, bool):
        return label
    if isinstance(label, list):
        raise JaxddError(f"{what} has several labels, and an image has one class here")
    if not isinstance(label, str) or not label:
        raise JaxddError(f"{what} has {label!r} for a label, which is neither a whole number nor a word")
    try:
        return int(label)
    except ValueError:
        return label
