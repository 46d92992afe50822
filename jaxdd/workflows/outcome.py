"""What commands end in: a distilled file, its scores beside baselines, and their names."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from typing import Any

import jax
import numpy as np

from jaxdd import data, evaluation
from jaxdd._dotted import is_dotted
from jaxdd._files import digest, read_object
from jaxdd._jax import key_of
from jaxdd.synthetic import DistilledDataset
from jaxdd.types import Network
from jaxdd.workflows.data import Real
from jaxdd.workflows.products import build_model, predictor
from jaxdd.workflows.transfer import measure_transfer

FILE = "distilled.safetensors"
BEST = "best_on_validation.safetensors"
RESULTS = "results.json"
_EVALUATION_STREAM = 0x6576616C  # "eval"; far from the small numbers that split() amounts to


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command ends in.

    Attributes:
      path: of the distilled file.
      result: flat and JSON-able.
      rows: of the comparison table, see `evaluation.Row.as_dict`; that of the set has `by_class`, too: `class_names`,
        `test_images` of each and, for "networks" and "kernel", what `evaluation.Confusion.as_dict` says.
      summary: a line about the set.
      record: seed, config, machine, versions and date, see `record`.
      architectures: what networks of other kinds made of the set, see `architectures`; None if nobody asked.
    """

    path: pathlib.Path
    result: dict[str, Any]
    rows: list[dict[str, Any]]
    summary: str
    record: dict[str, Any]
    architectures: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """What `results.json` holds."""
        other = {} if self.architectures is None else {"architectures": self.architectures}
        return {"result": self.result, "rows": self.rows, "record": self.record, **other}


def read_results(directory: pathlib.Path) -> dict[str, Any] | None:
    """What the `results.json` of a run holds, see `Outcome.as_dict`; None where there is none, or it is damaged."""
    held = read_object(directory / RESULTS)
    return held if held is not None and isinstance(held.get("result"), dict) else None


def measure(
    dataset: DistilledDataset,
    real: Real,
    *,
    model: str | None,
    protocol: evaluation.Protocol,
    networks: int,
    seed: int,
    full_data: bool,
    baselines: str | None = None,
    diverse: bool = False,
    target: str | None = None,
    fine_tuning: str | None = None,
    labels_per_class: int | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Scores of a set by name, and the comparison table's rows.

    Args:
      model: of the networks that are trained; None trains none.
      networks: how many.
      seed: theirs.
      full_data: whether networks trained on all real data are measured as well.
      baselines: rules of choice, see `evaluation.rules_of`.
      diverse: whether it is said how diverse the sets are, see `evaluation.compare`.
      target, fine_tuning, labels_per_class: of a set whose labels are features, see `measure_transfer`.
    """
    key = jax.random.fold_in(key_of(seed), _EVALUATION_STREAM)  # another stream than the engine's, key(seed)
    if dataset.header["label_convention"] == "features":
        pretrained = {"model": model or "convnet", "protocol": protocol, "networks": networks, "key": key}
        of_task = {"target": target, "fine_tuning": fine_tuning, "labels_per_class": labels_per_class}
        return measure_transfer(dataset, real, **pretrained, **of_task)
    network, distilled = build_model(model, real.dataset), dataset.distilled()
    full = None
    if full_data and network is not None:
        full = _full_data(network, str(model), dataset, real, seed=seed)
    compared = evaluation.compare(
        network,
        distilled,
        real.train,
        None if real.validation is None else real.validation.examples,
        real.test.examples,
        protocol,
        key=key,
        num_networks=networks,
        predictor=predictor(distilled, real.dataset),
        full_data=full,
        full_bits=full_bits(real.dataset),
        rules=evaluation.rules_of(baselines),
        diverse=diverse,
    )
    rows = [{**row.as_dict(), "model": model if row.score else None} for row in compared]
    rows[0]["by_class"] = _by_class(compared[0], real)
    if dataset.selected:
        rows[0]["shown"] = "selected"
    return _scores(rows, model), rows


def _by_class(row: evaluation.Row, real: Real) -> dict[str, Any]:
    """How well networks and the kernel know each class, and what they take for what; JSON-able."""
    found = {"networks": row.score and row.score.confusion, "kernel": row.kernel_confusion}
    told = {how: confusion for how, confusion in found.items() if confusion is not None}
    return {
        "class_names": list(real.dataset.class_names),
        "test_images": np.bincount(real.dataset.test.labels, minlength=real.dataset.num_classes).tolist(),
        **{how: confusion.as_dict() for how, confusion in told.items()},
    }


def _full_data(network: Network, model: str, dataset: DistilledDataset, real: Real, *, seed: int) -> evaluation.Score:
    steps, tensors = data.transform_to_tensors(real.transform)
    identity = {
        "source": real.dataset.source_hash,
        "split": [dataset.header["data"].get("validation"), dataset.header["data"].get("split_seed")],
        **({} if real.kept is None else {"kept": real.kept}),
        "transform": [steps, digest(tensors[part] for part in sorted(tensors))],
        "model": model,
    }
    own = is_dotted(model.partition("(")[0])  # code that may change under its name
    return evaluation.full_data_reference(
        network, real.train, real.test.examples, identity=identity, seed=seed, cache=not own
    )


def _scores(rows: list[dict[str, Any]], model: str | None) -> dict[str, Any]:
    """What a flat result says of the table."""
    ours, baseline = rows[:2]
    scores: dict[str, Any] = {}
    if model is not None:
        scores |= {
            "accuracy_mean": ours["accuracy_mean"],
            "accuracy_std": ours["accuracy_std"],
            "random_real_mean": baseline["accuracy_mean"],
            "random_real_std": baseline["accuracy_std"],
            "herding_mean": next((row["accuracy_mean"] for row in rows if row["name"] == "herding"), None),
            "model": model,
            "protocol": ours["protocol"],
            "networks": ours["networks"],
        }
    if ours["kernel_accuracy"] is not None:
        scores |= {
            "kernel_accuracy": ours["kernel_accuracy"],
            "random_real_kernel_accuracy": baseline["kernel_accuracy"],
        }
    if notes := [f"{row['name']}: {row['note']}" for row in rows if row["note"]]:
        scores["notes"] = notes
    return scores


def full_bits(dataset: data.Dataset) -> int:
    """What the full training set costs as it lies in its source, as an array."""
    images = dataset.train.images
    of_labels = len(images) * max(1, (dataset.num_classes - 1).bit_length())
    return 8 * images.dtype.itemsize * math.prod(images.shape) + of_labels


def summary(dataset: DistilledDataset) -> str:
    """A line about a distilled set."""
    header = dataset.header
    return f"{header.get('method')} on {header['data'].get('name')}, {len(dataset.images)} images"
