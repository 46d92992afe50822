"""From a config to a distilled file with its evaluation and report, step by step."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax

import jaxdd
from jaxdd import _progress, engine, evaluation, methods, report
from jaxdd._files import expanded, write_atomically
from jaxdd._jax import key_of
from jaxdd._numbers import whole
from jaxdd.errors import JaxddError, RunInterrupted
from jaxdd.synthetic import DistilledDataset
from jaxdd.types import Distilled, Examples, Execution, Method, Network, Recipe, Spec, parts_of
from jaxdd.workflows import again, beside, hooks, products, settled, transfer
from jaxdd.workflows.architectures import of_file
from jaxdd.workflows.config import told
from jaxdd.workflows.data import Real, data_facts
from jaxdd.workflows.outcome import BEST, FILE, RESULTS, Outcome, full_bits, measure, summary
from jaxdd.workflows.record import record
from jaxdd.workflows.task import Task, check

_LOG = logging.getLogger("jaxdd")
_VALIDATION_STREAM = 0x76616C69  # "vali": neither the run's networks nor those that are measured at its end


@dataclasses.dataclass(frozen=True)
class _Loaded:
    """The data of a task, and its method bound to them.

    Attributes:
      told: its hyper-parameters, as a run's identity and its file have them.
    """

    real: Real
    told: dict[str, Any]
    method: Method | Recipe
    curve: products.Curve | None


def distill(
    config: Mapping[str, Any],
    workdir: str | os.PathLike,
    *,
    resume: bool = False,
    evaluate: str = "quick",
    full_data: bool = False,
    tensorboard: bool = False,
    callback: engine.Callback | str | None = None,
    command: str = "",
    real: Real | None = None,
    devices: Sequence[Any] | None = None,
    progress: bool = True,
) -> Outcome:
    """Distil, evaluate and report, as a config says.

        distill({"method": {"name": "kip"}, "run": {"steps": 50}}, "runs/first", evaluate="kernel").result

    Args:
      config: sections `seed`, `data`, `method`, `run`, `execution`, `evaluation`, see `complete`; `cli.template` makes
        one with every field.
      workdir: where everything goes; `distilled.safetensors` in it is the result.
      resume: go on with the run in `workdir`.
      evaluate: "none", "kernel", "quick" (the protocol of that name, and an MLP where the method trains no networks) or
        "full" (the config's model and protocol). The model is by default the one the method trains.
      full_data: also measure networks trained on all real data.
      tensorboard: also write TensorBoard files.
      callback: as of `engine.run`, or where it is, `package.module:function`: for W&B and others.
      command: shown in the report.
      real: what the section `data` of the config says, where it is loaded already.
      devices: that share the run; by default all.
      progress: show a progress bar where there is somebody to see it.

    Raises:
      JaxddError: for anything wrong in the config, the data or the directory.
      RunInterrupted: after a signal; what was done is saved.
    """
    task = check(config, expanded(workdir), level=evaluate, full_data=full_data)
    hook = hooks.named(callback) if isinstance(callback, str) else callback
    loaded = _load(task, Real.of_config(task.config["data"]) if real is None else real)
    asked = {"evaluate": evaluate, "full_data": full_data, "tensorboard": tensorboard}
    asked |= {"callback": callback} if isinstance(callback, str) else {}
    how = {"callback": hook, "tensorboard": tensorboard, "devices": devices, "progress": progress}
    done = _run(task, loaded, asked, resume=resume, **how)
    dataset, result = _write(task, loaded, done)
    scores, rows = _measure(task, loaded.real, dataset)
    outcome = Outcome(
        task.workdir / FILE,
        result | scores,
        rows,
        summary(dataset),
        record(task.config, command=command),
        of_file(task.workdir),
    )
    if engine.is_first():
        write_atomically(task.workdir / RESULTS, json.dumps(outcome.as_dict(), indent=2) + "\n")
        with _progress.phase("writing the report"):
            report.write_report(
                task.workdir,
                dataset,
                history=done.history,
                **outcome.as_dict(),
                real=beside.real_images(loaded.real),
                growth=beside.growth(dataset, done.snapshots),
            )
    return outcome


def _load(task: Task, real: Real) -> _Loaded:
    """Data and method, once everything that is asked of the run is known to be possible."""
    real.check_full_data(task.full_data)
    with _progress.phase("checking"):
        return _checked(task, real)


def _checked(task: Task, real: Real) -> _Loaded:
    hyper, told = settled.settle(task.method, task.hyper, real)
    method = real.method(task.method, hyper)
    product = engine.shape_of_product(method, real.stored)
    predictor = products.predictor(product, real.dataset)
    if task.level == "kernel":
        products.check_kernel(predictor, task.method)
    held_out = None if real.validation is None else real.validation.examples
    if task.level != "none" and product.label_convention == "features":
        transfer.check(product, real.dataset, model=task.model, protocol=task.protocol, full_data=task.full_data)
    elif task.level != "none":
        network = products.build_model(task.model, real.dataset)
        rules = evaluation.rules_of(task.config["evaluation"]["baselines"])
        engine.on_first(lambda: _foretell(network, product, real, held_out, task.protocol, predictor, rules))
    curve = products.curve(
        task.config["run"]["validate"],
        product,
        predictor,
        held_out,
        model=task.config["evaluation"]["model"],
        dataset=real.dataset,
        key=jax.random.fold_in(key_of(task.config["seed"]), _VALIDATION_STREAM),
        networks=task.model is not None and parts_of(method, Spec.of(real.stored)).join is None,
    )
    return _Loaded(real, told, method, curve)


def _foretell(
    network: Network | None,
    product: Distilled,
    real: Real,
    held_out: Examples | None,
    protocol: evaluation.Protocol,
    predictor: evaluation.Predictor | None,
    rules: Sequence[str] | None,
) -> None:
    """Refuse what could not be evaluated after a run, and name the baselines that it will not stand beside."""
    try:
        how = {"predictor": predictor, "rules": rules}
        possible = evaluation.measurable(network, product, real.stored, held_out, protocol, **how)
    except JaxddError as error:
        raise JaxddError(f"{str(error).rstrip('.')}; --evaluate=none distils without measuring.") from error
    for baseline in possible.baselines:
        if baseline.obstacle is not None:
            _LOG.warning("%s will not be measured: %s.", baseline.name, baseline.obstacle)


def _run(task: Task, loaded: _Loaded, asked: Mapping[str, Any], **how: Any) -> engine.RunResult:
    settings = {field: value for field, value in task.config["run"].items() if field != "validate"}
    if settings["validate_every"] is None and loaded.curve is not None:
        settings["validate_every"] = loaded.curve.every(whole(settings["steps"], "steps"))
    return engine.run(
        loaded.method,
        loaded.real.stored,
        seed=task.config["seed"],
        execution=Execution.of(task.config["execution"]),
        workdir=task.workdir,
        # The data's content is part of every run's identity, wherever it lies; how a run is validated is none of it.
        config={"data": told(task.config["data"]), **_identity(task, loaded.told)},
        validate=loaded.curve,
        on_begin=lambda: again.write(task.workdir, task.config, asked),
        snapshots=beside.snapshot(loaded.real),
        **how,
        **settings,
    )


def _identity(task: Task, hyper: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's identity and its file say of the method: nothing of its first revision."""
    revision = max(methods.revisions(task.method), default=1)
    return {
        "method": {"name": task.method, **hyper},
        **({"revision": revision} if revision > 1 else {}),
    }


def _write(task: Task, loaded: _Loaded, done: engine.RunResult) -> tuple[DistilledDataset, dict[str, Any]]:
    """The distilled file and, if a best iterate was kept, that beside it; the last set, and what is known of the run.

    Only the first process writes; the others evaluate as well: who ended early would be taken for dead.
    """
    real, header = loaded.real, _provenance(task, loaded, steps=done.step)
    dataset = DistilledDataset.create(done.distilled, real.transform, header)
    if engine.is_first():
        dataset.write(task.workdir / FILE)
    result: dict[str, Any] = {
        "method": task.method,
        "data": real.dataset.name,
        "num_images": len(dataset.images),
        "num_bits": dataset.header["num_bits"],
        "full_bits": full_bits(real.dataset),
        "steps": done.step,
        "seconds": done.seconds,
        "compile_seconds": done.compile_seconds,
        "devices": done.devices,
        "resumed_from": done.resumed_from,
    }
    if done.best is not None and loaded.curve is not None:
        best, step, score = done.best
        by = loaded.curve.measure
        result |= {"best_step": step, f"best_validation_{loaded.curve.name}": score}
        result |= {"best_validation_by": by} if by else {}
        if engine.is_first():
            chosen = {**header, "selected_on": "validation", "step": step, **({"selected_by": by} if by else {})}
            DistilledDataset.create(best, real.transform, chosen).write(task.workdir / BEST)
    return dataset, result


def _provenance(task: Task, loaded: _Loaded, *, steps: int) -> dict[str, Any]:
    """The header of a distilled file: which data set by its hash; its path, as it was given, is a hint beside that.

    A config holds nothing else of this place or time, so that equal runs give equal bytes.
    """
    dataset, chosen = loaded.real.dataset, task.config["data"]
    return {
        "method": task.method,
        "config": {"data": {"name": dataset.name, **told(chosen)}, **_identity(task, loaded.told), "steps": steps},
        "seed": task.config["seed"],
        "data": data_facts(loaded.real, chosen),
        "model": task.config["evaluation"]["model"],
        "protocol": task.config["evaluation"]["protocol"],
        "jaxdd_version": jaxdd.__version__,
    }


def _measure(task: Task, real: Real, dataset: DistilledDataset) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Scores and rows at the task's level; the set is on disk by now, and an interruption says so."""
    if task.level == "none":
        return {}, []
    began = time.perf_counter()
    try:
        scores, rows = measure(
            dataset,
            real,
            model=task.model,
            protocol=task.protocol,
            networks=task.config["evaluation"]["networks"],
            seed=task.config["seed"],
            full_data=task.full_data,
            baselines=task.config["evaluation"]["baselines"],
        )
        return scores | {"evaluation_seconds": time.perf_counter() - began}, rows
    except (KeyboardInterrupt, RunInterrupted) as stopped:
        message = f"{task.workdir / FILE} is written; the same command with --resume evaluates it."
        signum = getattr(stopped, "signum", signal.SIGINT)
        raise RunInterrupted(f"stopped in the evaluation; {message}", signum) from None
