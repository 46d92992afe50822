"""`Selection`: which real examples were chosen, in one safe file that data sets of the same source understand."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from jaxdd import _sealed
from jaxdd._files import digest, disk_errors, expanded, write_atomically
from jaxdd.data import Dataset
from jaxdd.errors import JaxddError

FORMAT_VERSION = 1
_WHAT = "selection"


@dataclasses.dataclass(frozen=True, eq=False)
class Selection:
    """Some of the training examples of a data set.

        chosen = Selection.read("runs/herding/selection.safetensors")
        torch.utils.data.Subset(train_set, chosen.rows.tolist())  # an index list for any other library

    Attributes:
      rows: int32 `(m,)`, different numbers in the training split of the source, before anything was cut from it.
      weights: float32 `(m,)`, how often each counts in a loss; ones where a rule gives none.
      header: JSON-able provenance: `select` (the config), `seed`, `data` (name, source hash, classes, cuts), versions.
      scores: float32 `(n,)` of all examples that were looked at, or None if the rule has no scores.
      scored: int32 `(n,)`, their numbers in the source; None likewise.

    Raises:
      JaxddError: if that is no selection.
    """

    rows: np.ndarray
    weights: np.ndarray
    header: dict[str, Any]
    scores: np.ndarray | None = None
    scored: np.ndarray | None = None

    def __post_init__(self):
        if problem := self._problem():
            raise JaxddError(f"this is not a selection: {problem}.")

    def __repr__(self) -> str:
        return f"Selection({len(self.rows)} of {self.header.get('data', {}).get('name')})"

    def _problem(self) -> str | None:
        """What is wrong with it, if anything is."""
        rows, weights = self.rows, self.weights
        if not isinstance(self.header.get("data"), dict):
            return f"'data' of its header is {self.header.get('data')!r}"
        if rows.ndim != 1 or not len(rows) or not np.issubdtype(rows.dtype, np.integer):
            return f"its rows are {rows.dtype} of shape {rows.shape}"
        if rows.min() < 0 or len(np.unique(rows)) < len(rows):
            return "some of its rows are negative, or there twice"
        if weights.shape != rows.shape or not np.isfinite(weights).all() or weights.min() < 0:
            return "it has other than one finite weight, of at least 0, for each row"
        if (self.scores is None) != (self.scored is None):
            return "it has scores without rows, or rows without scores"
        if self.scores is not None and self.scored is not None and self.scores.shape != self.scored.shape:
            return "it has not a score for each row that was scored"
        return None

    @property
    def weighted(self) -> bool:
        """Whether some count more than others."""
        return bool(np.ptp(self.weights) > 0)

    @property
    def content(self) -> str:
        """Hash (hex) of rows and weights."""
        return digest([self.rows, self.weights])

    def places(self, dataset: Dataset) -> np.ndarray:
        """Where its rows lie in `dataset.train`, in its order, int32: those that are held out there are left out.

        Raises:
          JaxddError: for data of another source, or if nothing is left.
        """
        about = self.header["data"]
        if about.get("source_hash") != dataset.source_hash:
            raise JaxddError(
                f"the selection is of {about.get('name')!r}, and {dataset.name!r} is not that (their hashes differ)"
            )
        numbers = dataset.train.numbers
        where = np.full(max(numbers.max(), self.rows.max()) + 1, -1, np.int32)
        where[numbers] = np.arange(len(numbers))
        found = where[self.rows]
        if not (found >= 0).any():
            raise JaxddError("all examples of the selection are held out for validation or testing here")
        return found[found >= 0]

    def kept(self, dataset: Dataset) -> Dataset:
        """A data set whose training examples are those of the selection alone, in the order of the data.

        Raises:
          JaxddError: as `places`, or if a class has none left.
        """
        rows = np.sort(self.places(dataset))
        counts = np.bincount(dataset.train.labels[rows], minlength=dataset.num_classes)
        if not counts.all():
            raise JaxddError(f"the selection keeps no example of class {int(np.argmin(counts))}")
        return dataclasses.replace(dataset, train=dataset.train.take(rows))

    def to_bytes(self) -> bytes:
        """The file's content; equal selections give equal bytes."""
        tensors = {"rows": self.rows.astype(np.int32), "weights": self.weights.astype(np.float32)}
        if self.scores is not None and self.scored is not None:
            tensors |= {"scores": self.scores.astype(np.float32), "scored": self.scored.astype(np.int32)}
        return _sealed.sealed({**self.header, "format_version": FORMAT_VERSION, "kind": _WHAT}, tensors)

    def write(self, path: str | os.PathLike) -> None:
        """Write the file whole or not at all. Raises JaxddError on a full or read-only disk."""
        write_atomically(path, self.to_bytes())

    @staticmethod
    def is_one(path: str | os.PathLike) -> bool:
        """Whether a file says that it is a selection; nothing else of it is checked."""
        try:
            header, _ = _sealed.opened(expanded(path).read_bytes(), str(path), _WHAT)
        except (JaxddError, OSError):
            return False
        return header.get("kind") == _WHAT

    @classmethod
    def read(cls, path: str | os.PathLike) -> Selection:
        """Read and check a file.

        Raises:
          JaxddError: if there is no such file, or it is truncated, altered, foreign, or of a newer format.
        """
        path = expanded(path)
        with disk_errors(path):
            content = path.read_bytes()
        header, tensors = _sealed.opened(content, str(path), _WHAT)
        if header.get("kind") != _WHAT:
            raise JaxddError(f"{path} is not a selection, as `jaxdd select` writes one: it is another file of jaxdd's.")
        needed = ["rows", "weights"]
        header = _sealed.check(
            header, tensors, str(path), _WHAT, newest=FORMAT_VERSION, entries=["data"], needed=needed
        )
        try:
            return cls(tensors["rows"], tensors["weights"], header, tensors.get("scores"), tensors.get("scored"))
        except JaxddError as error:
            raise JaxddError(str(error).replace("this", str(path), 1)) from None
