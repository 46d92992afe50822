"""Folders of images. Which layout one has is said by the names in it: recognised, or refused by name; never guessed."""

from __future__ import annotations

import collections
import dataclasses
import os
import re
from collections.abc import Iterable
from pathlib import Path

from jaxdd.data.plausible import check_text
from jaxdd.data.splits import SPLITS
from jaxdd.errors import JaxddError

READ = (".png", ".jpg", ".jpeg")
# Pictures that people keep beside those: counted and named, so that none is missed without a word.
_UNREAD = (
    *(".jfif", ".jpe", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".apng"),
    *(".avif", ".heic", ".heif", ".jp2", ".ppm", ".pgm", ".pbm"),
)
_JPEG = (".jfif", ".jpe")  # by another name
_LIKE_SPLITS = re.compile(r"(train|training|test|testing|val|valid|validation)(set|data|images?|imgs?)?(?![a-z])")
_ALSO_CLASSES = ("train", "valid")  # a vehicle, and what a coupon is: classes where they stand among others
_NO_CLASSES = ("images", "image", "imgs", "img", "labels", "label", "masks", "annotations")  # but kinds of files
_LITTER = ("__macosx",)  # what archivers leave
_NAMED = 3  # of many
_WRAPPERS = 8  # a bound, since links may run in a circle


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a folder holds.

    Attributes:
      classes: their names, in the order of the labels.
      files: by split, "train", perhaps "test" and "validation": files with their labels.
      left_out: one sentence on pictures that are not read, or "".
    """

    classes: list[str]
    files: dict[str, list[tuple[str, int]]]
    left_out: str


def recognise(root: Path) -> Layout:
    """The layout of a folder: class folders, in `root` or in its folders for training and testing.

    A class folder holds its files, or has one folder `images` that does. A folder that is alone in another, as archives
    unpack to, is passed through.

    Raises:
      JaxddError: if it is none of these, with what to rename or to move.
    """
    left = _LeftOut(root)
    splits = _splits(_inner(_Folder.of(root)), left)
    for split, folder in splits.items():
        _check_has_classes(split, folder)
    classes = [path.name for path in splits["train"].folders]
    labels = {name: label for label, name in enumerate(classes)}
    for path in (path for folder in splits.values() for path in folder.folders):
        check_text(f"the name of class folder {path}", path.name, "rename it")
        if path.name not in labels:
            raise JaxddError(f"{path} is a class that {splits['train'].path} does not have; rename or move it")
    files = {
        split: [(file, labels[path.name]) for path in folder.folders for file in _class_files(path, left)]
        for split, folder in splits.items()
    }
    if len(classes) < 2:
        raise JaxddError(
            f"{splits['train'].path} has a single class folder, {classes[0]}; a data set needs at least 2 classes, "
            "each with a folder of its own"
        )
    return Layout(classes, files, left.sentence())


@dataclasses.dataclass(frozen=True)
class _Folder:
    """What a folder has, without what is hidden or litter: PNG and JPEG files, other files, folders; by name."""

    path: Path
    images: list[str]
    others: list[str]
    folders: list[Path]

    @classmethod
    def of(cls, path: Path) -> _Folder:
        images, others, folders = [], [], []
        with os.scandir(path) as entries:
            for entry in entries:
                if _is_litter(entry.name):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.is_file() or entry.is_symlink():  # a link to nothing is a file that has vanished
                    (images if _suffix(entry.name) in READ else others).append(entry.name)
        return cls(path, sorted(images), sorted(others), [path / name for name in sorted(folders)])


class _LeftOut:
    """Counts and first names of pictures that are not read."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._counts: collections.Counter[str] = collections.Counter()
        self._names: dict[str, list[str]] = collections.defaultdict(list)

    def add(self, kind: str, folder: Path, names: Iterable[str]) -> None:
        for name in names:
            self._counts[kind] += 1
            if len(self._names[kind]) < _NAMED:
                self._names[kind].append(os.path.relpath(folder / name, self._root))

    def add_others(self, folder: _Folder) -> None:
        for name in folder.others:
            if _suffix(name) in _UNREAD:
                self.add(f"{_suffix(name)} file", folder.path, [name])

    def add_beside(self, folder: _Folder) -> None:
        self.add("image beside the folders", folder.path, folder.images)
        self.add_others(folder)

    def add_below(self, folders: Iterable[Path]) -> None:
        for top in folders:
            for at, below, names in os.walk(top):
                below[:] = sorted(name for name in below if not _is_litter(name))
                pictures = (n for n in sorted(names) if _suffix(n) in READ + _UNREAD and not _is_litter(n))
                self.add("image in a folder within a class", Path(at), pictures)

    def sentence(self) -> str:
        if not self._counts:
            return ""
        parts = [
            f"{_count(count, kind)} ({_some(self._names[kind], count)})" for kind, count in sorted(self._counts.items())
        ]
        jpeg = ", rename .jfif and .jpe to .jpg" if any(f"{s} file" in self._counts for s in _JPEG) else ""
        return (
            f"{self._root}: left out {_listed(parts)}. Only PNG and JPEG files in the folder of a class itself are "
            f"read: convert or move the others{jpeg}"
        )


def _inner(folder: _Folder) -> _Folder:
    """The folder that is alone in another, and has folders but no images, where that has a name of no meaning."""
    for _ in range(_WRAPPERS):
        if len(folder.folders) != 1 or folder.images or _split(folder.folders[0]):
            break
        inside = _Folder.of(folder.folders[0])
        if not inside.folders or inside.images:
            break
        folder = inside
    return folder


