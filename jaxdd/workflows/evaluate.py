"""Measure a distilled file again."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxdd import evaluation, sets
from jaxdd._dotted import is_dotted
from jaxdd._files import expanded
from jaxdd.data.sources import located
from jaxdd.errors import JaxddError
from jaxdd.selection import Selection
from jaxdd.synthetic import DistilledDataset
from jaxdd.workflows.config import check_seed
from jaxdd.workflows.data import Real, selection_file
from jaxdd.workflows.outcome import FILE, Outcome, measure, summary
from jaxdd.workflows.record import record
from jaxdd.workflows.transfer import check

_LOG = logging.getLogger("jaxdd")
SETS = "sets:"
"""Before the name of a set that travels with jaxdd, where a file is asked for."""


class Opened(NamedTuple):
    """A distilled file and the data to measure it on.

    Attributes:
      path: of the file.
      dataset: what is in it.
      real: the data.
      same: whether it was distilled from these.
    """

    path: pathlib.Path
    dataset: DistilledDataset
    real: Real
    same: bool

    @property
    def features(self) -> bool:
        """Whether its labels are features, which know no classes."""
        return self.dataset.header["label_convention"] == "features"

    def model(self, named: str | None) -> str:
        """The network that is named, or that the file is meant for; code is run only if it is named."""
        meant = self.dataset.header.get("model") or "convnet"
        if named is None and is_dotted(str(meant).partition("(")[0]):
            raise JaxddError(
                f"{self.path} names a network by its code, {meant}, which runs only if you name it: --model={meant}."
            )
        return named or meant

    def protocol(self, named: str | None, learning_rate: float | None) -> evaluation.Protocol:
        """The protocol that is named, or that the file is meant for, with a rate that may be fixed."""
        chosen = evaluation.protocols.get(named or self.dataset.header.get("protocol") or "default")
        return chosen if learning_rate is None else dataclasses.replace(chosen, learning_rates=(learning_rate,))

    def result(self, scores: Mapping[str, Any], began: float) -> dict[str, Any]:
        """The flat result of measuring it since `began`."""
        return {
            "method": self.dataset.header.get("method"),
            "data": self.real.dataset.name,
            "distilled_from_this_data": self.same,
            "num_images": len(self.dataset.images),
            "num_bits": self.dataset.header["num_bits"],
            **scores,
            "seconds": time.perf_counter() - began,
            "devices": 1,
            "resumed_from": 0,
        }


def evaluate(
    source: str | os.PathLike,
    *,
    model: str | None = None,
    networks: int = 5,
    data_name: str | None = None,
    stream: bool = False,
    cache: bool = False,
    protocol: str | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    full_data: bool = False,
    baselines: str | None = None,
    diversity: bool = False,
    target: str | None = None,
    fine_tuning: str | None = None,
    labels_per_class: int | None = None,
    command: str = "",
) -> Outcome:
    """Train fresh networks on a distilled file, beside random real images.

    Args:
      source: the file, or the directory of its run, or `sets:NAME`, see `jaxdd.sets`.
      model, protocol: names, see `jaxdd list`; by default those the file is meant for.
      networks: how many.
      data_name: another data set to test on than the one it was distilled from.
      stream: leave the data's images in their files, see `data.load`.
      cache: keep the data's pictures as they are decoded, see `data.load`.
      learning_rate: fixes the protocol's.
      seed: of the networks.
      full_data: also measure networks trained on all real data.
      baselines: rules of choice whose real images stand beside random ones, as in "herding,facility".
      diversity: also say how diverse each set is and how well it stands for the real images, see `selection.diversity`.
      target: of a set whose labels are features: another data set on which networks that were pretrained on it are
        measured, its images resized where they have to be. `data_name` is still the one it was distilled from.
      fine_tuning: likewise, the protocol of fine-tuning; None for linear probes alone.
      labels_per_class: likewise, labelled images of each class that these are trained on; None for all.
      command: what was typed, for the record.

    Raises:
      JaxddError: if the file is not whole, or the data it was distilled from is not to be had or is not the same.
    """
    began = time.perf_counter()
    evaluation.rules_of(baselines)
    transferred = {"target": target, "fine_tuning": fine_tuning, "labels_per_class": labels_per_class}
    reading = {"stream": stream, "cache": cache}
    file = opened(source, data_name, **reading, full_data=full_data, transferred=any(transferred.values()))
    model, chosen = file.model(model), file.protocol(protocol, learning_rate)
    if file.features:
        check(file.dataset.distilled(), file.real.dataset, model=model, protocol=chosen, full_data=full_data)
    how = {"protocol": chosen, "networks": networks, "full_data": full_data, "baselines": baselines, **transferred}
    how["diverse"] = diversity
    scores, rows = measure(file.dataset, file.real, model=model, seed=check_seed(seed), **how)
    evaluated = {
        "model": model,
        "protocol": chosen.name,
        "learning_rate": learning_rate,
        "networks": networks,
        "full_data": full_data,
        "baselines": baselines,
        **(of_transfer(**transferred) if file.features else {}),
    }
    settings = {"seed": seed, "data": {"name": file.real.dataset.name, "stream": stream}, "evaluation": evaluated}
    result = file.result(scores, began)
    return Outcome(file.path, result, rows, summary(file.dataset), record(settings, command=command))


def of_transfer(target: str | None, fine_tuning: str | None, labels_per_class: int | None) -> dict[str, Any]:
    """What a record says of how a set without classes was measured."""
    return {"transfer": target, "fine_tuning": fine_tuning, "labels_per_class": labels_per_class}


def opened(
    source: str | os.PathLike,
    data_name: str | None,
    *,
    stream: bool,
    cache: bool = False,
    full_data: bool,
    transferred: bool,
) -> Opened:
    """A distilled file with its data, once all that is asked of them is known to be possible.

    Args:
      transferred: whether what is for sets whose labels are features was asked for.

    Raises:
      JaxddError: as `evaluate`.
    """
    path = distilled_file(source)
    dataset = DistilledDataset.read(path)
    real = _real(dataset, path, data_name, stream=stream, cache=cache)
    real.check_full_data(full_data)
    about = dataset.header["data"]
    file = Opened(path, dataset, real, about.get("source_hash") in (None, real.dataset.source_hash))
    if not file.features:
        evaluation.check_fits(dataset, real.dataset)
        if transferred:
            raise JaxddError(
                f"{path} has classes: --transfer, --fine_tuning and --labels_per_class are for sets whose labels are "
                "features."
            )
    if data_name is None and not file.same:
        raise JaxddError(
            f"{about.get('name')!r} here is not the data {path} was distilled from (their hashes differ); "
            "name the right one by --data, or the same name to test on this one all the same."
        )
    return file


def _real(dataset: DistilledDataset, path: pathlib.Path, data_name: str | None, **reading: bool) -> Real:
    """The data to test on: of another name, or those a file was distilled from, at their path or by their name."""
    about = dataset.header["data"]
    hint = about.get("path")
    name = data_name or (hint if _is_here(hint) else about.get("name"))
    if data_name is None and isinstance(name, str) and is_dotted(name) and not _is_here(name):
        raise JaxddError(f"{path} names a function, {name}, which is called only if you name it: --data={name}.")
    if name is None:
        raise JaxddError(f"{path} does not say which data it was distilled from: name it by --data=NAME_OR_PATH.")
    cuts = {"validation": about.get("validation", 0.1), "seed": about.get("split_seed", 0), "keep": _keep(about, path)}
    try:
        return Real.load(name, dataset.transform, **reading, **cuts)
    except JaxddError as error:
        if data_name is not None:
            raise
        was = f"it was distilled from {hint} (no such path here); " if hint and name != hint else ""
        raise JaxddError(f"{str(error).rstrip('.')}; {was}--data=NAME_OR_PATH says where {name!r} lies.") from error


def _keep(about: Mapping[str, Any], path: pathlib.Path) -> str | None:
    """The file of the selection that a set was distilled from, where it still lies; baselines are of all data else."""
    if about.get("kept") is None:
        return None
    hint = about.get("keep")
    with contextlib.suppress(JaxddError):
        if isinstance(hint, str) and Selection.read(selection_file(hint)).content == about["kept"]:
            return hint
    _LOG.warning("%s was distilled from some of its data, %s, which is not here: baselines are of all.", path, hint)
    return None


def _is_here(hint: Any) -> bool:
    """Whether the path that a file gives for its data is one on this machine."""
    try:
        return isinstance(hint, str) and located(hint) is not None
    except JaxddError:  # `~`, where nobody has a home
        return False


def distilled_file(source: str | os.PathLike) -> pathlib.Path:
    """The distilled file that `source` is, or that lies in the directory `source`, or of the set in `sets:NAME`.

    Raises:
      JaxddError: if there is none.
    """
    if str(source).startswith(SETS):
        return sets.path(str(source).removeprefix(SETS))
    path = expanded(source)
    if path.is_dir():
        path = path / FILE
        if not path.exists():
            raise JaxddError(f"{source} holds no {FILE}: is its run finished?")
    return path
