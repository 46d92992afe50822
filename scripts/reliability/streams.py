"""Faults of the data, during a run that streams them."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from reliability.bench import Bench, refusal, require


def vanished_data(bench: Bench) -> tuple[str, str]:
    """the data file vanishes during a streamed run"""
    return _spoilt_data(bench, pathlib.Path.unlink, "vanished")


def truncated_data(bench: Bench) -> tuple[str, str]:
    """the data file is cut short during a streamed run"""
    return _spoilt_data(bench, lambda path: os.truncate(path, path.stat().st_size // 2), "bytes")


def nan_in_the_data(bench: Bench) -> tuple[str, str]:
    """a pixel of every image becomes NaN during a streamed run"""

    def spoil(path: pathlib.Path) -> None:
        images = np.load(path, mmap_mode="r+")
        images[:, 3, 3] = np.nan
        images.flush()

    return _spoilt_data(bench, spoil, "NaN")


def _spoilt_data(bench: Bench, spoil: Callable[[pathlib.Path], None], word: str) -> tuple[str, str]:
    folder, workdir, steps = bench.folder / "digits", bench.folder / "run", 400
    folder.mkdir()
    for name, array in np.load(bench.data).items():
        np.save(folder / f"{name}.npy", np.float32(array) / 255 if name.startswith("x") else array)
    images = folder / "x_train.npy"
    content = images.read_bytes()
    expected = bench.run(bench.folder / "whole", steps, stream=folder, log_every=20)

    def callback(step: int, *_: Any) -> None:
        if step == 20:
            spoil(images)

    said = refusal(lambda: bench.run(workdir, steps, stream=folder, log_every=20, callback=callback), word, "saved")
    images.unlink(missing_ok=True)
    images.write_bytes(content)
    require(bench.run(workdir, steps, stream=folder, log_every=20) == expected, "other bits afterwards")
    return said.replace(str(bench.folder), "…"), "nothing: with the file put back, `--resume` gives the same bits"
