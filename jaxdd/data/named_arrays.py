"""Arrays by their names: `.npz` files, folders of `.npy` files, and dicts."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdd.data.splits import SPLITS, UNNAMED, arguments_of, some, warn
from jaxdd.data.streaming import Reading, refusing
from jaxdd.errors import JaxddError

KEYS = "x_train, y_train, x_test and y_test (or x_train, y_train; or x, y)"
FILES = "x_train.npy, y_train.npy, x_test.npy and y_test.npy"
_KINDS = {
    **dict.fromkeys(("x", "images", "image", "data"), "x"),
    **dict.fromkeys(("y", "labels", "label", "targets", "target"), "y"),
}
_FACTS = ("class_names", "license")


def is_known(key: str) -> bool:
    """Whether an array of this name is one of a data set."""
    return key in _FACTS or _place(key) is not None


def _place(key: str) -> tuple[str, str] | None:
    """The split and the kind, "x" or "y", that a name says: "x_train", "train_images", "labels"; None if it is none."""
    words = key.casefold().split("_")
    kinds, splits = ([known[word] for word in words if word in known] for known in (_KINDS, SPLITS))
    if len(kinds) != 1 or len(splits) != len(words) - 1 or len(words) > 2:
        return None
    return (splits[0] if splits else UNNAMED), kinds[0]


def from_mapping(arrays: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Arrays by their names as arguments of `from_arrays`.

    Raises:
      JaxddError: no images with labels to train on, two arrays for one place, or class names that are none.
    """
    splits: dict[str, dict[str, str]] = {}
    left_out = []
    for key in map(str, arrays):
        place = _place(key)
        if place is None:
            left_out += [key] if key not in _FACTS else []
            continue
        split, kind = place
        taken = splits.setdefault(split, {}).setdefault(kind, key)
        if taken != key:
            raise JaxddError(f"{what} holds both {taken} and {key}, which mean the same; leave one of them out")
    if len(splits.get("train", {})) == 2:
        left_out += splits.pop(UNNAMED, {}).values()
    else:
        splits["train"] = splits.pop(UNNAMED, {})
    if len(splits["train"]) < 2:
        raise JaxddError(f"{what} must hold {KEYS}; it holds {', '.join(sorted(map(str, arrays))) or 'nothing'}")
    if left_out:
        warn(f"{what}: left out {len(left_out)} of its arrays ({some(sorted(left_out))}), as only {KEYS} are read")
    found = {split: {kind: arrays[key] for kind, key in keys.items()} for split, keys in splits.items()}
    return arguments_of(what, found) | _facts(arrays, what)


def _facts(arrays: Mapping[str, Any], what: str) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if "class_names" in arrays:
        names = np.asarray(arrays["class_names"])
        if names.ndim != 1 or names.dtype.kind != "U":
            raise JaxddError(f"{what}: class_names must be a vector of strings")
        facts["class_names"] = names.tolist()
    if "license" in arrays:
        facts["license"] = str(arrays["license"])
    return facts


def is_npy_folder(folder: Path) -> bool:
    """Whether arrays of a data set lie in a folder, each in its file."""
    return any(_place(file.stem) for file in folder.glob("*.npy"))


def read_npy_folder(folder: Path, reading: Reading) -> dict[str, Any]:
    """The npz layout as one `.npy` file for each member; the images are mapped if they are to be streamed."""
    arrays = {}
    for file in sorted(folder.glob("*.npy")):
        place = _place(file.stem)
        mode = "r" if reading.stream and place and place[1] == "x" else None
        with refusing(f"{file} is not a readable .npy file of a plain array"):
            arrays[file.stem] = np.load(file, mmap_mode=mode) if is_known(file.stem) else None
    return {"name": folder.resolve().name, **from_mapping(arrays, str(folder))}


def read_npz(path: Path, reading: Reading) -> dict[str, Any]:
    """The arrays of an `.npz` file; nothing in it is unpickled."""
    if reading.stream:
        raise JaxddError(
            f"{path} cannot be streamed, as the arrays in an .npz file cannot be mapped: unpack it with "
            f"`python -m zipfile -e {path.name} FOLDER` and give that folder of {FILES}"
        )
    with refusing(f"{path} is not a readable .npz file of plain arrays"):
        arrays = {}
        with zipfile.ZipFile(path) as archive:
            if len(archive.namelist()) != _promised_members(path):
                raise ValueError("its directory is damaged")
            for member in archive.namelist():
                key = member.removesuffix(".npy")
                # Not np.load: a damaged header may ask for too little, and then the checksum would never be read.
                with archive.open(member) as file:
                    if not is_known(key):
                        arrays[key] = None  # only its name, for the message; what else lies there stays unread
                        continue
                    arrays[key] = np.lib.format.read_array(file, allow_pickle=False)
                    if file.read(1):
                        raise ValueError(f"array {key!r} is longer than its header says")
    return {"name": path.stem, **from_mapping(arrays, str(path))}


def _promised_members(path: Path) -> int:
    """How many members the end record of a zip file says it has; zipfile reads it and does not compare."""
    with path.open("rb") as file:
        file.seek(-22, os.SEEK_END)
        end = file.read()
    if end[:4] != b"PK\5\6":
        raise ValueError("it does not end as an .npz file does")
    return int.from_bytes(end[10:12], "little")
