"""`DistilledDataset`: one safe file that carries everything needed to train on a distilled set.

A `.safetensors` file with the tensors `images` (pixel space), `labels`, `learning_rates` and `plan` (if learned),
`theta0.*` (a fixed initialisation), `params.*` (what the decoder renders), `label_codec.*` (what a label codec decodes)
and `transform.*`, and one metadata entry, `jaxdd`, with a JSON header. No time or command line is in it, so equal
runs give equal bytes. It opens with the safetensors package alone and never unpickles.

Format version 2 has uint8 images, label codecs and labels that are features. A file without these says version 1, and
is what it was.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxdd import _sealed
from jaxdd._files import disk_errors, expanded, write_atomically
from jaxdd.data import Transform, transform_from_tensors, transform_to_tensors
from jaxdd.data.transforms import pixel_space
from jaxdd.errors import JaxddError
from jaxdd.types import LABEL_CONVENTIONS, Content, Cost, Distilled, Labelling, Training

FORMAT_VERSION = 2
_WHAT = "distilled set"
_PARTS = {"content": Content, "labelling": Labelling, "training": Training, "cost": Cost}


class _Fact(NamedTuple):
    """A field of a part that is an entry of the header."""

    part: str
    field: str
    kinds: Any
    """The types that it may have in JSON."""
    optional: bool = False
    """Left out where it is the field's default; those of format 1 never are."""

    @property
    def default(self) -> Any:
        return next(field.default for field in dataclasses.fields(_PARTS[self.part]) if field.name == self.field)


# What a file holds of the parts of a set beside images and labels, by its names there: one line a field.
_FACTS = {
    "label_convention": _Fact("labelling", "convention", str),
    "label_regime": _Fact("labelling", "regime", str),
    "kernel": _Fact("training", "kernel", (dict, type(None))),
    "iterate": _Fact("content", "iterate", str),
    "decoder": _Fact("content", "decoder", str),
    "num_bits": _Fact("cost", "total", int),
    "label_codec": _Fact("labelling", "codec", str, optional=True),
    "counts": _Fact("labelling", "counts", list, optional=True),
}
# A name that ends in a dot is that of a dict of tensors.
_TENSORS = {
    "learning_rates": ("training", "learning_rates"),
    "plan": ("training", "schedule"),
    "theta0.": ("training", "theta0"),
    "params.": ("content", "params"),
    "label_codec.": ("labelling", "stored"),
}


