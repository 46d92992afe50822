"""From a config to a distilled file with its evaluation and report. Plain dicts in, plain dicts out."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import math
import os
import pathlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

import jaxdd
from jaxdd import data, engine, evaluation, kernels, methods, models, report
from jaxdd._dotted import is_dotted
from jaxdd._files import digest, write_atomically
from jaxdd.errors import JaxddError, RunInterrupted, unknown
from jaxdd.synthetic import DistilledDataset
from jaxdd.types import Array, Distilled, HostArray, Method, Network, RealData, Recipe, bound

FILE = "distilled.safetensors"
BEST = "best_on_validation.safetensors"
RESULTS = "results.json"
_EVALUATION_STREAM = 0x6576616C  # "eval"; far from the small numbers that split() amounts to

# What a config may leave out.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "data": {
        "name": "mnist_5k",
        "validation": 0.1,
        "split_seed": 0,
        "transform": "standardize",
        "zca_ridge": 0.1,
        "stream": False,
    },
    "method": {},
    "run": {
        "steps": 1000,
        "log_every": None,
        "validate_every": None,
        "checkpoint_seconds": 30.0,
        "precision": "default",
    },
    "evaluation": {"model": None, "protocol": "default", "networks": 5},
}

# Where the data lie and how they are read: no part of what they are, so of no run's identity.
_WHEREABOUTS = ("name", "stream")

_LOG = logging.getLogger("jaxdd")
EVALUATIONS = ("none", "kernel", "quick", "full")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command ends in: the distilled file, a flat JSON-able result, and the rows of the comparison table."""

    path: pathlib.Path
    result: dict[str, Any]
    rows: list[dict[str, Any]]
    summary: str


@dataclasses.dataclass(frozen=True)
class Real:
    """A data set as methods and networks see it.

    Attributes:
      stored: training data as a run holds them, for `method`.
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


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with its defaults filled in; an unknown section or field names the nearest one."""
    for section in config:
        if section not in ("seed", *_DEFAULTS):
            raise unknown("section of the config", section, ("seed", *_DEFAULTS))
    full: dict[str, Any] = {"seed": check_seed(config.get("seed", 0))}
    for section, defaults in _DEFAULTS.items():
        given = config.get(section, {})
        if not isinstance(given, Mapping):
            raise JaxddError(f"config.{section} must hold fields, got {given!r}.")
        for field in given:
            if defaults and field not in defaults:
                raise unknown(f"field of config.{section}", field, defaults)
        full[section] = {**defaults, **given}
    check_seed(full["data"]["split_seed"], "config.data.split_seed")
    if not isinstance(full["data"]["stream"], bool):
        raise JaxddError(f"config.data.stream must be True or False, got {full['data']['stream']!r}.")
    if "name" not in full["method"]:
        raise JaxddError(f"config.method.name is missing; known: {', '.join(methods.available())}.")
    return full


def told(section: Mapping[str, Any]) -> dict[str, Any]:
    """What the section `data` of a config says of the data, wherever they lie."""
    return {field: value for field, value in section.items() if field not in _WHEREABOUTS}


