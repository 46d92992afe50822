"""From a config to a distilled file with its evaluation and report. Plain dicts in, plain dicts out."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

import jaxdd
from jaxdd import data, engine, evaluation, kernels, methods, models, report
from jaxdd._files import write_atomically
from jaxdd.errors import JaxddError, unknown
from jaxdd.synthetic import DistilledDataset
from jaxdd.types import Batch, Distilled, Network, RealData

FILE = "distilled.safetensors"
BEST = "best_on_validation.safetensors"
RESULTS = "results.json"

# What a config may leave out.
_DEFAULTS: dict[str, Any] = {
    "seed": 0,
    "data": {"name": "mnist_5k", "validation": 0.1, "split_seed": 0, "transform": "standardize", "zca_ridge": 0.1},
    "method": {},
    "run": {"steps": 1000, "log_every": None, "validate_every": None, "checkpoint_seconds": 30.0},
    "evaluation": {"model": "convnet", "protocol": "default", "networks": 5},
}

# What each level of evaluation changes in the config's section.
_EVALUATIONS: dict[str, dict[str, Any]] = {
    "none": {"model": None},
    "kernel": {"model": None},
    "quick": {"model": "mlp", "protocol": "quick"},
    "full": {},
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command ends in: the distilled file, a flat JSON-able result, and the rows of the comparison table."""

    path: pathlib.Path
    result: dict[str, Any]
    rows: list[dict[str, Any]]
    summary: str


@dataclasses.dataclass(frozen=True)
class _Real:
    """A data set as methods and networks see it."""

    dataset: data.Dataset
    transform: data.Transform
    train: RealData
    validation: RealData
    test: RealData

    @classmethod
    def load(cls, name: str, transform: data.Transform | Mapping[str, Any], *, validation: float, seed: int) -> _Real:
        dataset = data.load(name, validation=validation, seed=seed)
        if isinstance(transform, Mapping):
            pixels = dataset.train.pixels()
            transform = data.fit_transform(transform["transform"], pixels, zca_ridge=transform["zca_ridge"])
        real = [
            data.real_data(split, transform, dataset.num_classes)
            for split in (dataset.train, dataset.validation, dataset.test)
        ]
        return cls(dataset, transform, *real)


