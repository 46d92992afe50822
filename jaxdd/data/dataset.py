"""A data set as arrays: its splits, and every check that arrays from outside must pass."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdd._files import digest
from jaxdd._numbers import whole
from jaxdd.data.checks import check_alike, check_fraction, checked_classes, checked_source, cut, is_pair
from jaxdd.data.mapped import DecodedSource, Notes
from jaxdd.data.pictures import FileSource
from jaxdd.data.plausible import Pixels, check_pixels, check_text
from jaxdd.data.streaming import scan
from jaxdd.data.transforms import Transform, blocks, is_elementwise, pixel_space, transform_to_tensors
from jaxdd.errors import JaxddError
from jaxdd.types import Array, HostArray, Labels, RealData

Decode = Callable[[Array], Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Some examples of a data set, on the host.

    Attributes:
      images: `(n, height, width, channels)`, uint8 or float32 as the source has them; `HostArray` of a data set that
        is streamed, which are read when they are needed.
      labels: int32 `(n,)`.
      rows: int `(n,)`, their numbers in the source, before anything was cut from it; None for all of them in order.
    """

    images: np.ndarray | HostArray
    labels: np.ndarray
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        """Shapes alone: a notebook shows what its last line gives."""
        shapes = (f"{name}={a.dtype}{list(a.shape)}" for name, a in (("images", self.images), ("labels", self.labels)))
        return f"Split({', '.join(shapes)})"

    @property
    def numbers(self) -> np.ndarray:
        """int32 `(n,)`, of these examples in the source."""
        return np.asarray(np.arange(len(self)) if self.rows is None else self.rows, np.int32)

    def take(self, rows: np.ndarray) -> Split:
        """Some of the examples, in that order; of a data set that is streamed they stay in their files."""
        rows = np.asarray(rows)
        images = self.images.take(rows) if isinstance(self.images, HostArray) else self.images[rows]
        return Split(images, self.labels[rows], self.numbers[rows])

    def pixels(self) -> Any:
        """The images in pixel space: float32, uint8 sources scaled by 1/255 into [0, 1], float sources as they are.

        A NumPy array; of a data set that is streamed, `HostArray`.
        """
        if isinstance(self.images, HostArray):
            return dataclasses.replace(self.images, decode=pixel_space)
        return pixel_space(self.images)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A classification data set with its three splits. `load` and `from_arrays` make them, and check them.

    Attributes:
      name: for people; never used to find anything again.
      train, validation, test: `validation` is the source's own, or cut from its training examples; it may be empty.
      class_names: one per class, in the order of the labels.
      license: of the source, "unknown" where it does not say.
      source_hash: sha256 (hex) over the source's arrays before anything was cut from them, so it depends on neither
        the seed nor the fractions.
      own_validation: whether `validation` is a split of the source's own, and no cut.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    license: str
    source_hash: str
    own_validation: bool = False

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)`."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    @functools.cached_property
    def pixel_range(self) -> tuple[float, float]:
        """What black and white are for a picture, in pixel space.

        (0, 1) for uint8 images and for floats within [0, 1], else (smallest, largest) value of all splits.
        """
        if self.train.images.dtype == np.uint8:
            return 0.0, 1.0
        ranges = [
            (float(block.min()), float(block.max()))
            for split in (self.train, self.validation, self.test)
            for _, block in blocks(split.images)
        ]
        low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
        return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def from_arrays(
    x: Any,
    y: Any,
    x_test: Any = None,
    y_test: Any = None,
    *,
    x_validation: Any = None,
    y_validation: Any = None,
    name: str = "arrays",
    validation: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    license: str = "unknown",
    stream: bool = False,
) -> Dataset:
    """Check arrays and cut them into train, validation and test.

    Args:
      x: images `(n, height, width, channels)`, or `(n, height, width)` for one channel. uint8 or float; other
        integers are taken as uint8 where they fit. Floats of any width become float32.
      y: integer labels `(n,)` or `(n, 1)` in `[0, classes)`; every class must occur, and there must be at least two.
      x_test, y_test: the test split, or neither: then it is cut from `x, y`.
      x_validation, y_validation: the validation split, or neither: then it is cut from `x, y`.
      validation: fraction of the training examples, in [0, 1), held out for selection; 0 leaves `validation` empty. A
        validation split that is given stands in place of the cut, whole, and is left out at 0.
      test: fraction cut for testing, in (0, 1); used only if there is no test split.
      seed: of the cuts. They are stratified by class, keep the order of the examples, and leave every class at least
        one training example; a class of two or more examples always gives at least one.
      class_names: one per class; by default the numbers.
      license: of the data.
      stream: leave the images where they are: they are read once here, a block at a time, and again when they are
        needed. A `np.memmap` is always left where it is. The splits and the hash are those of data in memory.

    Keras's loaders give `(x, y), (x_test, y_test)`; these two pairs may stand for `x` and `y`.

    Raises:
      JaxddError: one sentence about the first thing that is wrong with the arrays or the fractions.
    """
    check_fraction("validation", validation, zero_allowed=True)
    if x_test is None and y_test is None and is_pair(x) and is_pair(y):
        (x, y), (x_test, y_test) = x, y
    elif is_pair(x):
        raise JaxddError(f"{name}: x is a pair, of images and labels; give x, y, x_test, y_test, or two pairs alone")
    _check_texts(name, class_names, license)
    given = {"training": (x, y), "test": (x_test, y_test), "validation": (x_validation, y_validation)}
    for split in ("test", "validation"):
        missing = [part is None for part in given[split]]
        if any(missing) and not all(missing):
            raise JaxddError(f"{name}: give both x_{split} and y_{split}, or neither")
        if all(missing):
            del given[split]
    if "test" not in given:
        check_fraction("test", test, zero_allowed=False)
    seed = whole(seed, "seed", 0)

    stream = stream or any(isinstance(images, np.memmap | FileSource | DecodedSource) for images, _ in given.values())
    pixels = {split: Pixels() for split in given}
    suffixes = {split: f"_{'train' if split == 'training' else split}" if len(given) > 1 else "" for split in given}
    source = [
        checked_source(name, images, of_split, suffixes[split], None if stream else pixels[split])
        for split, (images, of_split) in given.items()
    ]
    check_alike(name, list(given), [images for images, _ in source])
    labels = [of_split for _, of_split in source]
    class_names = checked_classes(name, labels, class_names)
    parts = _parts(name, labels, list(given), validation=validation, test=test, seed=seed)
    if stream:
        source_hash, images = scan(source, parts, list(pixels.values()), Notes.of([images for images, _ in source]))
        check_pixels(name, pixels)
    else:
        check_pixels(name, pixels)
        source_hash = digest(array for split in source for array in split)
        images = [_taken(source[k][0], rows) for k, rows in parts]
    chosen = [Split(of_part, _taken(labels[k], rows), rows) for of_part, (k, rows) in zip(images, parts, strict=True)]
    own = "validation" in given and validation > 0
    return Dataset(name, chosen[0], chosen[1], chosen[2], class_names, license, source_hash, own)


def _check_texts(name: str, class_names: Sequence[str] | None, license: str) -> None:
    check_text("the name of the data", name, "rename its file or folder, or give another name")
    for k, class_name in enumerate(() if class_names is None else class_names):
        check_text(f"{name}: the name {str(class_name)!r} of class {k}", class_name, "rename it")
    check_text(f"{name}: the licence", license, "write it anew")


def _parts(
    name: str, labels: list[np.ndarray], given: list[str], *, validation: float, test: float, seed: int
) -> list[tuple[int, np.ndarray]]:
    """Of training, validation and test the number of the source, and the rows in it, of which cuts leave some."""
    train = np.arange(len(labels[0]))
    if "test" in given:
        held_out = (given.index("test"), np.arange(len(labels[given.index("test")])))
    else:
        taken, train = cut(train, labels[0], test, [seed, 1], f"{name}: no test split can be cut")
        held_out = (0, taken)
    chosen = (0, np.arange(0))
    if validation and "validation" in given:
        chosen = (given.index("validation"), np.arange(len(labels[given.index("validation")])))
    elif validation:
        taken, train = cut(train, labels[0], validation, [seed, 2], f"{name}: no validation split can be cut")
        chosen = (0, taken)
    return [(0, train), chosen, held_out]


def real_data(split: Split, transform: Transform, num_classes: int) -> RealData:
    """What a method learns from: the split's images in transformed space, and its labels with their class index.

    Images of a data set that is streamed stay on the host; those that are indexed are transformed on a device.
    """
    if not len(split):
        raise JaxddError("the split is empty; load the data with a validation fraction above 0 to use its validation")
    labels = Labels.index(split.labels, num_classes)
    if isinstance(split.images, HostArray):
        decoded: Any = dataclasses.replace(split.images, decode=_Decoder(transform))
        return RealData.of(decoded, labels)
    out = np.empty(split.images.shape, np.float32)
    for rows, block in blocks(split.images):  # in blocks: the extra memory stays small for large sets
        out[rows] = transform.apply(pixel_space(block))
    return RealData.of(jnp.asarray(out), labels)


def compact_data(split: Split, transform: Transform, num_classes: int) -> tuple[RealData, Decode | None]:
    """What `real_data` gives, in a quarter of the memory where that costs next to nothing.

    Images of a uint8 source stay as they are where the transform takes each pixel by itself. Those of a data set that
    is streamed stay on the host, and are decoded when they are indexed.

    Returns:
      The data, and how to make transformed images of its images `(b, h, w, c)` on a device, see `engine.decoding`;
      None if they are transformed already.
    """
    if isinstance(split.images, HostArray) or split.images.dtype != np.uint8 or not is_elementwise(transform):
        return real_data(split, transform, num_classes), None
    return RealData.of(jnp.asarray(split.images), Labels.index(split.labels, num_classes)), _Decoder(transform)


@dataclasses.dataclass(frozen=True, eq=False)
class _Decoder:
    """Transformed images of stored ones. Those of equal transforms are equal, so that compiled programs are reused."""

    transform: Transform

    def __call__(self, images: Any) -> Any:
        return self.transform.apply(pixel_space(images))

    @functools.cached_property
    def _content(self) -> Any:
        try:
            spec, tensors = transform_to_tensors(self.transform)
        except JaxddError:  # one of somebody's own, of which nothing is known
            return self.transform
        return repr(spec), digest(tensors.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Decoder) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)


def _taken(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Ascending rows of an array; the array itself where they are all of it."""
    return array if len(rows) == len(array) else array[rows]