def _split(folder: Path) -> str | None:
    return SPLITS.get(folder.name.casefold())


def _splits(top: _Folder, left: _LeftOut) -> dict[str, _Folder]:
    """The folders of class folders, by split: `top` itself for training if it has no splits."""
    left.add_beside(top)
    named = [path for path in top.folders if _split(path)]
    alike = [path.name for path in top.folders if _LIKE_SPLITS.match(path.name.casefold())]
    strange = [name for name in alike if name.casefold() not in SPLITS]
    if strange and len(alike) == len(top.folders):  # one of them among others may be a class, as `train station`
        raise JaxddError(
            f"{top.path} has the folders {_some(alike[:_NAMED], len(alike))}, which are named like splits; rename them "
            "to 'train' and 'test', with a folder for each class in both"
        )
    if not named or (len(named) == 1 < len(top.folders) and _is_class(named[0])):
        return {"train": top}
    by_split: dict[str, Path] = {}
    for path in named:
        split = _split(path) or ""
        if split in by_split:
            raise JaxddError(
                f"{top.path} has both {by_split[split].name!r} and {path.name!r}; merge them into {split!r}"
            )
        by_split[split] = path
    read = ("train", "test", "validation") if {"train", "test"} <= set(by_split) else ("train", "test")
    beside = [path for path in top.folders if _split(path) not in read]
    if "train" not in by_split:
        raise JaxddError(
            f"{top.path} has a folder {named[0].name!r} but none called 'train'; move the class folders to train on "
            f"into 'train', or rename {named[0].name!r} if it is a class"
        )
    if beside:
        instead = "; or rename it 'test' to test on it" if _split(beside[0]) else ""
        raise JaxddError(
            f"{top.path} has a folder {beside[0].name!r} beside {by_split['train'].name}; only train and test, and "
            "validation beside both, are read: move it away, or its images into the class folders of train"
            f"{instead}"
        )
    folders = {split: _inner(_Folder.of(by_split[split])) for split in read if split in by_split}
    for folder in folders.values():
        if folder.folders:
            left.add_beside(folder)
    return folders


def _is_class(path: Path) -> bool:
    """Whether a folder that has the name of a split is a class among others."""
    folder = _Folder.of(path)
    return path.name.casefold() in _ALSO_CLASSES and bool(folder.images) and not folder.folders


def _check_has_classes(split: str, folder: _Folder) -> None:
    path, names = folder.path, [each.name for each in folder.folders]
    if names and all(name.casefold() in _NO_CLASSES for name in names):
        raise JaxddError(
            f"{path} has no class folders but {_listed(names)}, which are named for kinds of files: each class needs a "
            "folder of its own, with its name"
        )
    if names:
        return
    away = f"; or move {path.name} away, and a test split is cut from train" if split == "test" else ""
    if folder.images:
        first = folder.images[0]
        example = Path(path.name, "CLASS", first)
        images = _count(len(folder.images), "image")
        raise JaxddError(
            f"{path} has no class folders but {images} beside each other, {first} the first: move them into one folder "
            f"for each class, as in {example}{away}"
        )
    raise JaxddError(
        f"{path} has no class folders; each class needs a folder of its PNG or JPEG files{_instead(folder)}{away}"
    )


def _class_files(path: Path, left: _LeftOut) -> list[str]:
    """The files of a class, in order of name: in its folder, or in one called `images` there."""
    folder = _Folder.of(path)
    if not folder.images:
        called = [each for each in folder.folders if each.name.casefold() == "images"]
        inside = _Folder.of(called[0]) if len(called) == 1 else None
        if inside is None or not inside.images:
            instead = _instead(folder) or "; move it away if it is no class"
            raise JaxddError(f"class folder {path} holds no PNG or JPEG file{instead}")
        left.add_others(folder)
        left.add_below(each for each in folder.folders if each != inside.path)
        folder = inside
    left.add_others(folder)
    left.add_below(folder.folders)
    return [str(folder.path / name) for name in folder.images]


def _instead(folder: _Folder) -> str:
    """What lies in a folder that should hold images, and what to do about it."""
    counts = collections.Counter(_suffix(name) or "nameless" for name in folder.others)
    if folder.folders:
        names = [each.name for each in folder.folders]
        return f", only the {'folder' if len(names) == 1 else 'folders'} {_some(names[:_NAMED], len(names))}: " + (
            "move its files up, or move it away if it is no class"
        )
    if ".npz" in counts:
        return f" (it holds {_listed(n for n in folder.others if _suffix(n) == '.npz')}: give the path of that file)"
    if ".npy" in counts:
        return " (it holds .npy files: a folder of arrays has x_train.npy and y_train.npy)"
    if any(suffix in _JPEG for suffix in counts):
        return " (it holds .jfif or .jpe files, which are JPEG: rename them to .jpg)"
    if pictures := [f"{count} {suffix}" for suffix, count in sorted(counts.items()) if suffix in _UNREAD]:
        return f" (it holds {_listed(pictures)} files: convert them to PNG)"
    return ""


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _LITTER


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _count(count: int, kind: str) -> str:
    noun, space, more = kind.partition(" ") if not kind.startswith(".") else (kind, "", "")
    return f"{count} {noun}{'s' if count > 1 else ''}{space}{more}"


def _some(names: list[str], count: int) -> str:
    return ", ".join(names) + (", ..." if count > len(names) else "")


def _listed(parts: Iterable[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last
