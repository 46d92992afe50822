"""From a config to a selection of the real data, with its evaluation and report."""

from __future__ import annotations

import json
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxdd
from jaxdd import _progress, evaluation, models, report
from jaxdd._files import expanded, write_atomically
from jaxdd._jax import key_of
from jaxdd._numbers import jsonable, whole
from jaxdd.errors import JaxddError, unknown
from jaxdd.selection import Selection
from jaxdd.synthetic import DistilledDataset, label_bits
from jaxdd.types import Content, Cost, Distilled, Labelling
from jaxdd.workflows import selectors
from jaxdd.workflows.config import DATA, EVALUATION, check_sections, filled, told
from jaxdd.workflows.data import SELECTION, Real, data_facts
from jaxdd.workflows.outcome import FILE, RESULTS, Outcome, full_bits, measure, summary
from jaxdd.workflows.record import record

EVALUATIONS = ("none", "quick", "full")
_DEFAULTS: dict[str, dict[str, Any]] = {
    "data": DATA,
    "select": {},
    "network": selectors.NETWORK,
    "evaluation": EVALUATION,
}


class _Made(NamedTuple):
    """What came of a selection."""

    selection: Selection
    places: np.ndarray
    """Its rows among the training examples."""
    seconds: float
    """Of choosing, with the training of its network where that was done now."""


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a selection with its defaults filled in.

        complete({"select": {"rule": "herding", "ipc": 10}})["select"]["by"]  # "pixels"

    Args:
      config: sections `seed`, `data`, `select`, `network`, `evaluation`, each of which may be absent. `select` says the
        `rule` (of `selection.choose`), what it looks `by` (pixels, features, gradients, or a score), how many: `ipc` of
        each class or a `fraction` of all, whether they are `balanced` over classes, and the options of the rule.
        `network` is the one whose features, gradients or training are looked at.

    Raises:
      JaxddError: for what is unknown or cannot be.
    """
    config = jsonable(config)
    check_sections(config, _DEFAULTS)
    full = filled(config, _DEFAULTS)
    select = {**selectors.FIELDS, **full["select"]}
    options = {name: selectors.default_of(each) for name, each in selectors.options_of(select["rule"]).items()}
    full["select"] = {**select, **{name: select.get(name, usual) for name, usual in options.items()}}
    selectors.check(full["select"])
    if not isinstance(select["balanced"], bool):
        raise JaxddError(f"config.select.balanced must be True or False, got {select['balanced']!r}.")
    if select["ipc"] is not None:
        whole(select["ipc"], "config.select.ipc")
    share = select["fraction"]
    if share is not None and (isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1):
        raise JaxddError(f"config.select.fraction must be between 0 and 1, got {share!r}.")
    if select["ipc"] is not None and share is not None:
        raise JaxddError("config.select.ipc and config.select.fraction are both there: give one of them.")
    whole(full["evaluation"]["networks"], "config.evaluation.networks")
    return full


def select(
    config: Mapping[str, Any],
    workdir: str | os.PathLike,
    *,
    evaluate: str = "quick",
    full_data: bool = False,
    command: str = "",
    real: Real | None = None,
) -> Outcome:
    """Choose some of the real data, evaluate them as a distilled set is evaluated, and report.

        select({"select": {"rule": "herding", "ipc": 10}}, "runs/herding").result["accuracy_mean"]

    `selection.safetensors` in the directory is the result, see `selection.Selection`: for `data.keep` of any config,
    and an index list for other libraries. `distilled.safetensors` beside it are the examples as a set, in whole pixels
    where the source has these, for whatever takes a distilled file: `init` of a method, `jaxdd evaluate`, `table`,
    `export`. Examples with weights are a set with labels times those, for cross-entropy.

    Args:
      config: see `complete`.
      workdir: where everything goes.
      evaluate: "none", "quick" (an MLP, or the config's model) or "full" (the config's model and protocol).
      full_data: also measure networks trained on all real data.
      command: shown in the report.
      real: what the section `data` of the config says, where it is loaded already.

    Raises:
      JaxddError: for anything wrong in the config, the data or the directory.
      RunInterrupted: after a signal; the training of a network goes on from there when the same is asked again.
    """
    workdir = expanded(workdir)
    full = complete(config)
    if evaluate not in EVALUATIONS:
        raise unknown("level of evaluation", evaluate, EVALUATIONS)
    own = full["evaluation"]["model"]
    full["evaluation"]["model"] = own or full["network"]["model"]
    quick = evaluate == "quick"
    protocol = evaluation.protocols.get("quick" if quick else full["evaluation"]["protocol"])
    _check_workdir(workdir)
    real = Real.of_config(full["data"]) if real is None else real
    real.check_full_data(full_data)
    counts = _counts(full["select"], real)
    made = _made(full, real, counts)
    made.selection.write(workdir / SELECTION)
    result = {
        "method": _name(full["select"]),
        "data": real.dataset.name,
        "num_images": len(made.places),
        "fraction": len(made.places) / len(real.dataset.train),
        "seconds": made.seconds,
        "devices": 1,
    }
    dataset = _as_set(full, real, made)
    dataset.write(workdir / FILE)
    result |= {"num_bits": dataset.header["num_bits"], "full_bits": full_bits(real.dataset)}
    rows: list[dict[str, Any]] = []
    if evaluate != "none":
        began = time.perf_counter()
        model = "mlp" if quick and own is None else full["evaluation"]["model"]
        how = {"seed": full["seed"], "full_data": full_data}
        how |= {name: full["evaluation"][name] for name in ("networks", "baselines")}
        scores, rows = measure(dataset, real, model=model, protocol=protocol, **how)
        result |= {**scores, "evaluation_seconds": time.perf_counter() - began}
    outcome = Outcome(workdir / SELECTION, result, rows, summary(dataset), record(full, command=command))
    write_atomically(workdir / RESULTS, json.dumps(outcome.as_dict(), indent=2) + "\n")
    with _progress.phase("writing the report"):
        report.write_report(workdir, dataset, history=[], **outcome.as_dict())  # all its images are real ones
    return outcome


def _check_workdir(workdir: pathlib.Path) -> None:
    """What a run of another command has left there stays."""
    for file in ("run.json", FILE, RESULTS, *report.FILES):
        if (workdir / file).exists() and not (workdir / SELECTION).exists():
            raise JaxddError(f"{workdir} holds {file} but no selection of jaxdd; choose an empty directory.")


def _counts(section: Mapping[str, Any], real: Real) -> list[int]:
    """How many of each class.

    Raises:
      JaxddError: if nothing says how many, or a class has too few.
    """
    counts = real.stored.labels.counts
    if section["ipc"] is None and section["fraction"] is None:
        raise JaxddError("nothing says how many to select: --ipc=10 of each class, or --fraction=0.1 of all.")
    if section["ipc"] is None:
        return [max(1, round(section["fraction"] * count)) for count in counts]
    smallest = int(np.argmin(counts))
    if section["balanced"] and section["ipc"] > counts[smallest]:
        raise JaxddError(
            f"config.select.ipc is {section['ipc']}, and class {smallest} has {counts[smallest]} training examples."
        )
    return [section["ipc"]] * len(counts)


def _made(full: Mapping[str, Any], real: Real, counts: list[int]) -> _Made:
    section, began = full["select"], time.perf_counter()
    dynamics = network = None
    if selectors.needs_network(section["by"]):
        network = models.build(full["network"]["model"], real.dataset.image_shape, real.dataset.num_classes)
        config = {"data": told(full["data"])}
        dynamics = selectors.trained(full["network"], real, seed=full["seed"], config=config)
    held_out = None if real.validation is None else real.validation.examples
    chooser = selectors.selector(section, network, dynamics, held_out)
    key_describe, key_choose = jax.random.split(jax.random.fold_in(key_of(full["seed"]), _STREAM))
    labels = real.stored.labels
    with _progress.phase("choosing"):
        described = chooser.describe(real.train, key_describe)
        chosen = chooser.choose(key_choose, described, labels, counts)
    places = np.asarray(chosen.rows)
    numbers = real.dataset.train.numbers
    scored = {}
    if section["by"] in selectors.SCORES:
        scored = {"scores": np.asarray(described, np.float32), "scored": numbers}
    header = {
        "select": dict(section),
        **({"network": dict(full["network"])} if dynamics is not None else {}),
        "seed": full["seed"],
        "data": data_facts(real, full["data"]),
        "jaxdd_version": jaxdd.__version__,
    }
    selection = Selection(numbers[places], np.asarray(chosen.weights, np.float32), header, **scored)
    return _Made(selection, places, time.perf_counter() - began)


_STREAM = 0x73656C65  # "sele": another stream than that of the network


def _name(section: Mapping[str, Any]) -> str:
    """What a table calls it."""
    rule, by = section["rule"], section["by"]
    return rule if by == "pixels" else f"{rule} ({by.replace('_', ' ')})"


def _as_set(full: Mapping[str, Any], real: Real, made: _Made) -> DistilledDataset:
    """The chosen examples as a set that is trained on."""
    images, labels = real.train.images[made.places], real.train.labels.values[made.places]
    counts = np.bincount(labels, minlength=real.dataset.num_classes)
    unequal = None if np.ptp(counts) == 0 else tuple(counts.tolist())  # what it stands beside is to be so, too
    labelling = Labelling(labels, counts=unequal)
    if made.selection.weighted:
        weights = made.selection.weights / made.selection.weights.mean()
        labelling = Labelling(
            weights[:, None] * jax.nn.one_hot(labels, real.dataset.num_classes), convention="raw", counts=unequal
        )
    whole = real.dataset.train.images.dtype == np.uint8
    vectors = jax.ShapeDtypeStruct((len(labels), real.dataset.num_classes), np.float32)
    of_weights = 32 * len(labels) if made.selection.weighted else 0
    # As of every set, 32 bits a pixel entry, whatever the source has.
    ledger = {"images": 32 * images.size, "labels": label_bits("hard", vectors) + of_weights}
    header = {
        "method": _name(full["select"]),
        "config": {"data": {"name": real.dataset.name, **told(full["data"])}, "select": dict(full["select"])},
        "seed": full["seed"],
        "data": data_facts(real, full["data"]),
        "model": full["evaluation"]["model"],
        "protocol": full["evaluation"]["protocol"],
        "jaxdd_version": jaxdd.__version__,
    }
    distilled = Distilled(Content(images), labelling, cost=Cost.of(ledger))
    return DistilledDataset.create(distilled, real.transform, header, dtype=np.uint8 if whole else np.float32)