def _complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with its defaults filled in; an unknown section or field names the nearest one."""
    for section in config:
        if section not in _DEFAULTS:
            raise unknown("section of the config", section, _DEFAULTS)
    full: dict[str, Any] = {"seed": config.get("seed", 0)}
    for section, defaults in list(_DEFAULTS.items())[1:]:
        given = dict(config.get(section, {}))
        for field in given:
            if defaults and field not in defaults:
                raise unknown(f"field of config.{section}", field, defaults)
        full[section] = {**defaults, **given}
    if "name" not in full["method"]:
        raise JaxddError(f"config.method.name is missing; known: {', '.join(methods.available())}.")
    return full


def _batch(real: RealData) -> Batch:
    return Batch(real.images, real.labels.values)


def _kernel(spec: Mapping[str, Any] | None) -> tuple[Callable, float] | None:
    """The kernel function and relative ridge that a method predicts with, if it is a kernel method."""
    if spec is None:
        return None
    spec = dict(spec)
    ridge = spec.pop("ridge")
    return kernels.build(**spec), ridge


def distill(
    config: Mapping[str, Any],
    workdir: str | os.PathLike,
    *,
    resume: bool = False,
    evaluate: str = "quick",
    full_data: bool = False,
    tensorboard: bool = False,
    command: str = "",
) -> Outcome:
    """Distil, evaluate and report, as a config says.

    Args:
      config: sections `seed`, `data`, `method`, `run`, `evaluation`; see `configs/kip.py`.
      workdir: where everything goes; `distilled.safetensors` in it is the result.
      resume: go on with the run in `workdir`.
      evaluate: "none", "kernel", "quick" (an MLP) or "full" (the config's model and protocol).
      full_data: also measure networks trained on all real data.
      tensorboard: also write TensorBoard files.
      command: shown in the report.

    Raises:
      JaxddError: for anything wrong in the config, the data or the directory.
      RunInterrupted: after a signal; what was done is saved.
    """
    full = _complete(config)
    workdir = pathlib.Path(workdir)
    chosen, name = full["data"], full["method"].pop("name")
    hyper = methods.hyperparameters(name, **full["method"])
    method = methods.build(name, **full["method"])
    real = _Real.load(str(chosen["name"]), chosen, validation=chosen["validation"], seed=chosen["split_seed"])
    settings = full["evaluation"] | _EVALUATIONS[evaluate]
    _build_model(settings["model"], real.dataset)  # a misspelt name must not cost a run
    evaluation.protocols.get(settings["protocol"])
    spec = getattr(hyper, "predictor", None)
    kernel = _kernel(spec)

    def validate(distilled: Distilled) -> dict[str, float]:
        assert kernel is not None
        accuracy = evaluation.kernel_accuracy(kernel[0], distilled, _batch(real.validation), ridge=kernel[1])
        return {"kernel_accuracy": accuracy}

    identity = {"data": chosen, "method": {"name": name, **full["method"]}}
    outcome = engine.run(
        method,
        real.train,
        seed=full["seed"],
        workdir=workdir,
        resume=resume,
        config=identity,
        validate=validate if kernel and len(real.validation.images) else None,
        tensorboard=tensorboard,
        **full["run"],
    )
    # The file says which data set, not where it lay, so that equal runs give equal bytes.
    stored = {**identity, "data": {**chosen, "name": real.dataset.name}, "steps": outcome.step}
    header = {
        "method": name,
        "config": stored,
        "seed": full["seed"],
        "data": {
            "name": real.dataset.name,
            "source_hash": real.dataset.source_hash,
            "class_names": list(real.dataset.class_names),
            "num_classes": real.dataset.num_classes,
            "license": real.dataset.license,
            "pixel_range": list(real.dataset.pixel_range),
            "validation": chosen["validation"],
            "split_seed": chosen["split_seed"],
        },
        "protocol": full["evaluation"]["protocol"],
        "kernel": spec,
        "jaxdd_version": jaxdd.__version__,
    }
    dataset = DistilledDataset.create(outcome.distilled, real.transform, header)
    dataset.write(workdir / FILE)
    result: dict[str, Any] = {
        "method": name,
        "data": real.dataset.name,
        "num_images": len(dataset.images),
        "num_bits": dataset.header["num_bits"],
        "full_bits": _bits(real.dataset),
        "steps": outcome.step,
        "seconds": outcome.seconds,
        "compile_seconds": outcome.compile_seconds,
        "devices": outcome.devices,
        "resumed_from": outcome.resumed_from,
    }
    if outcome.best is not None:
        best, step, score = outcome.best
        result |= {"best_step": step, "best_validation_kernel_accuracy": score}
        DistilledDataset.create(best, real.transform, {**header, "selected_on": "validation", "step": step}).write(
            workdir / BEST
        )
    scores: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    if evaluate != "none":
        scores, rows = _measure(
            dataset,
            real,
            model=settings["model"],
            protocol=settings["protocol"],
            networks=settings["networks"],
            seed=full["seed"],
            full_data=full_data,
        )
    result |= scores
    write_atomically(workdir / RESULTS, json.dumps({"result": result, "rows": rows}, indent=2) + "\n")
    report.write_report(workdir, dataset, history=outcome.history, rows=rows, result=result, command=command)
    return Outcome(workdir / FILE, result, rows, _summary(dataset))


def evaluate(
    source: str | os.PathLike,
    *,
    model: str = "convnet",
    networks: int = 5,
    data_name: str | None = None,
    protocol: str = "default",
    learning_rate: float | None = None,
    seed: int = 0,
    full_data: bool = False,
) -> Outcome:
    """Train fresh networks on a distilled file, beside random real images.

    Args:
      source: the file, or the directory of its run.
      model, protocol: names, see `jaxdd list`.
      networks: how many.
      data_name: another data set to test on than the one it was distilled from.
      learning_rate: fixes the protocol's.
      seed: of the networks.
      full_data: also measure networks trained on all real data.

    Raises:
      JaxddError: if the file is not whole, or the data it was distilled from is not to be had or is not the same.
    """
    began = time.perf_counter()
    path = distilled_file(source)
    dataset = DistilledDataset.read(path)
    about = dataset.header["data"]
    real = _Real.load(
        data_name or about["name"], dataset.transform, validation=about["validation"], seed=about["split_seed"]
    )
    if data_name is None and real.dataset.source_hash != about["source_hash"]:
        raise JaxddError(
            f"{about['name']!r} here is not the data {path} was distilled from (their hashes differ); "
            "name the right one by --data, or the same name to test on this one all the same."
        )
    named = evaluation.protocols.get(protocol)
    if learning_rate is not None:
        named = dataclasses.replace(named, learning_rates=(learning_rate,))
    scores, rows = _measure(
        dataset, real, model=model, protocol=named, networks=networks, seed=seed, full_data=full_data
    )
    result = {
        "method": dataset.header.get("method"),
        "data": real.dataset.name,
        "num_images": len(dataset.images),
        "num_bits": dataset.header["num_bits"],
        **scores,
        "seconds": time.perf_counter() - began,
        "devices": 1,
        "resumed_from": 0,
    }
    return Outcome(path, result, rows, _summary(dataset))


def distilled_file(source: str | os.PathLike) -> pathlib.Path:
    """The distilled file that `source` is, or that lies in the directory `source`."""
    path = pathlib.Path(source)
    if path.is_dir():
        path = path / FILE
        if not path.exists():
            raise JaxddError(f"{source} holds no {FILE}: is its run finished?")
    return path


def _measure(
    dataset: DistilledDataset,
    real: _Real,
    *,
    model: str | None,
    protocol: str | evaluation.Protocol,
    networks: int,
    seed: int,
    full_data: bool,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Scores by name, and the comparison table's rows."""
    network = _build_model(model, real.dataset)
    full = None
    if full_data and network is not None:
        identity = {
            "source": real.dataset.source_hash,
            "split": [dataset.header["data"].get("validation"), dataset.header["data"].get("split_seed")],
            "transform": data.transform_to_tensors(real.transform)[0],
            "model": model,
        }
        full = evaluation.full_data_reference(network, real.train, _batch(real.test), identity=identity, seed=seed)
    kernel, ridge = _kernel(dataset.header.get("kernel")) or (None, 0.0)
    compared = evaluation.compare(
        network,
        dataset.distilled(),
        real.train,
        _batch(real.validation) if len(real.validation.images) else None,
        _batch(real.test),
        protocol,
        key=jax.random.key(seed),
        num_networks=networks,
        kernel=kernel,
        ridge=ridge,
        full_data=full,
    )
    rows = [
        {
            "name": row.name,
            "num_images": row.num_images,
            "bits": row.num_bits,
            "kernel_accuracy": row.kernel_accuracy,
            "accuracy_mean": row.score and row.score.mean,
            "accuracy_std": row.score and row.score.std,
            "networks": row.score and len(row.score.accuracies),
            "model": row.score and model,
            "protocol": row.score and row.score.protocol,
            "learning_rate": row.score and row.score.learning_rate,
        }
        for row in compared
    ]
    scores: dict[str, Any] = {}
    ours, random_real = rows[0], rows[1]
    if network is not None:
        scores |= {
            "accuracy_mean": ours["accuracy_mean"],
            "accuracy_std": ours["accuracy_std"],
            "random_real_mean": random_real["accuracy_mean"],
            "random_real_std": random_real["accuracy_std"],
            "model": model,
            "protocol": ours["protocol"],
            "networks": networks,
        }
    if kernel is not None:
        scores |= {
            "kernel_accuracy": ours["kernel_accuracy"],
            "random_real_kernel_accuracy": random_real["kernel_accuracy"],
        }
    return scores, rows


def _build_model(name: str | None, dataset: data.Dataset) -> Network | None:
    return None if name is None else models.build(name, dataset.image_shape, dataset.num_classes)


def _bits(dataset: data.Dataset) -> int:
    """What the full training set costs as it lies in its source."""
    images = dataset.train.images
    return 8 * images.nbytes + len(images) * max(1, (dataset.num_classes - 1).bit_length())


def _summary(dataset: DistilledDataset) -> str:
    header = dataset.header
    return f"{header.get('method')} on {header['data'].get('name')}, {len(dataset.images)} images"
