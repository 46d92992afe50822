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
from jaxdd.data.pictures import FileSource
from jaxdd.data.plausible import Pixels, check_pixels, check_text
from jaxdd.data.streaming import ArraySource, RowReader, scan
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
    """

    images: np.ndarray | HostArray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        """Shapes alone: a notebook shows what its last line gives."""
        shapes = (f"{name}={a.dtype}{list(a.shape)}" for name, a in (("images", self.images), ("labels", self.labels)))
        return f"Split({', '.join(shapes)})"

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
      train, validation, test: `validation` is cut from the source's training examples and may be empty.
      class_names: one per class, in the order of the labels.
      license: of the source, "unknown" where it does not say.
      source_hash: sha256 (hex) over the source's arrays before anything was cut from them, so it depends on neither
        the seed nor the fractions.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    license: str
    source_hash: str

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
      y: integer labels `(n,)` in `[0, classes)`; every class must occur, and there must be at least two.
      x_test, y_test: the test split, or neither: then it is cut from `x, y`.
      validation: fraction of the training examples, in [0, 1), held out for selection; 0 leaves `validation` empty.
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
    _check_fraction("validation", validation, zero_allowed=True)
    if x_test is None and y_test is None and _is_pair(x) and _is_pair(y):
        (x, y), (x_test, y_test) = x, y
    elif _is_pair(x):
        raise JaxddError(f"{name}: x is a pair, of images and labels; give x, y, x_test, y_test, or two pairs alone")
    check_text("the name of the data", name, "rename its file or folder, or give another name")
    for k, class_name in enumerate(() if class_names is None else class_names):
        check_text(f"{name}: the name {str(class_name)!r} of class {k}", class_name, "rename it")
    check_text(f"{name}: the licence", license, "write it anew")
    if (x_test is None) != (y_test is None):
        raise JaxddError(f"{name}: give both x_test and y_test, or neither")
    has_test = x_test is not None
    if not has_test:
        _check_fraction("test", test, zero_allowed=False)
    seed = whole(seed, "seed", 0)

    stream = stream or any(isinstance(images, np.memmap | FileSource) for images in (x, x_test))
    suffix = "_train" if has_test else ""
    pixels = [Pixels()]
    source = [_checked_source(name, x, y, suffix, None if stream else pixels[0])]
    if has_test:
        pixels.append(Pixels())
        source.append(_checked_source(name, x_test, y_test, "_test", None if stream else pixels[1]))
        _check_alike(name, *(images for images, _ in source))
    labels = [of_split for _, of_split in source]
    class_names = _checked_classes(name, labels, class_names)

    # Rows of the first source, of which the first cut leaves some to the second.
    train, chosen = np.arange(len(labels[0])), np.arange(0)
    if has_test:
        held_out = (1, np.arange(len(labels[1])))
    else:
        taken, train = _cut(train, labels[0], test, [int(seed), 1], f"{name}: no test split can be cut")
        held_out = (0, taken)
    if validation:
        complaint = f"{name}: no validation split can be cut"
        chosen, train = _cut(train, labels[0], validation, [int(seed), 2], complaint)
    parts = [(0, train), (0, chosen), held_out]
    if stream:
        source_hash, images = scan(source, parts, pixels)
        check_pixels(name, pixels)
    else:
        check_pixels(name, pixels)
        source_hash = digest(array for split in source for array in split)
        images = [_taken(source[k][0], rows) for k, rows in parts]
    cut = [Split(of_part, _taken(labels[k], rows)) for of_part, (k, rows) in zip(images, parts, strict=True)]
    return Dataset(name, cut[0], cut[1], cut[2], class_names, license, source_hash)


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


def _is_pair(value: Any) -> bool:
    """Whether this is images with their labels, not images alone."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    images, labels = (getattr(each, "ndim", 0) for each in value)
    return images > 2 and 0 < labels < images


def _checked_source(name: str, x: Any, y: Any, suffix: str, pixels: Pixels | None) -> tuple[Any, np.ndarray]:
    """Images and labels of one split, checked by themselves and against each other; a `RowReader` if streamed."""
    images = _checked_images(f"{name}: x{suffix}", x, pixels)
    labels = _checked_labels(f"{name}: y{suffix}", y)
    if images.shape[0] != len(labels):
        raise JaxddError(f"{name}: x{suffix} has {images.shape[0]} images but y{suffix} has {len(labels)} labels")
    return images, labels


