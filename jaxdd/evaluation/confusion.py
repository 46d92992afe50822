"""Which classes are recognised, and which are taken for which."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

MATRIX_CLASSES = 100
"""Of more classes no matrix is written down, but the commonest of their confusions alone."""


@dataclasses.dataclass(frozen=True, eq=False)
class Confusion:
    """How often test images of one class were taken for another, by all networks that were measured together.

        Confusion.of([0, 0, 1], [[0, 1, 1]], 2).accuracy  # array([0.5, 1. ])

    Attributes:
      test_images: of each class, int64 `(classes,)`.
      pairs: the class of images, the class that they were taken for, and how often: int64 `(m, 3)`, in the order of the
        classes. What never happened is not there, so that many classes take little room.
      networks: how many there were.
    """

    test_images: np.ndarray
    pairs: np.ndarray
    networks: int

    @classmethod
    def of(cls, labels: ArrayLike, predicted: ArrayLike, num_classes: int) -> Confusion:
        """Of true classes `(n,)` and the classes that each of `k` networks took them for, `(k, n)`."""
        labels, predicted = np.asarray(labels, np.int64), np.asarray(predicted, np.int64)
        classes = int(max(num_classes, labels.max() + 1, predicted.max() + 1))
        codes, counts = np.unique(labels * classes + predicted, return_counts=True)
        pairs = np.stack([codes // classes, codes % classes, counts], axis=1)
        return cls(np.bincount(labels, minlength=classes), pairs, len(predicted))

    @property
    def accuracy(self) -> np.ndarray:
        """Of each class, fractions float64 `(classes,)`; NaN where there are no test images of one."""
        right = self.pairs[self.pairs[:, 0] == self.pairs[:, 1]]
        counts = np.zeros(len(self.test_images))
        counts[right[:, 0]] = right[:, 2]
        seen = self.networks * self.test_images
        return np.divide(counts, seen, out=np.full(len(seen), np.nan), where=seen > 0)

    @property
    def matrix(self) -> np.ndarray:
        """Counts, int64 `(classes, classes)`: rows are what images are, columns what they were taken for."""
        counts = np.zeros((len(self.test_images),) * 2, np.int64)
        counts[self.pairs[:, 0], self.pairs[:, 1]] = self.pairs[:, 2]
        return counts

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: `accuracy`, None where there are no test images, and `confusion`, the matrix; of more than
        `MATRIX_CLASSES` classes instead of that `confused`, as many pairs, the commonest first: a class, what it was
        taken for, and the share of its images."""
        shares = [None if np.isnan(share) else float(share) for share in self.accuracy]
        if len(shares) <= MATRIX_CLASSES:
            return {"accuracy": shares, "confusion": self.matrix.tolist()}
        wrong = self.pairs[self.pairs[:, 0] != self.pairs[:, 1]]
        commonest = np.argsort(-wrong[:, 2], kind="stable")[:MATRIX_CLASSES]
        told = [
            [true, taken, count / (self.networks * int(self.test_images[true]))]
            for true, taken, count in wrong[commonest].tolist()
        ]
        return {"accuracy": shares, "confused": told}