@dataclasses.dataclass(frozen=True, eq=False, init=False)
class DistilledDataset:
    """A distilled set with its preprocessing, label convention and provenance.

    Attributes:
      images: float32 `(m, h, w, c)` in pixel space (uint8 sources lie in [0, 1]; learned pixels may leave it), or uint8
        with 255 for 1, see `pixels`.
      labels: integers `(m,)` or float32 `(m, classes)`, as `header["label_convention"]` says, `(m, d)` for "features".
      transform: from pixel space to what networks see; apply it to test images too.
      header: JSON-able provenance: method, config, seed, data (name, source hash, classes, licence), label convention
        and regime, protocol, kernel, decoder, bits, versions.
      more: all further tensors by their names in the file: `learning_rates`, `plan`, `theta0.*`, `params.*`,
        `label_codec.*`, see `types.Training`, `types.Content` (in transformed space) and `types.Labelling`. The first
        four are also attributes, and keywords of the constructor.

    Raises:
      JaxddError: if that is not a distilled set.
    """

    images: np.ndarray
    labels: np.ndarray
    transform: Transform
    header: dict[str, Any]
    more: dict[str, np.ndarray]

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        transform: Transform,
        header: dict[str, Any],
        more: Mapping[str, np.ndarray] | None = None,
        *,
        learning_rates: np.ndarray | None = None,
        plan: np.ndarray | None = None,
        theta0: Mapping[str, np.ndarray] | None = None,
        params: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        given = {"learning_rates": learning_rates, "plan": plan, "theta0.": theta0, "params.": params}
        more = {**(more or {}), **_flat(given)}
        values = {"images": images, "labels": labels, "transform": transform, "header": header, "more": more}
        for name, value in values.items():
            object.__setattr__(self, name, value)
        if problem := _problem(images, labels, header, more):
            raise JaxddError(f"this is not a distilled set: {problem}.")

    @classmethod
    def create(
        cls, distilled: Distilled, transform: Transform, header: dict[str, Any], *, dtype: DTypeLike = np.float32
    ) -> DistilledDataset:
        """From what a method rendered; `header` adds the provenance.

        Args:
          distilled: images in transformed space, or uint8 ones, which are taken as they are, with 255 for 1 in pixel
            space.
          dtype: of the images in the file. uint8 takes a quarter of the space; it is for real pixels that were chosen,
            or for pixels that a method keeps whole. Bits are those of `distilled.cost` all the same.

        Raises:
          JaxddError: if the pixels are not whole numbers of 255ths and uint8 was asked for; nothing is rounded but the
            error of the transform.
        """
        if np.dtype(dtype) not in (np.uint8, np.float32):
            raise JaxddError(f"images are stored as float32 or uint8, not as {np.dtype(dtype)}.")
        images = np.asarray(distilled.images)
        if images.dtype != np.uint8:
            images = np.asarray(transform.inverse(np.asarray(images, np.float32)), np.float32)
            images = _whole(images) if np.dtype(dtype) == np.uint8 else images
        facts = {name: getattr(getattr(distilled, fact.part), fact.field) for name, fact in _FACTS.items()}
        written = {
            name: _in_json(value, _FACTS[name].kinds)
            for name, value in facts.items()
            if not (_FACTS[name].optional and value == _FACTS[name].default)
        }
        tensors = {name: getattr(getattr(distilled, part), field) for name, (part, field) in _TENSORS.items()}
        labels = np.asarray(distilled.labels)
        return cls(images, labels, transform, {"data": {}, **header, **written}, _flat(tensors))

    def distilled(self) -> Distilled:
        """In transformed space, as networks and kernels see it."""
        parts: dict[str, dict[str, Any]] = {part: {} for part in _PARTS}
        parts["content"]["images"] = jnp.asarray(self.transform.apply(self.pixels()))
        parts["labelling"]["values"] = jnp.asarray(self.labels)
        for name, fact in _FACTS.items():
            if name in self.header:
                parts[fact.part][fact.field] = _hashable(self.header[name])
        for name, (part, field) in _TENSORS.items():
            found = _named(self.more, name)
            if isinstance(found, dict):
                found = {key: jnp.asarray(leaf) for key, leaf in found.items()}
            if found is not None:
                parts[part][field] = found if isinstance(found, dict) else jnp.asarray(found)
        return Distilled(**{part: kind(**parts[part]) for part, kind in _PARTS.items()})

    def pixels(self) -> np.ndarray:
        """The images in pixel space, float32: uint8 ones scaled by 1/255 into [0, 1], float ones as they are."""
        return pixel_space(self.images)

    @property
    def selected(self) -> bool:
        """Whether its images are real ones that were chosen, as `jaxdd select` does, and none that were learned."""
        return "select" in (self.header.get("config") or {})

    @property
    def learning_rates(self) -> np.ndarray | None:
        """float32 `(steps,)`, see `types.Training`."""
        return self.more.get("learning_rates")

    @property
    def schedule(self) -> np.ndarray | None:
        """int32 `(steps, b)`, see `types.Training`; `plan` in the file."""
        return self.more.get("plan")

    plan = schedule

    @property
    def theta0(self) -> dict[str, np.ndarray] | None:
        """Leaves by path, see `types.Training`."""
        return _named(self.more, "theta0.")

    @property
    def params(self) -> dict[str, np.ndarray]:
        """The stored parameters of the decoder, in transformed space."""
        return _named(self.more, "params.") or {}

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """Everything but the transform, under the names it has in the file."""
        return {"images": self.images, "labels": self.labels, **self.more}

    def to_bytes(self) -> bytes:
        """The file's content; equal sets give equal bytes."""
        spec, transform_tensors = transform_to_tensors(self.transform)
        features = self.header["label_convention"] == "features"
        newer = features or "label_codec" in self.header or self.images.dtype == np.uint8
        header = {**self.header, "format_version": 2 if newer else 1, "transform": spec}
        return _sealed.sealed(header, self.tensors | transform_tensors)

    def write(self, path: str | os.PathLike) -> None:
        """Write the file whole or not at all. Raises JaxddError on a full or read-only disk."""
        write_atomically(path, self.to_bytes())

    @classmethod
    def read(cls, path: str | os.PathLike) -> DistilledDataset:
        """Read and check a file: its structure, its version, and that not one bit of it has changed.

        Raises:
          JaxddError: if there is no such file, or it is truncated, altered, foreign, or of a newer format.
        """
        path = expanded(path)
        with disk_errors(path):
            content = path.read_bytes()
        return cls.from_bytes(content, str(path))

    @classmethod
    def from_bytes(cls, content: bytes, name: str = "these bytes") -> DistilledDataset:
        """`read` for a file's content; `name` is what errors call it."""
        header, tensors = _sealed.opened(content, name, _WHAT)
        entries = [*(name for name, fact in _FACTS.items() if not fact.optional), "data", "transform"]
        asked = {"entries": entries, "needed": ["images", "labels"], "newest": FORMAT_VERSION}
        header = _sealed.check(header, tensors, name, _WHAT, **asked)
        images, labels = tensors["images"], tensors["labels"]
        more = {key: tensor for key, tensor in tensors.items() if _is_known(key)}
        if problem := _problem(images, labels, header, more):
            raise JaxddError(f"{name} is not a distilled set: {problem}.")
        return cls(images, labels, transform_from_tensors(header.pop("transform"), tensors), header, more)


