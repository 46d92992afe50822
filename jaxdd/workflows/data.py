"""Real data as a config says: loaded, split, transformed, as methods and networks see them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from jaxdd import _progress, data, engine, methods
from jaxdd.errors import JaxddError
from jaxdd.types import Array, HostArray, Method, RealData, Recipe


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
    """

    dataset: data.Dataset
    transform: data.Transform
    stored: RealData
    decode: Callable[[Array], Array] | None
    validation: RealData | None
    test: RealData

    @classmethod
    def load(
        cls, name: str, transform: data.Transform | Mapping[str, Any], *, validation: float, seed: int, stream: bool
    ) -> Real:
        """Load a data set, and fit its transform if it is given as the section `data` of a config."""
        with _progress.phase(f"reading {name}"):
            dataset = data.load(name, validation=validation, seed=seed, stream=stream)
            with _fitting(name):
                if isinstance(transform, Mapping):
                    transform = _fitted(transform, dataset)
                stored, decode = data.compact_data(dataset.train, transform, dataset.num_classes)
                held_out, test = (
                    data.real_data(split, transform, dataset.num_classes) if len(split) else None
                    for split in (dataset.validation, dataset.test)
                )
        assert test is not None  # only the validation split may be empty
        return cls(dataset, transform, stored, decode, held_out, test)

    @classmethod
    def of_config(cls, section: Mapping[str, Any]) -> Real:
        """What the section `data` of a complete config says."""
        cuts = {"validation": section["validation"], "seed": section["split_seed"]}
        return cls.load(str(section["name"]), section, stream=section["stream"], **cuts)

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