def _to_array(what: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
    except Exception as error:  # ragged lists, tensors on a device, whatever __array__ raises
        raise JaxddError(f"{what} is not an array: {error}") from error
    if array.dtype == object:
        raise JaxddError(f"{what} holds Python objects, not numbers; give one rectangular array of numbers")
    return array


def _checked_images(what: str, values: Any, pixels: Pixels | None) -> np.ndarray | RowReader:
    """uint8 or float32 `(n, height, width, channels)` without an empty axis.

    All finite, and told to `pixels`; without those they are streamed, and the scan that is to come looks at that.
    """
    if isinstance(values, FileSource):
        return values
    images = _to_array(what, values)
    if images.ndim not in (3, 4):
        raise JaxddError(
            f"{what} must have shape (n, height, width, channels) or (n, height, width), got {images.shape}"
        )
    if images.size == 0:
        raise JaxddError(f"{what} holds no images: its shape is {images.shape}")
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[1] <= 4 and images.shape[3] > 4 and images.shape[2] > 4:
        raise JaxddError(
            f"{what} of shape {images.shape} looks channels-first; it must be (n, height, width, channels): "
            "use numpy.moveaxis(x, 1, -1)"
        )
    if images.dtype.kind not in "iuf":
        raise JaxddError(f"{what} must be uint8 or float, got {images.dtype}")
    source = ArraySource.of(what, images, values)
    if pixels is None:
        return source
    for _, block in source.blocks():  # which raises
        pixels.add(block)
    return source.converted(images)


def _checked_labels(what: str, values: Any) -> np.ndarray:
    """int32 `(n,)`, none negative."""
    labels = _to_array(what, values)
    if labels.ndim != 1:
        hint = ""
        if labels.ndim == 2:
            hint = "; use y.ravel()" if labels.shape[1] == 1 else "; for one-hot labels use y.argmax(axis=1)"
        raise JaxddError(f"{what} must be a vector (n,) of class numbers, got shape {labels.shape}{hint}")
    if labels.size == 0:
        raise JaxddError(f"{what} holds no labels")
    if labels.dtype.kind not in "iu":
        whole = labels.dtype.kind == "f" and bool(np.all(labels == np.trunc(labels)))
        hint = "; they are whole numbers, so cast them: y.astype('int32')" if whole else ""
        raise JaxddError(f"{what} must be integers, got {labels.dtype}{hint}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        where = int(np.argmax(labels < 0))
        raise JaxddError(f"{what} must be in 0..classes-1, but label {where} is {int(labels[where])}")
    if high > np.iinfo(np.int32).max:
        raise JaxddError(f"{what} has the label {high}, which is out of range")
    return np.ascontiguousarray(labels, np.int32)


def _check_alike(name: str, train: np.ndarray | RowReader, test: np.ndarray | RowReader) -> None:
    if train.shape[1:] != test.shape[1:]:
        raise JaxddError(f"{name}: training images have shape {train.shape[1:]} but test images {test.shape[1:]}")
    if train.dtype != test.dtype:
        raise JaxddError(
            f"{name}: training images are {train.dtype} but test images {test.dtype}; "
            "uint8 is scaled by 1/255 and floats are not, so they must agree"
        )


def _checked_classes(name: str, labels: list[np.ndarray], class_names: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the classes, after checking that labels and names agree and that every class can be learned."""
    highest = max(int(of_split.max()) for of_split in labels)
    num_classes = highest + 1 if class_names is None else len(class_names)
    if highest >= num_classes:
        raise JaxddError(
            f"{name}: label {highest} is out of range for {num_classes} class names (labels are 0..{num_classes - 1})"
        )
    if num_classes < 2:
        raise JaxddError(f"{name}: all labels are 0, a single class; a data set needs at least 2 classes")
    # np.unique, not bincount: a wild label must not ask for gigabytes.
    present = np.unique(labels[0])
    if len(present) < num_classes:
        gaps = np.flatnonzero(present != np.arange(len(present)))
        first = int(gaps[0]) if len(gaps) else len(present)
        raise JaxddError(
            f"{name}: class {first} has no training example; labels must be 0..{num_classes - 1} with every class "
            f"present, and {num_classes - len(present)} of {num_classes} are absent"
        )
    if class_names is None:
        return tuple(str(k) for k in range(num_classes))
    return tuple(str(k) for k in class_names)


def _check_fraction(what: str, value: float, *, zero_allowed: bool) -> None:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not (0 <= value < 1) or (value == 0 and not zero_allowed):
        interval = "[0, 1)" if zero_allowed else "(0, 1)"
        raise JaxddError(f"{what} must be a fraction in {interval}, got {value!r}")


def _cut(
    rows: np.ndarray, labels: np.ndarray, fraction: float, entropy: list[int], complaint: str
) -> tuple[np.ndarray, np.ndarray]:
    """Some rows of all `labels` in two parts, `(cut, rest)`, stratified by class; both keep their order."""
    labels = labels[rows]
    # Raw bits of a bit generator: unlike Generator.permutation, NumPy guarantees their stream for good.
    scores = np.random.PCG64(np.random.SeedSequence(entropy)).random_raw(len(rows))
    order = np.lexsort((scores, labels))
    counts = np.bincount(labels)
    take = np.minimum(counts - 1, np.maximum(1, np.floor(fraction * counts + 0.5).astype(int)))
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)  # within its class, as `order` has it
    chosen = np.zeros(len(rows), bool)
    chosen[order] = rank < np.repeat(take, counts)
    if not chosen.any():
        raise JaxddError(f"{complaint}, because every class has a single example")
    return rows[chosen], rows[~chosen]
