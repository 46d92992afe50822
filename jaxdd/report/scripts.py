"""`load.py` and `train_torch.py`: programs beside a set that need no jaxdd, with the figure that they should give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdd.data import transform_to_tensors
from jaxdd.report.facts import class_names, has_no_classes, percent, pixel_range, source
from jaxdd.report.rendering import render
from jaxdd.report.torch_networks import layers
from jaxdd.synthetic import DistilledDataset
from jaxdd.training import Protocol, protocols

_LABELS = {
    "hard": "class numbers, {dtype} {shape}; for cross-entropy",
    "probability": "probabilities of the classes, {dtype} {shape}; for cross-entropy",
    "raw": "vectors that cross-entropy uses as they are, {dtype} {shape}",
    "centred": "{dtype} {shape}, a class is one-hot minus 1/classes; for squared error",
    "features": "targets of an encoder, {dtype} {shape}; for squared error. They know no classes",
}
_LOSSES = {
    "squared_error": "Half the squared distance to labels around zero",
    "mean_squared_error": "Mean squared error",
    "distillation": "Kullback-Leibler divergence from the teacher's probabilities",
    "cross_entropy": "Cross-entropy, with soft labels as they are",
}


def training_scripts(dataset: DistilledDataset, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The two programs by their names.

    Args:
      rows: the comparison, see `write_report`; the set's own names model, protocol and rate, where it was measured.
    """
    names = {"title": _title(dataset), "shape": dataset.images.shape, "features": has_no_classes(dataset)}
    ours = next((row for row in rows if row.get("name") == "distilled"), {})
    return {
        "load.py": render("load.py.jinja", names | _of_set(dataset)),
        "train_torch.py": render("train_torch.py.jinja", names | _of_training(dataset, ours)),
    }


def _title(dataset: DistilledDataset) -> str:
    name, method = source(dataset).get("name"), dataset.header.get("method")
    text = f"{len(dataset.images)} images" + (f" that stand in for {name}" if name else "")
    return text + (f", {'chosen by' if dataset.selected else 'distilled with'} {method}" if method else "")


def _of_set(dataset: DistilledDataset) -> dict[str, Any]:
    steps, _ = transform_to_tensors(dataset.transform)
    convention = dataset.header.get("label_convention", "")
    said = _LABELS.get(convention, "{dtype} {shape}").format(dtype=dataset.labels.dtype, shape=dataset.labels.shape)
    return {
        "steps": [step["name"] for step in steps if step["name"] != "none"],
        "uint8": dataset.images.dtype == np.uint8,
        "black_white": [f"{value:g}" for value in pixel_range(dataset)],
        "labels": said,
    }


def _of_training(dataset: DistilledDataset, row: Mapping[str, Any]) -> dict[str, Any]:
    """What `train_torch.py` says, of the row that was measured, or of what the file is meant for."""
    measured = next((name for name in ("accuracy_mean", "probe_mean") if row.get(name) is not None), None)
    model = (row.get("model") if measured else None) or dataset.header.get("model") or "convnet"
    protocol, notes = _protocol(dataset, row.get("protocol") if measured else None)
    outputs = dataset.labels.shape[1] if dataset.labels.ndim == 2 else len(class_names(dataset))
    _, height, width, channels = dataset.images.shape
    net = layers(str(model), (height, width, channels), outputs)
    if net.instead_of:
        notes.append(f"the network is no {net.instead_of}, which is not written here, but a ConvNet")
    if protocol.as_distilled and "norm='batch'" in str(model):
        notes.append("batch normalisation has PyTorch's running statistics, jaxdd takes those of the last epoch")
    rate = row.get("learning_rate") if measured else None
    about = source(dataset)
    return {
        "model": str(model),
        "network": "A ConvNet" if net.instead_of else f"{model}, as jaxdd has it",
        "layers": net.lines,
        "initialise": net.initialise,
        "theta0": dataset.theta0 is not None,
        "outputs": outputs,
        "networks": (row.get("networks") if measured else None) or 5,
        "expected": _expected(row, measured),
        "what": "linear probes" if has_no_classes(dataset) else "test accuracy",
        "notes": notes,
        "data_name": str(about.get("path") or about.get("name")),
        "validation": about.get("validation", 0.1),
        "split_seed": about.get("split_seed", 0),
        "rate": float(rate if rate is not None else _one_rate(protocol)),
        **_of_protocol(protocol, dataset),
    }


