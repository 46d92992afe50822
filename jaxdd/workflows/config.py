"""Configs as nested plain dicts: their defaults, and what is wrong with them."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

from jaxdd import _numbers, methods
from jaxdd._numbers import jsonable
from jaxdd.errors import JaxddError, unknown
from jaxdd.evaluation import rules_of
from jaxdd.types import AUTO, RETIRED, UNNAMED, Execution, renamed

EVALUATIONS = ("none", "kernel", "quick", "full")
VALIDATIONS = ("auto", "network", "none")

# What a config may leave out.
DATA: dict[str, Any] = {
    "name": "mnist_5k",
    "validation": 0.1,
    "split_seed": 0,
    "keep": None,
    "transform": "standardize",
    "zca_ridge": 0.1,
    "stream": False,
    "cache": False,
}
EVALUATION: dict[str, Any] = {"model": None, "protocol": "default", "networks": 5, "baselines": None}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "data": DATA,
    "method": {},
    "run": {
        "steps": 1000,
        "seconds": None,
        "log_every": None,
        "validate": "auto",
        "validate_every": None,
        "checkpoint_seconds": 30.0,
    },
    "execution": dataclasses.asdict(UNNAMED),
    "evaluation": EVALUATION,
}

# Where the data lie and how they are read: no part of what they are, so of no run's identity. What is kept of them has
# part in that by its content.
_WHEREABOUTS = ("name", "stream", "cache", "keep")


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with its defaults filled in.

        complete({"method": {"name": "kip", "ipc": 10}})["run"]["steps"]  # 1000

    Args:
      config: sections `seed`, `data`, `method`, `run`, `execution`, `evaluation`, each of which but `method` may be
        absent. `execution` has the fields of `types.Execution`: how this machine goes about it, no part of what a run
        is. What it once was in `method` and `run` is taken from there with a DeprecationWarning.
        `run.steps` are all updates; `run.seconds`, if it is not None, ends the run after so many seconds of them.
        `run.validate` says how iterates are scored on held-out data: "auto" (by the kernel in closed form, where the
        method has one, else by networks at five points of the run where networks are measured at its end, too),
        "network" (by one network trained on the iterate, at a tenth of the steps each) or "none". `run.validate_every`
        sets the steps between; None leaves them to that. `evaluation.baselines` names rules of choice whose real
        images stand beside random ones, as in "herding,facility"; None leaves it to the labels.

    Raises:
      JaxddError: for an unknown section or field (the nearest one is named), a seed that JAX does not take, or no
        method.
    """
    config = jsonable(config)
    check_sections(config, _DEFAULTS)
    full = filled(_moved(config), _DEFAULTS)
    Execution.of(full["execution"])
    if full["run"]["seconds"] is not None:
        _numbers.positive(full["run"]["seconds"], "config.run.seconds")
    if full["run"]["validate"] not in VALIDATIONS:
        raise unknown("config.run.validate", full["run"]["validate"], VALIDATIONS)
    if "name" not in full["method"]:
        raise JaxddError(f"config.method.name is missing; known: {', '.join(methods.available())}.")
    return full


def check_sections(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raises JaxddError for a section that is none of these, with the nearest one."""
    for section in config:
        if section not in ("seed", *defaults):
            raise unknown("section of the config", section, ("seed", *defaults))


def filled(config: Mapping[str, Any], defaults: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A config with the defaults of its sections filled in, of which one without any may have other fields.

    Raises:
      JaxddError: for a section that is none, an unknown field, a seed that JAX does not take, or data that are not to
        be had so.
    """
    full: dict[str, Any] = {"seed": check_seed(config.get("seed", 0))}
    for section, usual in defaults.items():
        given = config.get(section, {})
        if not isinstance(given, Mapping):
            raise JaxddError(f"config.{section} must hold fields, got {given!r}.")
        for field in given:
            if usual and field not in usual:
                raise unknown(f"field of config.{section}", field, usual)
        full[section] = {**usual, **given}
    check_seed(full["data"]["split_seed"], "config.data.split_seed")
    for name in ("stream", "cache"):
        if not isinstance(full["data"][name], bool):
            raise JaxddError(f"config.data.{name} must be True or False, got {full['data'][name]!r}.")
    rules_of(full["evaluation"]["baselines"])
    keep = full["data"]["keep"]
    if keep is not None and not isinstance(keep, str):
        raise JaxddError(f"config.data.keep must be a file of jaxdd select, or its directory, got {keep!r}.")
    return full


def _moved(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A config with what are fields of `execution` now moved there from where they were; what is there stands."""
    method, run, there = (config.get(section, {}) for section in ("method", "run", "execution"))
    if not all(isinstance(section, Mapping) for section in (method, run, there)):
        return config  # which is said elsewhere
    old = {name: value for name, value in method.items() if name in RETIRED}
    if old and "name" in method:  # a method of one's own may have hyper-parameters of these names
        own = methods.fields(method["name"])
        old = {name: value for name, value in old.items() if name not in own}
    found = renamed(old) | ({"precision": run["precision"]} if "precision" in run else {})
    if not found:
        return config
    where = [f"method.{name}" for name in old] + ["run.precision"] * ("precision" in run)
    now = ", ".join(f"execution.{name}={value}" for name, value in found.items())
    warnings.warn(f"{', '.join(where)} of the config is now {now}.", DeprecationWarning, stacklevel=3)
    named = {name: value for name, value in there.items() if value != AUTO}
    return {
        **config,
        "method": {name: value for name, value in method.items() if name not in old},
        "run": {name: value for name, value in run.items() if name != "precision"},
        "execution": {**there, **found, **named},
    }


def told(section: Mapping[str, Any]) -> dict[str, Any]:
    """What the section `data` of a config says of the data, wherever they lie."""
    return {field: value for field, value in section.items() if field not in _WHEREABOUTS}


def check_seed(seed: Any, name: str = "seed") -> int:
    """A seed that JAX takes, 0 to 2**32 - 1; JaxddError for another, by the name it is given."""
    return _numbers.seed(seed, name)
