"""A distilled set in formats that need no jaxdd: NumPy's `.npz`, and a folder of PNG files."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pathlib
import re
import shutil

import numpy as np

from jaxdd._files import disk_errors, expanded, write_atomically
from jaxdd.data import transform_to_tensors
from jaxdd.errors import JaxddError
from jaxdd.report.facts import class_names, hard_labels, has_no_classes, pixel_range
from jaxdd.report.pictures import clipped_share, to_8_bit, to_image
from jaxdd.synthetic import DistilledDataset


def to_npz(dataset: DistilledDataset, path: str | os.PathLike) -> None:
    """Write a NumPy `.npz` that loads with `allow_pickle=False`.

    It holds all the file does, under the same names: `images` (pixel space, float32 or uint8), `labels`, those of
    the transform under `transform.*`, .., and `header`, a JSON string that also describes the transform.

    Raises:
      JaxddError: if the file cannot be written; nothing is left behind.
    """
    spec, tensors = transform_to_tensors(dataset.transform)
    header = json.dumps({**dataset.header, "transform": spec}, sort_keys=True)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, header=np.array(header), **dataset.tensors, **tensors)
    write_atomically(path, file.getvalue())


def to_png_folder(dataset: DistilledDataset, directory: str | os.PathLike) -> float:
    """Write `<class number>_<class name>/0000.png`, .. and `labels.csv`: each file, its class, and its soft label or
    features.

    PNG files have 8 bits: values are rounded, and clipped to the pixel range of the source data.

    Args:
      directory: must be empty or absent.

    Returns:
      The share of values that were clipped by more than half a grey level.

    Raises:
      JaxddError: if the directory is not empty or cannot be written, or images have neither 1 nor 3 channels. Nothing
        is left behind.
    """
    directory = expanded(directory)
    channels = dataset.images.shape[-1]
    if channels not in (1, 3):
        raise JaxddError(f"PNG files need images of 1 or 3 channels, these have {channels}: export to .npz instead.")
    with disk_errors(directory):
        existed = directory.exists()
        if existed and any(directory.iterdir()):
            raise JaxddError(f"{directory} is not empty: give a new or an empty directory.")
        staged = directory / ".unfinished"
        try:
            staged.mkdir(parents=True)
            _write_folder(dataset, staged)
            for entry in list(staged.iterdir()):
                entry.rename(directory / entry.name)
            staged.rmdir()
        except BaseException:
            with contextlib.suppress(OSError):
                shutil.rmtree(staged)
                if not existed:
                    directory.rmdir()
            raise
    return clipped_share(dataset, pixel_range(dataset))


def _write_folder(dataset: DistilledDataset, directory: pathlib.Path) -> None:
    names, labels = class_names(dataset), hard_labels(dataset)
    pixels = to_8_bit(dataset.pixels(), pixel_range(dataset))
    digits = len(str(max(len(names) - 1, 10)))
    soft = dataset.labels if dataset.labels.ndim == 2 else np.empty((len(labels), 0))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    column = "feature" if has_no_classes(dataset) else "soft_label"
    writer.writerow(["file", "label", "class_name", *(f"{column}_{k}" for k in range(soft.shape[1]))])
    seen = dict.fromkeys(range(len(names)), 0)
    for image, label, row in zip(pixels, labels.tolist(), soft, strict=True):
        folder = f"{label:0{digits}d}_{_safe(names[label])}"
        file = f"{folder}/{seen[label]:04d}.png"
        seen[label] += 1
        (directory / folder).mkdir(exist_ok=True)
        to_image(image).save(directory / file, format="PNG")
        writer.writerow([file, label, names[label], *(str(value) for value in row)])
    write_atomically(directory / "labels.csv", table.getvalue())


def _safe(name: str) -> str:
    """A class name that is one folder on every system."""
    return re.sub(r"[^\w.+-]+", "_", name)[:80].strip("._") or "class"
