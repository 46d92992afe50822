"""Real data as a config says: loaded, split, transformed, as methods and networks see them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from jaxdd import _progress, data, engine, methods
from jaxdd._files import expanded
from jaxdd.data.sources import located
from jaxdd.errors import JaxddError, printable
from jaxdd.selection import Selection
from jaxdd.types import Array, HostArray, Method, RealData, Recipe

SELECTION = "selection.safetensors"


@dataclasses.dataclass(frozen=True)
class Real:
    """A data set as methods and networks see it.

    Attributes:
      dataset: as it was loaded, by split.
      transform: fitted on the training images.
      stored: training data as a run holds them, for `method`.
      decode: from stored to transformed images, or None where they are stored transformed.
      validation: held-out training data, or None.
      test: test data.
      kept: hash (hex) of the selection that its training examples are, or None for all.
    """

    dataset: data.Dataset
    transform: data.Transform
    stored: RealData
    decode: Callable[[Array], Array] | None
    validation: RealData | None
    test: RealData
    kept: str | None = None

    @classmethod
    def load(
        cls,
        name: str,
        transform: data.Transform | Mapping[str, Any],
        *,
        validation: float,
        seed: int,
        stream: bool,
        cache: bool = False,
        keep: str | None = None,
    ) -> Real:
        """Load a data set, and fit its transform if it is given as the section `data` of a config.

        Args:
          keep: the file of a `Selection`, or its directory: training examples are those alone.
        """
        selection = None if keep is None else Selection.read(selection_file(keep))
        with _progress.phase(f"reading {name}"):
            dataset = data.load(name, validation=validation, seed=seed, stream=stream, cache=cache)
            if selection is not None:
                dataset = _kept(selection, dataset, str(keep))
            with _fitting(name):
                if isinstance(transform, Mapping):
                    transform = _fitted(transform, dataset)
                stored, decode = data.compact_data(dataset.train, transform, dataset.num_classes)
                held_out, test = (
                    data.real_data(split, transform, dataset.num_classes) if len(split) else None
                    for split in (dataset.validation, dataset.test)
                )
        assert test is not None  # only the validation split may be empty
        kept = None if selection is None else selection.content
        return cls(dataset, transform, stored, decode, held_out, test, kept)

    @classmethod
    def of_config(cls, section: Mapping[str, Any]) -> Real:
        """What the section `data` of a complete config says."""
        cuts = {"validation": section["validation"], "seed": section["split_seed"], "keep": section["keep"]}
        reading = {"stream": section["stream"], "cache": section["cache"]}
        return cls.load(str(section["name"]), section, **reading, **cuts)

    @functools.cached_property
    def train(self) -> RealData:
        """For evaluation; made when it is first asked for, after the run."""
        if self.decode is None:
            return self.stored
        return data.real_data(self.dataset.train, self.transform, self.dataset.num_classes)

    def check_full_data(self, wanted: bool) -> None:
        """Refuse `--full_data` before anything is computed, where it cannot be had."""
        if wanted and isinstance(self.dataset.train.images, HostArray):
            raise JaxddError(
                "--full_data trains on all real images in memory, and streamed data are not there; "
                "leave one of them out."
            )

    def method(self, name: str, hyper: Mapping[str, Any]) -> Method | Recipe:
        """A method for `stored`."""
        method = methods.build(name, **hyper)
        return method if self.decode is None else engine.decoding(method, self.decode)


def data_facts(real: Real, section: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says of the data it was made of: which by their hash; paths, as they were given, are hints beside.

    Args:
      section: `data` of a complete config.
    """
    dataset = real.dataset
    kept = {} if real.kept is None else {"kept": real.kept, **_hint("keep", section["keep"])}
    return {
        "name": dataset.name,
        "source_hash": dataset.source_hash,
        **(_hint("path", section["name"]) if located(section["name"]) else {}),
        "class_names": list(dataset.class_names),
        "num_classes": dataset.num_classes,
        "license": dataset.license,
        "pixel_range": list(dataset.pixel_range),
        "validation": section["validation"],
        **({"own_validation": True} if dataset.own_validation else {}),
        "split_seed": section["split_seed"],
        **kept,
    }


def _hint(name: str, path: Any) -> dict[str, str]:
    """A path by its name, if it can be written down."""
    return {name: str(path)} if printable(str(path)) == str(path) else {}


def selection_file(source: str | os.PathLike) -> pathlib.Path:
    """The file of a selection that `source` is, or that lies in the directory `source`.

    Raises:
      JaxddError: if the directory holds none.
    """
    path = expanded(source)
    if path.is_dir():
        path = path / SELECTION
        if not path.exists():
            raise JaxddError(f"{source} holds no {SELECTION}, which jaxdd select writes.")
    return path


def _kept(selection: Selection, dataset: data.Dataset, keep: str) -> data.Dataset:
    try:
        return selection.kept(dataset)
    except JaxddError as error:
        raise JaxddError(f"{keep}: {str(error).rstrip('.')}; select from these data anew.") from error


def _fitted(section: Mapping[str, Any], dataset: data.Dataset) -> data.Transform:
    """The transform that the section `data` of a config asks for."""
    spec = section["transform"]
    transform = data.fit_transform(spec, dataset.train.images, zca_ridge=section["zca_ridge"], name=dataset.name)
    if spec.startswith("published") and dataset.pixel_range != (0.0, 1.0):
        raise JaxddError(
            f"the constants published for {dataset.name} are of images in [0, 1], but its pixels are in "
            f'{list(dataset.pixel_range)}: the transform "standardize" measures them.'
        )
    return transform


@contextlib.contextmanager
def _fitting(name: str) -> Iterator[None]:
    """Say what helps where the data of this name are larger than a device's memory."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise JaxddError(
            f"{name} does not fit into memory; a folder of images or .npy files can be streamed: "
            "config.data.stream, or --stream of jaxdd evaluate."
        ) from error