def _protocol(dataset: DistilledDataset, name: str | None) -> tuple[Protocol, list[str]]:
    """How networks are trained, and what of it is not written here."""
    meant = name or dataset.header.get("protocol") or "default"
    own = dataset.schedule is not None and dataset.learning_rates is not None
    known = meant in protocols.available() and (own or not protocols.get(meant).as_distilled)
    protocol = protocols.get(meant if known else "as-distilled" if own else "default")
    notes = [] if known else [f"protocol {meant!r} is not known here, this is {protocol.name!r}"]
    if protocol.augmentation != "none":
        notes.append(f"the protocol augments every batch ({protocol.augmentation}), which is not written here")
    if protocol.cutmix or protocol.mixup:
        notes.append(f"the protocol mixes images by {'CutMix' if protocol.cutmix else 'Mixup'}, which is left out")
    if _needs_a_teacher(protocol, dataset):
        notes.append(
            "the teacher that jaxdd trains with beside class numbers is left out, this learns from these alone"
        )
    elif dataset.header.get("label_codec"):
        notes.append("jaxdd trains with a label for every view, this with the one of each image")
    if protocol.sub_batches > 1:
        notes.append(f"jaxdd normalises {protocol.sub_batches} parts of a batch by themselves, this the whole")
    return protocol, notes


def _needs_a_teacher(protocol: Protocol, dataset: DistilledDataset) -> bool:
    """Whether networks learn from one beside class numbers: in a file's labels there is none."""
    return protocol.loss in protocols.TAUGHT or (protocol.loss == "distillation" and dataset.labels.ndim == 1)


def _of_protocol(protocol: Protocol, dataset: DistilledDataset) -> dict[str, Any]:
    count, hard = len(dataset.images), dataset.labels.ndim == 1
    convention = "hard" if hard else dataset.header.get("label_convention", "raw")
    loss = protocol.loss
    if _needs_a_teacher(protocol, dataset):
        loss = "cross_entropy"
    elif loss == "auto":
        loss = "squared_error" if convention in ("centred", "features") else "cross_entropy"
    goal = ""
    if loss in ("squared_error", "mean_squared_error") and not protocol.as_distilled:
        goal = {"hard": "np.eye(OUTPUTS)[labels] - 1 / OUTPUTS", "centred": "", "features": ""}.get(
            convention, "labels - 1 / OUTPUTS"
        )
    steps = 1 if protocol.as_distilled else protocol.num_steps(count)
    return {
        "protocol": protocol.name,
        "description": protocol.description,
        "as_distilled": protocol.as_distilled,
        "steps": steps,
        "batch": min(protocol.batch_size, count),
        "whole": count <= protocol.batch_size,
        "optimizer": protocol.optimizer,
        "momentum": protocol.momentum,
        "weight_decay": protocol.weight_decay,
        "schedule": "" if protocol.schedule == "constant" and not protocol.warmup else protocol.schedule,
        "warmup": protocol.warmup,
        "decay_steps": round(protocol.stretch * max(1, steps - protocol.warmup)),
        "final": protocol.final,
        "factor": protocol.factor,
        "milestones": [] if protocol.as_distilled else list(protocol.milestone_steps(count)),
        "average": protocol.weight_average,
        "temperature": protocol.temperature,
        "times": protocol.temperature**2 if protocol.squared else 1.0,
        "loss": loss,
        "loss_name": _LOSSES[loss],
        "goal": goal,
        "hard": hard and not goal,
    }


def _one_rate(protocol: Protocol) -> float:
    """Where none was chosen: the protocol's own for that, or the middle one."""
    if protocol.fallback is not None:
        return protocol.fallback
    return sorted(protocol.learning_rates)[len(protocol.learning_rates) // 2]


def _expected(row: Mapping[str, Any], measured: str | None) -> str:
    """What jaxdd found, in a sentence."""
    kernel = percent(row.get("kernel_accuracy"))
    by_kernel = f" Kernel regression on the set reached {kernel}." if kernel else ""
    if measured is None:
        return f"jaxdd measured no networks on this set.{by_kernel}"
    how = "linear probes of networks" if measured == "probe_mean" else "networks"
    rate = "" if row.get("learning_rate") is None else f", rate {row['learning_rate']:g}"
    figure = percent(row[measured], row.get(measured.replace("_mean", "_std")))
    trained = f"{row.get('networks') or ''} × {row.get('model')}, protocol {row.get('protocol')}{rate}"
    return f"jaxdd measured {figure} with {how} ({trained}).{by_kernel}"
