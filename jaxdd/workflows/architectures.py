"""A distilled file measured by networks of several kinds: a matrix of sets and models."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from jaxdd import _progress, engine, evaluation, report
from jaxdd._files import disk_errors, expanded, write_atomically
from jaxdd.engine.log import read_metrics
from jaxdd.errors import JaxddError
from jaxdd.workflows import beside
from jaxdd.workflows.config import check_seed
from jaxdd.workflows.evaluate import Opened, of_transfer, opened
from jaxdd.workflows.outcome import FILE, RESULTS, Outcome, measure, read_results, summary
from jaxdd.workflows.products import build_model, predictor
from jaxdd.workflows.record import record
from jaxdd.workflows.transfer import check

_LOG = logging.getLogger("jaxdd")
_KEY = "architectures"
# What another measurement of the same column may differ in: the newer one then stands.
_OF_THE_MEASUREMENT = ("networks", "seed")
_EMPTY = {"mean": None, "std": None, "learning_rate": None, "note": None}


def architectures(
    source: str | os.PathLike,
    models: Sequence[str],
    *,
    networks: int = 5,
    data_name: str | None = None,
    stream: bool = False,
    cache: bool = False,
    protocol: str | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    full_data: bool = False,
    baselines: str | None = None,
    target: str | None = None,
    fine_tuning: str | None = None,
    labels_per_class: int | None = None,
    command: str = "",
) -> Outcome:
    """Train fresh networks of several kinds on a distilled file, each beside random real images.

        architectures("runs/first", ["convnet", "mlp", "lenet"]).architectures["rows"][0]["cells"][1]["mean"]

    In a run's directory the matrix is kept in its `results.json`, where the columns of earlier calls stay, and in its
    report; of a lone file nothing is written.

    Args:
      source: the file, or the directory of its run.
      models: names, see `jaxdd list`.
      networks: of each kind.
      data_name, stream, cache, protocol, learning_rate, seed, full_data, baselines, target, fine_tuning,
        labels_per_class, command: as of `evaluate`, the same for all models.

    Returns:
      `architectures` of it is the matrix: `{"distilled_sha256", "columns", "rows"}`, a column `{"model", "protocol",
      "networks", "seed", "data", "measure", ..}`, a row `{"name", "cells"}`, a cell `{"mean", "std", "learning_rate",
      "note"}` for each column: test accuracies, fractions, over the networks (ddof=1); None where there is none.

    Raises:
      JaxddError: as `evaluate`, for each of the models before any is trained; for none, or one that is there twice.
    """
    began = time.perf_counter()
    _check_names(models)
    evaluation.rules_of(baselines)
    transferred = {"target": target, "fine_tuning": fine_tuning, "labels_per_class": labels_per_class}
    reading = {"stream": stream, "cache": cache}
    file = opened(source, data_name, **reading, full_data=full_data, transferred=any(transferred.values()))
    chosen, seed = file.protocol(protocol, learning_rate), check_seed(seed)
    for model in models:
        _check_model(file, model, chosen, full_data=full_data)
    directory = _run_of(source)
    of_all = {"data": target or file.real.dataset.name, "seed": seed, "learning_rate": learning_rate}
    of_all |= of_transfer(**transferred) if file.features else {}
    matrix = None if directory is None else of_file(directory)
    matrix = matrix or {"distilled_sha256": _digest(file.path), "columns": [], "rows": []}
    rows: list[dict[str, Any]] = []
    for model in models:
        how = {"protocol": chosen, "networks": networks, "full_data": full_data, "baselines": baselines, **transferred}
        with _progress.phase(f"evaluating with {model}"):
            _, found = measure(file.dataset, file.real, model=model, seed=seed, **how)
        matrix = with_column(matrix, {"model": model, **of_all}, found)
        rows += found
        if directory is not None:
            _keep(directory, matrix)
    if directory is not None:
        _write_report(directory, file)
    asked = {"models": list(models), "protocol": chosen.name, "networks": networks}
    settings = {
        "seed": seed,
        "data": {"name": file.real.dataset.name, "stream": stream},
        "evaluation": {**asked, "learning_rate": learning_rate, "full_data": full_data, "baselines": baselines},
    }
    result = file.result(asked, began)
    return Outcome(file.path, result, rows, summary(file.dataset), record(settings, command=command), matrix)


def _check_names(models: Sequence[str]) -> None:
    if isinstance(models, str) or not models or not all(models):
        raise JaxddError(f"models must be names of networks, 'convnet;mlp' on the command line, got {models!r}.")
    for model in models:
        if list(models).count(model) > 1:
            raise JaxddError(f"the model {model!r} is there {list(models).count(model)} times: name it once.")


def _check_model(file: Opened, model: str, protocol: evaluation.Protocol, *, full_data: bool) -> None:
    """Refuse a network that could not be measured, before another one is trained."""
    real, distilled = file.real, file.dataset.distilled()
    if file.features:
        check(distilled, real.dataset, model=model, protocol=protocol, full_data=full_data)
        return
    network, how = build_model(model, real.dataset), predictor(distilled, real.dataset)
    held_out = None if real.validation is None else real.validation.examples
    try:
        evaluation.measurable(network, distilled, real.stored, held_out, protocol, predictor=how)
    except JaxddError as error:
        raise JaxddError(f"{model} cannot be measured: {error}") from error


def with_column(
    matrix: Mapping[str, Any], about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A matrix with a column more, or a newer one in place of that of the same model and protocol on the same data.

    Args:
      about: what the column is of, beside what its rows say of it.
      rows: of its comparison, see `Outcome.rows`.
    """
    measure = next(name for name in ("accuracy", "probe") if rows[0].get(f"{name}_mean") is not None)
    said = {name: rows[0][name] for name in ("protocol", "networks")}
    column = {**about, **said, "measure": measure}
    parts = {"mean": f"{measure}_mean", "std": f"{measure}_std", "learning_rate": "learning_rate", "note": "note"}
    cells = {row["name"]: {name: row.get(key) for name, key in parts.items()} for row in rows}
    columns = [dict(other) for other in matrix["columns"]]
    at = next((i for i, other in enumerate(columns) if _same(other, column)), len(columns))
    columns[at : at + 1] = [column]
    names = [row["name"] for row in matrix["rows"]]
    found = {row["name"]: list(row["cells"]) for row in matrix["rows"]}
    for name in [*names, *(name for name in cells if name not in names)]:
        held = found.setdefault(name, [_EMPTY] * len(matrix["columns"]))
        held[at : at + 1] = [cells.get(name, _EMPTY)]
    left = [{"name": name, "cells": held} for name, held in found.items() if any(cell != _EMPTY for cell in held)]
    return {**matrix, "columns": columns, "rows": left}


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    names = {*one, *other} - set(_OF_THE_MEASUREMENT)
    return all(one.get(name) == other.get(name) for name in names)


