"""Data sets that tensorflow-datasets has prepared on disk, read without TensorFlow.

A prepared set lies in `<data dir>/<name>[/<config>]/<version>/` with a `dataset_info.json`. ArrayRecord files are read
through TFDS's data source. TFRecord files, TFDS's default format, it reads with TensorFlow alone; their framing is
read here and TFDS decodes the examples with NumPy. tensorflow-datasets itself is imported only inside the functions.
"""

from __future__ import annotations

import importlib.util
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxdd._files import folder_of
from jaxdd.data.splits import arguments_of
from jaxdd.errors import JaxddError

_VERSION = re.compile(r"\d+\.\d+\.\d+")
_NAME = re.compile(r"(?P<name>\w+)(/(?P<config>[\w.\-]+))?(:(?P<version>\d+\.\d+\.\d+))?")


def data_dir() -> Path:
    """TFDS's own: the environment variable `TFDS_DATA_DIR`, or ~/tensorflow_datasets."""
    return folder_of("TFDS_DATA_DIR", "~/tensorflow_datasets")


def version_folder(path: Path) -> Path | None:
    """`path` if it is a prepared version, its newest version if it is the folder of a set, else None."""
    try:
        if (path / "dataset_info.json").is_file():
            return path
        versions = [f for f in path.iterdir() if _VERSION.fullmatch(f.name) and (f / "dataset_info.json").is_file()]
    except OSError:  # no such folder, or no name for one
        return None
    return max(versions, key=lambda f: tuple(map(int, f.name.split("."))), default=None)


def find_prepared(name: str) -> Path | None:
    """The prepared folder of "name", "name/config", "name:1.0.0" or "name/config:1.0.0"; the newest version."""
    match = _NAME.fullmatch(name)
    if not match:
        return None
    folder = data_dir() / match["name"] / (match["config"] or "")
    return version_folder(folder / match["version"] if match["version"] else folder)


def prepared_sets() -> dict[str, Path]:
    """Name (with its config, if any) and newest version of every set in the data directory."""
    root = data_dir()
    found = {}
    for folder in sorted(root.glob("*/")) + sorted(root.glob("*/*/")):
        name = folder.relative_to(root).as_posix()
        if _NAME.fullmatch(name) and not _VERSION.fullmatch(folder.name) and (version := version_folder(folder)):
            found[name] = version
    return found


def catalogue() -> list[str]:
    """The names of TFDS's own data sets."""
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)


def known(name: str) -> bool:
    """Whether TFDS could prepare "name", "name/config" or "name:1.0.0"."""
    match = _NAME.fullmatch(name)
    return bool(match) and match["name"] in catalogue()


def can_prepare() -> bool:
    """Whether TensorFlow is installed, which TFDS needs to encode images."""
    return importlib.util.find_spec("tensorflow") is not None


def prepare(name: str) -> Path:
    """Download and prepare a set as ArrayRecord, with TensorFlow; the folder of its version."""
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir(), file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_dir)


def read(folder: Path) -> dict[str, Any]:
    """Images and labels of a prepared version, as arguments of `from_arrays`.

    The splits are those that `splits.arguments_of` takes, of "train", "test" and "validation"; others stay unread.

    Raises:
      JaxddError: no images with class labels in it, images of different sizes, missing or truncated files. Whatever
        else TFDS raises on damaged files passes through.
    """
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_from_directory(folder)
    image_key, label_key = _keys(builder.info, folder)
    splits = builder.info.splits
    if "train" not in splits:
        raise JaxddError(f"{folder} has no split 'train', only {', '.join(sorted(splits)) or 'none'}")
    found = {
        split: dict(zip("xy", _split_arrays(builder, split, image_key, label_key, folder), strict=True))
        for split in ("train", "test", "validation")
        if split in splits
    }
    source: dict[str, Any] = {"name": builder.info.name, **arguments_of(str(folder), found)}
    label = builder.info.features[label_key]
    if isinstance(label, tfds.features.ClassLabel):
        source["class_names"] = label.names
    if license := builder.info.redistribution_info.license:
        source["license"] = license
    return source


def _keys(info: Any, folder: Path) -> tuple[str, str]:
    """The features that hold the image and its class: TFDS's supervised pair, else the first of each kind by name."""
    import tensorflow_datasets as tfds

    features = dict(sorted(info.features.items()))  # as stored, their order is random
    pair: Any = info.supervised_keys
    if pair is None:
        image = next((k for k, f in features.items() if isinstance(f, tfds.features.Image)), None)
        pair = (image, next((k for k, f in features.items() if isinstance(f, tfds.features.ClassLabel)), None))
    if len(pair) != 2 or not all(isinstance(key, str) and key in features for key in pair):
        raise JaxddError(f"{folder} is not an image classification set: its features are {', '.join(features)}")
    image, label = pair
    if len(features[image].shape or ()) not in (2, 3) or features[label].shape != ():
        raise JaxddError(f"{folder} is not an image classification set: it maps {image!r} to {label!r}")
    return image, label


def _split_arrays(
    builder: Any, split: str, image_key: str, label_key: str, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for example in _examples(builder, split):
        image = np.asarray(example[image_key])
        if images and image.shape != images[0].shape:
            raise JaxddError(
                f"{folder}: images of split {split!r} differ in shape ({images[0].shape} and {image.shape}); "
                "jaxdd does not resize, give them one size first"
            )
        images.append(image)
        labels.append(example[label_key])
    expected = builder.info.splits[split].num_examples
    if len(images) != expected:
        raise JaxddError(f"{folder}: split {split!r} holds {len(images)} examples instead of {expected}")
    return np.stack(images), np.asarray(labels)


def _examples(builder: Any, split: str) -> Iterator[dict[str, Any]]:
    file_format = builder.info.file_format.value
    if file_format == "array_record":
        yield from builder.as_data_source(split=split)
    elif file_format == "tfrecord":
        for path in builder.info.splits[split].filepaths:
            for record in _tfrecords(Path(path)):
                yield builder.info.features.deserialize_example_np(record)
    else:
        raise JaxddError(f"{builder.data_dir} is stored as {file_format}; jaxdd reads array_record and tfrecord")


def _tfrecords(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file: each uint64 length, uint32 checksum, the bytes, uint32 checksum (unchecked)."""
    left = path.stat().st_size
    with path.open("rb") as file:
        while left:
            header = file.read(12)
            length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else left
            left -= 16 + length
            if left < 0:
                raise JaxddError(f"{path} is truncated or not a TFRecord file")
            yield file.read(length)
            file.seek(4, os.SEEK_CUR)
