"""What a teacher says of a pool: each example is asked about once, whatever stops in between."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxdd import _sealed
from jaxdd._files import disk_errors, expanded, write_atomically
from jaxdd.errors import JaxddError
from jaxdd.types import Array, Key

Teacher = Callable[[Array], Any]
FOLDER = "answers"
BLOCK = 256
"""Images that a teacher is asked about at once."""
_FORMAT_VERSION = 1
_WHAT = "file of a teacher's answers"


class Answers:
    """What a teacher has answered about a pool.

    With a directory every block of answers is a safe file in its folder `answers`, written before the next block is
    asked about, and what lies there is not asked again.

        Answers(teacher, images, numbers, 10, "runs/queries", pool=digest([images, numbers])).about(rows)

    Args:
      teacher: `teacher(images (b, h, w, c)) -> (b, classes)`, probabilities.
      images: `(n, h, w, c)`, the pool.
      numbers: int `(n,)`, theirs in the source, by which files know them.
      workdir: where the folder lies; None for nowhere.
      pool: hash (hex) of images and numbers.

    Raises:
      JaxddError: for a file there that is altered, foreign, or about another pool.
    """

    def __init__(
        self,
        teacher: Teacher,
        images: Array,
        numbers: np.ndarray,
        num_classes: int,
        workdir: str | os.PathLike | None,
        *,
        pool: str,
    ):
        self._teacher, self._images, self._numbers, self._pool = teacher, images, numbers, pool
        self._folder = None if workdir is None else expanded(workdir) / FOLDER
        self._known = np.zeros(len(numbers), bool)
        self._answers = np.zeros((len(numbers), num_classes), np.float32)
        for path in [] if self._folder is None else sorted(self._folder.glob("*.safetensors")):
            rows, answers = self._read(path)
            self._take(places_of(rows, numbers), answers)

    def about(self, places: np.ndarray) -> np.ndarray:
        """Probabilities `(k, classes)` for some of the pool; the teacher is asked about those that he has not been.

        Raises:
          JaxddError: for answers that are no probabilities, or a disk that is full.
        """
        missing = places[~self._known[places]]
        for start in range(0, len(missing), BLOCK):
            block = missing[start : start + BLOCK]
            answers = _probabilities(self._teacher(self._images[block]), len(block), self._answers.shape[1])
            self._write(self._numbers[block], answers)
            self._take(block, answers)
        return self._answers[places]

    def _take(self, places: np.ndarray, answers: np.ndarray) -> None:
        self._known[places], self._answers[places] = True, answers

    def _write(self, rows: np.ndarray, answers: np.ndarray) -> None:
        if self._folder is None:
            return
        header = {"format_version": _FORMAT_VERSION, "kind": _WHAT, "pool": self._pool}
        content = _sealed.sealed(header, {"rows": rows.astype(np.int32), "answers": answers})
        write_atomically(self._folder / f"{rows[0]:08d}.safetensors", content)  # by a row that no other file has

    def _read(self, path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
        with disk_errors(path):
            content = path.read_bytes()
        try:
            header, tensors = _sealed.opened(content, str(path), _WHAT)
            header = _sealed.check(
                header,
                tensors,
                str(path),
                _WHAT,
                newest=_FORMAT_VERSION,
                entries=["kind", "pool"],
                needed=["rows", "answers"],
            )
        except JaxddError as error:
            why = str(error).rstrip(".")
            raise JaxddError(f"{why}; without that file the teacher is asked about its examples again.") from error
        rows, answers = tensors["rows"], tensors["answers"]
        of_these = header["pool"] == self._pool and answers.shape == (len(rows), self._answers.shape[1])
        if header["kind"] != _WHAT or not of_these:
            raise JaxddError(f"{path} holds answers about another pool: take another directory.")
        return rows, answers


def places_of(rows: Any, numbers: np.ndarray) -> np.ndarray:
    """Where rows of the source, int `(k,)`, lie among those of a pool, which has them all, int `(n,)`."""
    order = np.argsort(numbers)
    return order[np.searchsorted(numbers, np.asarray(rows, int), sorter=order)]


def noisy(answers: np.ndarray, noise: float, key: Key) -> np.ndarray:
    """Answers `(k, classes)`, each replaced with this probability by another class than its likeliest."""
    key_flip, key_other = jax.random.split(key)
    k, classes = answers.shape
    other = answers.argmax(1) + np.asarray(jax.random.randint(key_other, (k,), 1, classes))
    flipped = np.asarray(jax.random.uniform(key_flip, (k,))) < noise
    return np.where(flipped[:, None], np.eye(classes, dtype=np.float32)[other % classes], answers)


def from_json(answers: list[Any], num_classes: int) -> np.ndarray:
    """Answers of a line: classes or probabilities."""
    found = np.asarray(answers, np.float32)
    return found if found.ndim == 2 else np.eye(num_classes, dtype=np.float32)[found.astype(int)]


def _probabilities(answers: Any, count: int, num_classes: int) -> np.ndarray:
    """What a teacher answers, if it is probabilities."""
    found = np.asarray(answers, np.float32)
    if found.shape != (count, num_classes):
        raise JaxddError(
            f"a teacher asked about {count} images of {num_classes} classes answers with ({count}, {num_classes}) "
            f"probabilities, this one with {found.shape}."
        )
    if not (np.isfinite(found).all() and (found >= 0).all() and (abs(found.sum(1) - 1) < 1e-3).all()):
        raise JaxddError("a teacher answers with probabilities, at least 0 and of the sum 1; this one does not.")
    return found