def of_file(directory: pathlib.Path) -> dict[str, Any] | None:
    """The matrix that a run's results hold of the very file that lies beside them; None if there is none."""
    held = read_results(directory)
    matrix = held.get(_KEY) if held else None
    if not isinstance(matrix, dict) or matrix.get("distilled_sha256") != _digest(directory / FILE):
        return None
    return matrix


def _run_of(source: str | os.PathLike) -> pathlib.Path | None:
    """The directory of a finished run that `source` is."""
    directory = expanded(source)
    if not directory.is_dir():
        return None
    if read_results(directory) is None:
        _LOG.warning("%s has no %s of a run, so the matrix is printed and not kept.", directory, RESULTS)
        return None
    return directory


def _digest(path: pathlib.Path) -> str:
    with disk_errors(path):
        return hashlib.sha256(path.read_bytes()).hexdigest()


def _keep(directory: pathlib.Path, matrix: Mapping[str, Any]) -> None:
    held = {**(read_results(directory) or {}), _KEY: matrix}
    write_atomically(directory / RESULTS, json.dumps(held, indent=2) + "\n")


def _write_report(directory: pathlib.Path, file: Opened) -> None:
    """The run's report anew, from what its directory holds."""
    held = read_results(directory) or {}
    log = directory / "metrics.jsonl"
    history = read_metrics(log) if log.exists() else []
    known = {"rows": [], "record": {}} | {
        name: held[name] for name in ("result", "rows", "record", _KEY) if name in held
    }
    shown = {
        "real": beside.real_images(file.real) if file.same else None,
        "growth": beside.growth(file.dataset, engine.held_snapshots(directory)),
    }
    report.write_report(directory, file.dataset, history=history, **known, **shown)
