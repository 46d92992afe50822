"""Transforms between pixel space and the space methods and networks see: values that know their inverse.

Each is a frozen dataclass and a pytree, so it can be closed over or passed through `jax.jit`. `apply` and `inverse`
take float images `(n, height, width, channels)`, NumPy or JAX, and return the same kind.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd._system import free_memory, in_words
from jaxdd.errors import JaxddError, unknown
from jaxdd.types import HostArray

Images = TypeVar("Images", np.ndarray, jax.Array)

# Means and standard deviations of channels for images in [0, 1], as Zhao, Mopuri & Bilen (2021) have them and, after
# them, DSA, DM, CAFE, IDC, DataDAM, NCFM and linear bases. They are not all those of the data: on CIFAR-10 the latter
# are near .247, .243 and .262.
_MNIST = ((0.1307,), (0.3081,))
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PUBLISHED: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "mnist": _MNIST,
    "mnist_5k": _MNIST,
    "fashion_mnist": ((0.2861,), (0.3530,)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "svhn_cropped": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "tiny_imagenet": _IMAGENET,
    "tiny_imagenet32": _IMAGENET,
    "imagenet": _IMAGENET,
}

_BLOCK_BYTES = 64 * 2**20
_CACHE_BYTES = 2**22  # what is summed at once: with its float64 copies it stays in cache, in a quarter of the time


@runtime_checkable
class Transform(Protocol):
    """An invertible map of images."""

    @property
    def name(self) -> str: ...

    def apply(self, images: Images) -> Images: ...

    def inverse(self, images: Images) -> Images: ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Identity:
    """Leaves images as they are."""

    @property
    def name(self) -> str:
        return "none"

    def apply(self, images: Images) -> Images:
        return images

    def inverse(self, images: Images) -> Images:
        return images


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Standardize:
    """Mean 0 and standard deviation 1 for each channel: `(x - mean) / std`.

    Attributes:
      mean: float32 `(channels,)`.
      std: float32 `(channels,)`, 1 where a channel is constant.
    """

    mean: np.ndarray
    std: np.ndarray

    @property
    def name(self) -> str:
        return "standardize"

    @classmethod
    def fit(cls, images: np.ndarray | HostArray) -> Standardize:
        """Mean and standard deviation of each channel over images `(n, h, w, c)`, in float64 and one pass.

        Of uint8 images, values are counted: exact in whatever order, so that data in memory and streamed ones give the
        same bits; of a data set that is streamed, `load` has counted them, and nothing is read. Moments of blocks of
        float images are merged as by Chan, Golub & LeVeque (1983), "Algorithms for computing the sample variance".
        """
        if (counts := _counted(images)) is not None:
            return cls._of_counts(counts)
        count, mean, squares = 0, np.zeros(images.shape[-1]), np.zeros(images.shape[-1])
        for part in (block[rows] for block in pixel_blocks(images) for rows in block_rows(block.shape, _CACHE_BYTES)):
            added = part.size // part.shape[-1]
            part_mean = part.sum(0, dtype=np.float64).sum((0, 1)) / added
            share, shift = added / (count + added), part_mean - mean
            squares += np.square(part - part_mean).sum(0).sum((0, 1)) + shift**2 * count * share
            mean += shift * share
            count += added
        return cls._of_moments(mean, squares / count)

    @classmethod
    def _of_counts(cls, counts: np.ndarray) -> Standardize:
        values = pixel_space(np.arange(256, dtype=np.uint8)).astype(np.float64)
        total = counts.sum(1)
        mean = (counts * values).sum(1) / total
        return cls._of_moments(mean, (counts * np.square(values - mean[:, None])).sum(1) / total)

    @classmethod
    def _of_moments(cls, mean: np.ndarray, variance: np.ndarray) -> Standardize:
        std = np.sqrt(variance).astype(np.float32)
        # A constant channel has the rounding error of its mean for a deviation; dividing by that would blow it up.
        std = np.where(std > 1e-6 * np.abs(mean), std, np.float32(1))
        return cls(np.asarray(mean, np.float32), std)

    @classmethod
    def published(cls, name: str, channels: int) -> Standardize:
        """With the constants that papers have for a data set, see `PUBLISHED`.

        Args:
          name: of the data set; a configuration or version behind it, as TFDS writes them, plays no part.
          channels: of its images.

        Raises:
          JaxddError: if there are none for this name, or they are of other channels.
        """
        known = PUBLISHED.get(re.split("[/:]", name)[0])
        if known is None:
            raise JaxddError(
                f"no constants are published for data set {name!r}, only for {', '.join(PUBLISHED)}: the transform "
                '"standardize" measures them'
            )
        mean, std = (np.array(constants, np.float32) for constants in known)
        if len(mean) != channels:
            raise JaxddError(
                f"the constants published for {name} are of {len(mean)} channels, but its images have {channels}: the "
                'transform "standardize" measures them'
            )
        return cls(mean, std)

    def apply(self, images: Images) -> Images:
        _check(self.name, images, (*images.shape[1:3], *np.shape(self.mean)))
        return (images - self.mean[None, None, None]) / self.std[None, None, None]

    def inverse(self, images: Images) -> Images:
        _check(self.name, images, (*images.shape[1:3], *np.shape(self.mean)))
        return images * self.std[None, None, None] + self.mean[None, None, None]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class ZCA:
    """Regularised ZCA whitening of whole images: `(x - mean) W`, with W = U diag(1/sqrt(s + ridge·mean(s))) Uᵀ.

    U and s are the eigenvectors and eigenvalues of the covariance, so `ridge` is relative to their mean, as in
    Nguyen et al. (2021), "Dataset distillation with infinitely wide convolutional networks", and FRePo (Zhou et al.,
    2022); both use 0.1. The inverse solves with W, which is symmetric and positive definite.

    Attributes:
      mean: float32 `(height, width, channels)`.
      whitening: W, float32 `(d, d)` with d = height·width·channels.
      ridge: what it was fitted with; kept for the record.
    """

    mean: np.ndarray
    whitening: np.ndarray
    ridge: float = dataclasses.field(default=0.1, metadata={"static": True})

    @property
    def name(self) -> str:
        return "zca"

    @classmethod
    def fit(cls, images: np.ndarray | HostArray, *, ridge: float = 0.1, after: Transform | None = None) -> ZCA:
        """Fit on images `(n, h, w, c)`, or on `after.apply(images)`, which is never held as a whole.

        Time is O(n d² + d³), memory beside the images about four `(d, d)` matrices in float64.

        Raises:
          JaxddError: `ridge` is not a finite number above 0, all images are equal, or the matrices do not fit.
        """
        if not (isinstance(ridge, int | float | np.number) and math.isfinite(ridge) and ridge > 0):
            raise JaxddError(f"zca_ridge must be a finite number above 0, got {ridge!r}")
        check_whitening_fits(images.shape)
        try:
            return cls._fit(images, ridge, after)
        except MemoryError as error:
            raise _whitening_too_large(images.shape) from error

    @classmethod
    def _fit(cls, images: np.ndarray | HostArray, ridge: float, after: Transform | None) -> ZCA:
        first: Transform = after or Identity()
        shape = images.shape[1:]
        dim = math.prod(shape)

        def flat_blocks() -> Iterator[np.ndarray]:
            return (np.asarray(first.apply(block)).reshape(-1, dim) for block in pixel_blocks(images))

        mean = sum((block.sum(0, dtype=np.float64) for block in flat_blocks()), np.zeros(dim)) / len(images)
        mean = mean.astype(np.float32)
        covariance = np.zeros((dim, dim))
        for block in flat_blocks():
            centred = block - mean
            covariance += centred.T @ centred  # float32 within a block, float64 between them: error 1e-6 of mean(s)
        covariance /= len(images)
        s, u = np.linalg.eigh(covariance)
        s = s.clip(0)
        if s.mean() == 0:
            raise JaxddError("ZCA cannot be fitted: all images are equal")
        whitening = (u / np.sqrt(s + ridge * s.mean())) @ u.T
        return cls(mean.reshape(shape), whitening.astype(np.float32), float(ridge))

    def apply(self, images: Images) -> Images:
        _check(self.name, images, np.shape(self.mean))
        flat = (images - self.mean[None]).reshape(len(images), -1)
        if isinstance(images, np.ndarray):
            return (flat @ np.asarray(self.whitening)).reshape(images.shape)
        # Highest: the bfloat16 or TF32 products that accelerators take by default are not invertible to 1e-4.
        return jnp.matmul(flat, self.whitening, precision="highest").reshape(images.shape)

    def inverse(self, images: Images) -> Images:
        _check(self.name, images, np.shape(self.mean))
        flat = images.reshape(len(images), -1).T
        if isinstance(images, np.ndarray):
            solved = np.linalg.solve(np.asarray(self.whitening, np.float64), flat).astype(images.dtype)
            return solved.T.reshape(images.shape) + self.mean[None]
        factor = jax.scipy.linalg.cho_factor(jnp.asarray(self.whitening))
        solved = jax.scipy.linalg.cho_solve(factor, flat)
        # One step of iterative refinement takes back what the float32 factor loses at a small ridge.
        residual = flat - jnp.matmul(self.whitening, solved, precision="highest")
        solved = solved + jax.scipy.linalg.cho_solve(factor, residual)
        return solved.T.reshape(images.shape) + self.mean[None]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """Transforms applied one after the other."""

    transforms: tuple[Transform, ...]

    @property
    def name(self) -> str:
        return "+".join(t.name for t in self.transforms)

    def apply(self, images: Images) -> Images:
        for transform in self.transforms:
            images = transform.apply(images)
        return images

    def inverse(self, images: Images) -> Images:
        for transform in reversed(self.transforms):
            images = transform.inverse(images)
        return images


TRANSFORMS = ("none", "standardize", "published", "zca", "published+zca")


def fit_transform(
    spec: str, images: np.ndarray | HostArray, *, zca_ridge: float = 0.1, name: str | None = None
) -> Transform:
    """Fit a transform by name on training images in pixel space.

    Images that stay on the host are read once to measure channels, unless `load` has done that, and twice to whiten.

    Args:
      images: `(n, h, w, c)`, float32, or uint8 as their source has them, which are scaled by 1/255 a block at a time
        and never held as floats as a whole.
      spec: "none"; "standardize" (channels by what is measured); "published" (channels of images in [0, 1] by the
        constants that papers have for the data set, see `PUBLISHED`); "zca" (standardise, then whiten);
        "published+zca" (the same by published constants).
      zca_ridge: relative to the mean eigenvalue of the covariance, above 0; of whitening.
      name: of the data set, for its published constants.

    Raises:
      JaxddError: unknown name, a data set without published constants, or a ridge that is not above 0.
    """
    if spec not in TRANSFORMS:
        raise unknown("transform", spec, TRANSFORMS)
    if spec == "none":
        return Identity()
    if spec.endswith("zca"):
        check_whitening_fits(images.shape)  # before images are read to measure channels
    published = spec.startswith("published")
    channels = Standardize.published(name or "", images.shape[-1]) if published else Standardize.fit(images)
    if not spec.endswith("zca"):
        return channels
    return Chain((channels, ZCA.fit(images, ridge=zca_ridge, after=channels)))


# What a file says of a transform: one JSON object for each step, and its arrays under "transform.<step>.<field>".
_FIELDS = {
    "none": (Identity, (), ()),
    "standardize": (Standardize, ("mean", "std"), ()),
    "zca": (ZCA, ("mean", "whitening"), ("ridge",)),
}


def transform_to_tensors(transform: Transform) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """The transform as a JSON-able list of steps and float32 arrays named "transform.<step>.<field>"."""
    spec: list[dict[str, Any]] = []
    tensors: dict[str, np.ndarray] = {}
    for step, part in enumerate(_steps(transform)):
        if part.name not in _FIELDS or not isinstance(part, _FIELDS[part.name][0]):
            raise JaxddError(f"transform {part.name!r} ({type(part).__name__}) cannot be stored in a file")
        _, arrays, settings = _FIELDS[part.name]
        spec.append({"name": part.name, **{field: getattr(part, field) for field in settings}})
        for field in arrays:
            tensors[f"transform.{step}.{field}"] = np.asarray(getattr(part, field), np.float32)
    return spec, tensors


def transform_from_tensors(spec: list[dict[str, Any]], tensors: Mapping[str, np.ndarray]) -> Transform:
    """The inverse of `transform_to_tensors`; tensors of other names are ignored.

    Raises:
      JaxddError: the list is not such a list, a tensor is missing, or shapes or values cannot belong to the step.
    """
    if not isinstance(spec, list) or not all(isinstance(entry, dict) for entry in spec):
        raise JaxddError(f"a stored transform must be a list of steps, got {spec!r}")
    parts: list[Transform] = []
    for step, entry in enumerate(spec):
        name = str(entry.get("name"))
        if name not in _FIELDS:
            raise unknown("transform", name, _FIELDS)
        kind, arrays, settings = _FIELDS[name]
        fields: dict[str, Any] = {}
        for field in arrays:
            key = f"transform.{step}.{field}"
            if key not in tensors:
                raise JaxddError(f"the stored transform {name!r} lacks its tensor {key!r}")
            fields[field] = np.asarray(tensors[key])
            if fields[field].dtype != np.float32 or not np.isfinite(fields[field]).all():
                raise JaxddError(f"tensor {key!r} of the stored transform must be finite float32")
        for field in settings:
            if not isinstance(entry.get(field), int | float):
                raise JaxddError(f"the stored transform {name!r} lacks the number {field!r}")
            fields[field] = float(entry[field])
        _check_stored(name, fields)
        parts.append(kind(**fields))
    if len(parts) == 1:
        return parts[0]
    return Chain(tuple(parts)) if parts else Identity()


def check_whitening_fits(shape: tuple[int, ...]) -> None:
    """Refuse to whiten images whose matrices are larger than memory: the system would end the process.

    Args:
      shape: of the images, `(n, h, w, c)`.
    """
    free = free_memory()
    if free is not None and _whitening_bytes(shape) > free:
        raise _whitening_too_large(shape, f", and {in_words(free)} are free")


def _whitening_bytes(shape: tuple[int, ...]) -> int:
    return 4 * 8 * math.prod(shape[1:]) ** 2  # the covariance, its copy in LAPACK, and LAPACK's room for two more


def _whitening_too_large(shape: tuple[int, ...], free: str = "") -> JaxddError:
    dim = math.prod(shape[1:])
    images, needed = "x".join(map(str, shape[1:])), in_words(_whitening_bytes(shape))
    return JaxddError(
        f"zca cannot whiten images of {images}: its matrix of {dim} x {dim} needs {needed} of memory while it is "
        f"fitted{free}; streaming does not help, smaller images or the transform 'standardize' do"
    )


def is_elementwise(transform: Transform) -> bool:
    """Whether it takes each pixel by itself."""
    return all(isinstance(part, Identity | Standardize) for part in _steps(transform))


def block_rows(shape: tuple[int, ...], size: int | None = None) -> Iterator[slice]:
    """Slices over the examples of a shape, each at most `size` bytes as float32, by default 64 MiB, or one example."""
    rows = max(1, (size or _BLOCK_BYTES) // (4 * math.prod(shape[1:])))
    return (slice(start, min(start + rows, shape[0])) for start in range(0, shape[0], rows))


def blocks(images: np.ndarray | HostArray) -> Iterator[tuple[slice, np.ndarray]]:
    """Images some at a time, with their rows; what stays on the host is read and decoded there."""
    for rows in block_rows(images.shape):
        if isinstance(images, HostArray):
            block: Any = images.read(np.arange(rows.start, rows.stop))
            yield rows, block if images.decode is None else np.asarray(images.decode(block))
        else:
            yield rows, images[rows]


def pixel_blocks(images: np.ndarray | HostArray) -> Iterator[np.ndarray]:
    """Images in pixel space, some at a time."""
    return (pixel_space(block) for _, block in blocks(images))


def value_counts(images: np.ndarray) -> np.ndarray:
    """How often each channel of uint8 images `(n, h, w, c)` has each value, int64 `(c, 256)`."""
    return np.stack(
        [_counts_of(np.ascontiguousarray(images[..., channel]).reshape(-1)) for channel in range(images.shape[-1])]
    )


def _counts_of(values: np.ndarray) -> np.ndarray:
    """By pairs, which are half as many, and the last one of an odd number by itself."""
    odd = len(values) % 2
    pairs = np.bincount(values[: len(values) - odd].view(np.uint16), minlength=2**16).reshape(256, 256)
    return pairs.sum(0) + pairs.sum(1) + np.bincount(values[len(values) - odd :], minlength=256)


def _counted(images: np.ndarray | HostArray) -> np.ndarray | None:
    """The `value_counts` of images that are uint8, as they are or in pixel space; None of others."""
    if isinstance(images, HostArray):
        if images.stored != np.uint8 or images.decode not in (None, pixel_space):
            return None
        if images.counts is not None:
            return images.counts
        images = dataclasses.replace(images, decode=None)
    elif images.dtype != np.uint8:
        return None
    return sum((value_counts(block) for _, block in blocks(images)), np.zeros((images.shape[-1], 256), np.int64))


def pixel_space(images: Any) -> Any:
    """uint8 images scaled by 1/255 into [0, 1], float ones as they are."""
    return images / np.float32(255) if images.dtype == np.uint8 else images


def _steps(transform: Transform) -> Iterator[Transform]:
    if isinstance(transform, Chain):
        for part in transform.transforms:
            yield from _steps(part)
    else:
        yield transform


def _check(name: str, images: Any, expected: tuple[int, ...]) -> None:
    if images.ndim != 4 or images.shape[1:] != expected:
        raise JaxddError(f"transform {name!r} was fitted on images of shape {expected}, got {images.shape[1:]}")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise JaxddError(f"transform {name!r} takes float images in pixel space, got {images.dtype}: use pixels()")


def _check_stored(name: str, fields: Mapping[str, Any]) -> None:
    if name == "standardize":
        mean, std = fields["mean"], fields["std"]
        if mean.ndim != 1 or mean.shape != std.shape or not (std > 0).all():
            raise JaxddError("the stored transform 'standardize' needs a mean and a positive std for each channel")
    if name == "zca":
        mean, whitening = fields["mean"], fields["whitening"]
        if mean.ndim != 3 or whitening.shape != (mean.size, mean.size):
            raise JaxddError(
                f"the stored transform 'zca' has a mean of shape {mean.shape} and a matrix of shape {whitening.shape}"
            )
