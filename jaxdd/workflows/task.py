"""What a run is asked for, checked before anything is read."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxdd import engine, evaluation, methods, report
from jaxdd._numbers import whole
from jaxdd.errors import JaxddError, unknown
from jaxdd.workflows import again, settled
from jaxdd.workflows.config import EVALUATIONS, complete
from jaxdd.workflows.outcome import FILE, RESULTS


@dataclasses.dataclass(frozen=True)
class Task:
    """A config that has been checked.

    Attributes:
      method: its name.
      hyper: its hyper-parameters, as configured.
      config: complete; `evaluation.model` is the one that the set is meant for.
      workdir: where everything goes.
      level: of evaluation at the end, one of EVALUATIONS.
      model: that is trained there; None trains none.
      protocol: how.
      full_data: whether networks trained on all real data are measured as well.
    """

    method: str
    hyper: dict[str, Any]
    config: dict[str, Any]
    workdir: pathlib.Path
    level: str
    model: str | None
    protocol: evaluation.Protocol
    full_data: bool


def check(config: Mapping[str, Any], workdir: pathlib.Path, *, level: str, full_data: bool) -> Task:
    """Everything that can be said of a config and a directory before the data are there."""
    if level not in EVALUATIONS:
        raise unknown("level of evaluation", level, EVALUATIONS)
    full = complete(config)
    hyper = {name: value for name, value in full["method"].items() if name != "name"}
    name = full["method"]["name"]
    settled.check(name, hyper)  # what is misspelt must not cost the data's loading
    trained = {**methods.fields(name), **hyper}.get("model")
    full["evaluation"]["model"] = full["evaluation"]["model"] or trained or "convnet"
    model, protocol = _evaluation(full["evaluation"], level, trains_networks=trained is not None)
    protocol = evaluation.protocols.get(protocol)
    networks = full["evaluation"]["networks"]
    whole(networks, "config.evaluation.networks")
    engine.on_first(lambda: _check_workdir(workdir, name))
    return Task(name, hyper, full, workdir, level, model, protocol, full_data)


def _evaluation(section: Mapping[str, Any], level: str, *, trains_networks: bool) -> tuple[str | None, str]:
    """Model and protocol of the evaluation at a level; no model if networks are not to be trained."""
    if level in ("none", "kernel"):
        return None, section["protocol"]
    if level == "quick" and not evaluation.protocols.get(section["protocol"]).as_distilled:
        return section["model"] if trains_networks else "mlp", "quick"
    return section["model"], section["protocol"]


def _check_workdir(workdir: pathlib.Path, name: str) -> None:
    """A directory of somebody else's must not lose its README, nor a run be finished as another method than it began.

    Raises:
      JaxddError: for files that are not of a run, or a run of another revision of this method.
    """
    if not (workdir / "run.json").exists():
        for file in (FILE, RESULTS, again.FILE, *report.FILES):
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