def check_seed(seed: Any, name: str = "seed") -> int:
    """A seed that JAX takes."""
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise JaxddError(f"{name} must be an integer from 0 to 2**32 - 1, got {seed!r}.")
    return seed


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
      config: sections `seed`, `data`, `method`, `run`, `evaluation`; `cli.template` makes one with every field.
      workdir: where everything goes; `distilled.safetensors` in it is the result.
      resume: go on with the run in `workdir`.
      evaluate: "none", "kernel", "quick" (the protocol of that name, and an MLP where the method trains no networks) or
        "full" (the config's model and protocol). The model is by default the one the method trains.
      full_data: also measure networks trained on all real data.
      tensorboard: also write TensorBoard files.
      command: shown in the report.

    Raises:
      JaxddError: for anything wrong in the config, the data or the directory.
      RunInterrupted: after a signal; what was done is saved.
    """
    if evaluate not in EVALUATIONS:
        raise unknown("level of evaluation", evaluate, EVALUATIONS)
    full = complete(config)
    workdir = pathlib.Path(workdir)
    name = full["method"].pop("name")
    methods.build(name, **full["method"])  # what is misspelt must not cost the data's loading
    own_model = {**methods.fields(name), **full["method"]}.get("model")
    full["evaluation"]["model"] = full["evaluation"]["model"] or own_model or "convnet"
    chosen, settings = full["data"], _settings(full["evaluation"], evaluate, trains_networks=own_model is not None)
    protocol = evaluation.protocols.get(settings["protocol"])
    if not isinstance(settings["networks"], int) or settings["networks"] < 1:
        raise JaxddError(f"config.evaluation.networks must be at least 1, got {settings['networks']!r}.")
    engine.on_first(lambda: _check_workdir(workdir, name))
    real = Real.of_config(chosen)
    real.check_full_data(full_data)
    method = real.method(name, full["method"])
    kept = _shapes(method, real.stored)
    predictor = _predictor(kept, real.dataset)
    if evaluate == "kernel" and (predictor is None or predictor.kernel is None):
        raise JaxddError(f"method {name!r} has no kernel that could be evaluated without training; use quick or full.")
    if evaluate != "none":
        network = _build_model(settings["model"], real.dataset)
        engine.on_first(lambda: _foretell(network, kept, real, protocol, predictor))
    # The data's content is part of every run's identity, wherever it lies.
    identity = {
        "data": told(chosen),
        "method": {"name": name, **full["method"]},
        **_revision(name),
    }
    outcome = engine.run(
        method,
        real.stored,
        seed=full["seed"],
        workdir=workdir,
        resume=resume,
        config=identity,
        validate=_validator(kept, real),
        tensorboard=tensorboard,
        **full["run"],
    )
    writing = engine.is_first()  # the others evaluate as well: who ended early would be taken for dead
    header = _provenance(name, full, real, steps=outcome.step)
    dataset = DistilledDataset.create(outcome.distilled, real.transform, header)
    if writing:
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
        header |= {"selected_on": "validation", "step": step}
        if writing:
            DistilledDataset.create(best, real.transform, header).write(workdir / BEST)
    rows: list[dict[str, Any]] = []
    if evaluate != "none":
        try:
            scores, rows = _measure(
                dataset,
                real,
                model=settings["model"],
                protocol=protocol,
                networks=settings["networks"],
                seed=full["seed"],
                full_data=full_data,
            )
        except (KeyboardInterrupt, RunInterrupted) as stopped:
            message = f"{workdir / FILE} is written; the same command with --resume evaluates it."
            signum = getattr(stopped, "signum", signal.SIGINT)
            raise RunInterrupted(f"stopped in the evaluation; {message}", signum) from None
        result |= scores
    if writing:
        write_atomically(workdir / RESULTS, json.dumps({"result": result, "rows": rows}, indent=2) + "\n")
        report.write_report(workdir, dataset, history=outcome.history, rows=rows, result=result, command=command)
    return Outcome(workdir / FILE, result, rows, _summary(dataset))


def _shapes(method: Method | Recipe, data: RealData) -> Distilled:
    """What a run will leave, by shapes."""
    data = engine.foretold(method, data)
    ready = bound(method, data)
    return jax.eval_shape(lambda key: ready.product(ready.init(key, data)), jax.random.key(0))


def _settings(section: Mapping[str, Any], level: str, *, trains_networks: bool) -> dict[str, Any]:
    """The config's section on evaluation at a level; no model if networks are not to be trained."""
    if level in ("none", "kernel"):
        return {**section, "model": None}
    if level == "quick" and not evaluation.protocols.get(section["protocol"]).as_distilled:
        return {**section, "protocol": "quick", "model": section["model"] if trains_networks else "mlp"}
    return dict(section)


def _foretell(
    network: Network | None,
    kept: Distilled,
    real: Real,
    protocol: evaluation.Protocol,
    predictor: evaluation.Predictor | None,
) -> None:
    """Refuse what could not be evaluated after a run, and name the baselines that it will not stand beside."""
    validation = None if real.validation is None else real.validation.examples
    try:
        possible = evaluation.measurable(network, kept, real.stored, validation, protocol, predictor=predictor)
    except JaxddError as error:
        raise JaxddError(f"{str(error).rstrip('.')}; --evaluate=none distils without measuring.") from error
    for baseline in possible.baselines:
        if baseline.obstacle is not None:
            _LOG.warning("%s will not be measured: %s.", baseline.name, baseline.obstacle)


def _validator(kept: Distilled, real: Real) -> Callable[[Distilled], dict[str, float]] | None:
    """Kernel accuracy on the validation split, for methods that predict with a kernel in closed form."""
    predictor, held_out = _predictor(kept, real.dataset), real.validation
    if predictor is None or dict(kept.kernel or ())["name"] not in kernels.NAMES or held_out is None:
        return None

    def validate(distilled: Distilled) -> dict[str, float]:
        return {"kernel_accuracy": evaluation.kernel_accuracy(predictor, distilled, held_out.examples)}

    return validate


def _provenance(name: str, full: Mapping[str, Any], real: Real, *, steps: int) -> dict[str, Any]:
    """The header of a distilled file: which data set, not where it lay, so that equal runs give equal bytes."""
    dataset, chosen = real.dataset, full["data"]
    return {
        "method": name,
        "config": {
            "data": {"name": dataset.name} | {k: v for k, v in chosen.items() if k not in _WHEREABOUTS},
            "method": {"name": name, **full["method"]},
            **_revision(name),
            "steps": steps,
        },
        "seed": full["seed"],
        "data": {
            "name": dataset.name,
            "source_hash": dataset.source_hash,
            "class_names": list(dataset.class_names),
            "num_classes": dataset.num_classes,
            "license": dataset.license,
            "pixel_range": list(dataset.pixel_range),
            "validation": chosen["validation"],
            "split_seed": chosen["split_seed"],
        },
        "model": full["evaluation"]["model"],
        "protocol": full["evaluation"]["protocol"],
        "jaxdd_version": jaxdd.__version__,
    }


def evaluate(
    source: str | os.PathLike,
    *,
    model: str | None = None,
    networks: int = 5,
    data_name: str | None = None,
    stream: bool = False,
    protocol: str | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    full_data: bool = False,
) -> Outcome:
    """Train fresh networks on a distilled file, beside random real images.

    Args:
      source: the file, or the directory of its run.
      model, protocol: names, see `jaxdd list`; by default those the file is meant for.
      networks: how many.
      data_name: another data set to test on than the one it was distilled from.
      stream: leave the data's images in their files, see `data.load`.
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
    name = data_name or about.get("name")
    if name is None:
        raise JaxddError(f"{path} does not say which data it was distilled from: name it by --data=NAME_OR_PATH.")
    try:
        real = Real.load(
            name,
            dataset.transform,
            validation=about.get("validation", 0.1),
            seed=about.get("split_seed", 0),
            stream=stream,
        )
    except JaxddError as error:
        if data_name is not None:
            raise
        raise JaxddError(f"{str(error).rstrip('.')}; --data=NAME_OR_PATH says where {name!r} lies.") from error
    real.check_full_data(full_data)
    evaluation.check_fits(dataset, real.dataset)
    same = about.get("source_hash") in (None, real.dataset.source_hash)
    if data_name is None and not same:
        raise JaxddError(
            f"{name!r} here is not the data {path} was distilled from (their hashes differ); "
            "name the right one by --data, or the same name to test on this one all the same."
        )
    model = model or dataset.header.get("model") or "convnet"
    chosen = evaluation.protocols.get(protocol or dataset.header.get("protocol") or "default")
    if learning_rate is not None:
        chosen = dataclasses.replace(chosen, learning_rates=(learning_rate,))
    scores, rows = _measure(
        dataset, real, model=model, protocol=chosen, networks=networks, seed=check_seed(seed), full_data=full_data
    )
    result = {
        "method": dataset.header.get("method"),
        "data": real.dataset.name,
        "distilled_from_this_data": same,
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


def _revision(name: str) -> dict[str, int]:
    """What a run's identity and its file say of the method's revision: nothing of the first."""
    number = max(methods.revisions(name), default=1)
    return {"revision": number} if number > 1 else {}


def _check_workdir(workdir: pathlib.Path, name: str) -> None:
    """A directory of somebody else's must not lose its README, nor a run be finished as another method than it began.

    Raises:
      JaxddError: for files that are not of a run, or a run of another revision of this method.
    """
    if not (workdir / "run.json").exists():
        for file in (FILE, RESULTS, "README.md", "report.html", "images.png"):
            if (workdir / file).exists():
                raise JaxddError(f"{workdir} holds {file} but no run of jaxdd; choose an empty directory.")
        return
    begun = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        config = json.loads((workdir / "run.json").read_text())["config"]  # the engine says what is wrong with it
        begun = config.get("revision", 1) if config["method"]["name"] == name else None
    changes = methods.revisions(name)
    here = max(changes, default=1)
    if isinstance(begun, int) and begun != here:
        since = "; ".join(changes[number] for number in sorted(changes) if number > begun)
        raise JaxddError(
            f"{workdir} was begun with revision {begun} of {name}, and this jaxdd has revision {here}"
            f"{f' ({since})' if since else ''}: finish it with the jaxdd that began it, or begin anew elsewhere."
        )


def _measure(
    dataset: DistilledDataset,
    real: Real,
    *,
    model: str | None,
    protocol: evaluation.Protocol,
    networks: int,
    seed: int,
    full_data: bool,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Scores by name, and the comparison table's rows."""
    network, distilled = _build_model(model, real.dataset), dataset.distilled()
    full = None
    if full_data and network is not None:
        steps, tensors = data.transform_to_tensors(real.transform)
        identity = {
            "source": real.dataset.source_hash,
            "split": [dataset.header["data"].get("validation"), dataset.header["data"].get("split_seed")],
            "transform": [steps, digest(tensors[part] for part in sorted(tensors))],
            "model": model,
        }
        own = is_dotted(str(model).partition("(")[0])  # code that may change under its name
        full = evaluation.full_data_reference(
            network, real.train, real.test.examples, identity=identity, seed=seed, cache=not own
        )
    compared = evaluation.compare(
        network,
        distilled,
        real.train,
        None if real.validation is None else real.validation.examples,
        real.test.examples,
        protocol,
        # Another stream than the engine's, which starts from key(seed).
        key=jax.random.fold_in(jax.random.key(seed), _EVALUATION_STREAM),
        num_networks=networks,
        predictor=_predictor(distilled, real.dataset),
        full_data=full,
        full_bits=_bits(real.dataset),
    )
    rows = [{**row.as_dict(), "model": model if row.score else None} for row in compared]
    ours, baseline = rows[:2]
    scores: dict[str, Any] = {}
    if network is not None:
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
    return scores, rows


def _build_model(name: str | None, dataset: data.Dataset) -> Network | None:
    return None if name is None else models.build(name, dataset.image_shape, dataset.num_classes)


def _predictor(distilled: Distilled, dataset: data.Dataset) -> evaluation.Predictor | None:
    facts = None if distilled.kernel is None else dict(distilled.kernel)
    return evaluation.Predictor.of(facts, dataset.image_shape, dataset.num_classes)


def _bits(dataset: data.Dataset) -> int:
    """What the full training set costs as it lies in its source, as an array."""
    images = dataset.train.images
    of_labels = len(images) * max(1, (dataset.num_classes - 1).bit_length())
    return 8 * images.dtype.itemsize * math.prod(images.shape) + of_labels


def _summary(dataset: DistilledDataset) -> str:
    header = dataset.header
    return f"{header.get('method')} on {header['data'].get('name')}, {len(dataset.images)} images"
