"""A distilled set as what a run begins from: its images and labels, and the places that they take."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jaxdd._files import digest
from jaxdd.data import Transform
from jaxdd.errors import JaxddError, unknown
from jaxdd.synthetic.dataset import DistilledDataset
from jaxdd.types import Array

INITS = ("real", "noise", "unit")
"""What free pixels begin as, see `pixels`."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Continued:
    """A distilled set as what a run begins from: `init` of `pixels`, and of every method that has an `init`.

    Attributes:
      images: `(m, h, w, c)`, rendered, in the space that the run sees.
      vectors: its labels as vectors `(m, classes)` with one-hot ones for their origin.
      learned: whether the labels were learned: such ones are taken by methods that learn labels. Others take the class
        of the largest entry.
      mosaics: the stored images `(m / factor², h, w, c)` of a set whose images are tiles of these, else None.
      rest: what the images begin as that the set lacks, one of `INITS`.
      source: hash (hex) of the set's content.
    """

    images: np.ndarray
    vectors: np.ndarray
    learned: bool
    mosaics: np.ndarray | None
    rest: str
    source: str

    def __repr__(self) -> str:
        return f"Continued({len(self.images)} images, {self.source[:8]}, rest={self.rest!r})"

    @functools.cached_property
    def _identity(self) -> tuple[str, ...]:
        arrays = [self.images, self.vectors, *([] if self.mosaics is None else [self.mosaics])]
        return self.source, self.rest, digest(arrays)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Continued) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def stored(self, factor: int) -> tuple[np.ndarray, np.ndarray]:
        """The images that a parameterisation with so many tiles along each side stores, and their label vectors.

        Raises:
          JaxddError: for tiles, where the set has none, or another number.
        """
        if factor == 1:
            return self.images, self.vectors
        tiles = 0 if self.mosaics is None else len(self.images) // len(self.mosaics)
        if self.mosaics is None or tiles != factor**2:
            has = "plain images" if self.mosaics is None else f"mosaics of {tiles} tiles"
            raise JaxddError(
                f"this run stores mosaics of {factor**2} tiles, and the set that it is to go on with has {has}: take "
                f"a factor of {int(np.sqrt(max(tiles, 1)))}, or another set."
            )
        return self.mosaics, self.vectors[::tiles]

    def layout(self, room: Sequence[int], num_classes: int, factor: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Where the stored images go: places among all, class after class, and the rows that go there.

        A row goes to its class. Where learned labels do not name the classes evenly enough for that, and there are as
        many rows as places, each keeps its own.

        Args:
          room: places of each of the first classes; the others have none.

        Raises:
          JaxddError: for more images of a class, or more classes, than the run has.
        """
        images, vectors = self.stored(factor)
        if vectors.shape[1] > num_classes:
            raise JaxddError(
                f"the set to go on with has {vectors.shape[1]} classes, but the data have {num_classes}: take the data "
                "that it was distilled from, or such with more classes."
            )
        classes = vectors.argmax(axis=1)
        counts, places = np.bincount(classes, minlength=len(room)), np.asarray(room)
        if len(counts) == len(places) and np.all(counts <= places):
            rows = np.argsort(classes, kind="stable")
            within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
            return (np.cumsum(places) - places)[classes[rows]] + within, rows
        if self.learned and len(images) == places.sum():
            return np.arange(len(images)), np.arange(len(images))
        if len(counts) > len(places):
            raise JaxddError(
                f"the set to go on with has images of class {len(counts) - 1}, and only the first {len(places)} "
                "classes get some here."
            )
        fullest = int((counts - places).argmax())
        enough = f"ipc={counts.max()}" if np.all(places == places[0]) else f"{counts[fullest]} of it"
        raise JaxddError(
            f"the set to go on with has {counts[fullest]} images of class {fullest}, more than the {places[fullest]} "
            f"of this run: take {enough} or more."
        )

    def labels(self, room: Sequence[int], num_classes: int, factor: int = 1) -> tuple[Array, Array] | None:
        """The places that `layout` fills, and their learned labels `(m, num_classes)`; None if none were learned."""
        if not self.learned:
            return None
        places, rows = self.layout(room, num_classes, factor)
        vectors = self.stored(factor)[1][rows]
        return jnp.asarray(places), jnp.asarray(np.pad(vectors, ((0, 0), (0, num_classes - vectors.shape[1]))))


def continued(source: DistilledDataset | str | os.PathLike, transform: Transform, *, rest: str = "real") -> Continued:
    """A distilled set, or its file, as what a run begins from.

        methods.dm(ipc=10, init=synthetic.continued("runs/first/distilled.safetensors", transform))

    Pixels go through the run's transform, whatever that of the set was. Learned rates, a fixed initialisation and a
    teacher for views stay behind.

    Args:
      transform: of the data of the run.
      rest: what the images begin as that the set lacks, "real", "noise" or "unit". Those of classes that it knows
        nothing of are always real.

    Raises:
      JaxddError: if the file is not whole, or the labels know no classes.
    """
    if rest not in INITS:
        raise unknown("initialisation of pixels", rest, INITS)
    dataset = source if isinstance(source, DistilledDataset) else DistilledDataset.read(source)
    header, labels = dataset.header, dataset.labels
    convention = header["label_convention"]
    if convention == "features":
        raise JaxddError("the labels of this set are features, which know no classes: a run cannot go on with it.")
    if convention == "hard":
        vectors = np.eye(header["data"].get("num_classes") or int(labels.max()) + 1, dtype=np.float32)[labels]
    else:
        vectors = np.asarray(labels, np.float32) + (1 / labels.shape[1] if convention == "centred" else 0)
    mosaics = dataset.params.get("images") if "multi_formation(pixels)" in header["decoder"] else None
    if mosaics is not None:
        mosaics = _seen(dataset.transform.inverse(np.asarray(mosaics, np.float32)), transform)
    return Continued(
        images=_seen(dataset.pixels(), transform),
        vectors=vectors,
        learned=header["label_regime"] == "learned",
        mosaics=mosaics,
        rest=rest,
        source=digest(
            [np.frombuffer(convention.encode(), np.uint8), *map(dataset.tensors.get, sorted(dataset.tensors))]
        ),
    )


def _seen(pixels: np.ndarray, transform: Transform) -> np.ndarray:
    return np.asarray(transform.apply(pixels), np.float32)