def _in_json(value: Any, kinds: Any) -> Any:
    """A fact's value as the header has it: a tuple is a list, or of pairs a dict."""
    if not isinstance(value, tuple):
        return value
    return list(value) if kinds is list else dict(value)


def _hashable(value: Any) -> Any:
    """A fact's value as a set has it."""
    if isinstance(value, dict):
        return tuple(sorted(value.items()))
    return tuple(value) if isinstance(value, list) else value


def _is_known(name: str) -> bool:
    return name in _TENSORS or f"{name.partition('.')[0]}." in _TENSORS


def _flat(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Tensors, and dicts of them, by their names in a file."""
    flat = {}
    for name, value in tensors.items():
        if name.endswith("."):
            flat |= {f"{name}{key}": np.asarray(leaf) for key, leaf in (value or {}).items()}
        elif value is not None:
            flat[name] = np.asarray(value)
    return flat


def _named(tensors: Mapping[str, np.ndarray], name: str) -> Any:
    """What has a name in a file, a tensor or a dict of them; None if there is nothing."""
    if not name.endswith("."):
        return tensors.get(name)
    return {key.removeprefix(name): leaf for key, leaf in tensors.items() if key.startswith(name)} or None


def _whole(pixels: np.ndarray) -> np.ndarray:
    """Pixels as uint8; what a transform and back adds to whole ones, some 1e-4 of a step, is all that is rounded."""
    levels = 255 * pixels
    whole = np.rint(levels)
    furthest = np.abs(levels - whole).max(initial=0)
    if not (furthest < 0.01 and whole.min(initial=0) >= 0 and whole.max(initial=0) <= 255):
        raise JaxddError(
            "these images cannot be stored as uint8: their pixels are not whole numbers of 255ths from 0 to 1 "
            f"({levels.min():.4g} to {levels.max():.4g} of them, up to {furthest:.2g} off); store them as float32."
        )
    return whole.astype(np.uint8)


def _problem(
    images: np.ndarray, labels: np.ndarray, header: dict[str, Any], more: Mapping[str, np.ndarray]
) -> str | None:
    """What keeps these from being a distilled set, if anything does."""
    kinds = {"data": dict, **{name: fact.kinds for name, fact in _FACTS.items() if name in header or not fact.optional}}
    for field, kind in kinds.items():
        if not isinstance(header.get(field, ...), kind):
            return f"{field!r} of its header is {header.get(field)!r}"
    convention = header["label_convention"]
    if convention not in LABEL_CONVENTIONS:
        return f"unknown label convention {convention!r}"
    hard = convention == "hard"
    if images.ndim != 4 or labels.ndim != (1 if hard else 2) or len(labels) != len(images) or 0 in images.shape:
        return f"images of shape {images.shape} with {convention} labels of shape {labels.shape}"
    of_images = images.dtype == np.uint8 or np.issubdtype(images.dtype, np.floating)
    if not of_images or np.issubdtype(labels.dtype, np.integer) != hard:
        return f"{images.dtype} images with {convention} labels of type {labels.dtype}"
    if not (np.isfinite(images).all() and np.isfinite(labels).all()):
        return "some images or labels are not finite"
    if hard and labels.min() < 0:
        return f"label {labels.min()} is negative"
    classes = None if convention == "features" else header["data"].get("num_classes")
    if classes is not None and (labels.max() >= classes if hard else labels.shape[1] != classes):
        return f"its labels are not of {classes} classes"
    counts = header.get("counts", [len(images)])
    if any(type(count) is not int or count < 0 for count in counts) or sum(counts) != len(images):
        return f"'counts' of its header, {counts}, are not those of {len(images)} images"
    if unknown := [name for name in more if not _is_known(name)]:
        return f"it has tensors that nothing is known of, {', '.join(sorted(unknown))}"
    if ("label_codec" in header) != any(name.startswith("label_codec.") for name in more):
        return "it has a label codec without what that decodes, or the other way round"
    return _training_problem(len(images), more.get("learning_rates"), more.get("plan"), _named(more, "theta0."))


def _training_problem(
    num_images: int, rates: np.ndarray | None, schedule: np.ndarray | None, theta0: dict[str, np.ndarray] | None
) -> str | None:
    """What is wrong with how networks are to be trained on a set of so many images, if anything is."""
    if not all(np.isfinite(leaf).all() for leaf in (theta0 or {}).values()):
        return "its initialisation is not finite"
    if rates is not None and not (np.issubdtype(rates.dtype, np.floating) and np.isfinite(rates).all()):
        return "its learning rates are not finite numbers"
    if schedule is None:
        return None
    whole = schedule.ndim == 2 and np.issubdtype(schedule.dtype, np.integer)
    if rates is None or rates.shape != schedule.shape[:1] or not whole:
        return f"{schedule.dtype} plan of shape {schedule.shape} without as many learning rates"
    if not schedule.size or schedule.min() < 0 or schedule.max() >= num_images:
        return f"its plan asks for other rows than its {num_images} images"
    return None
