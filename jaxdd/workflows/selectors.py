"""Selectors as a config names them: a rule of choice, and what it looks at in the real data."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdd import engine, training
from jaxdd.errors import JaxddError, unknown
from jaxdd.selection import Chosen, LastLayer, Selector, by_class, choose, pixels, scores
from jaxdd.training import Dynamics
from jaxdd.types import Array, Examples, Key, Labels, Network, PyTree, RealData, Spec, Stage
from jaxdd.workflows.data import Real

STAGE = "dynamics"
"""Of the training of a selector's network."""
_GIVEN = {"key", "mask", "k", "first", "centres", "validation", "points", "features", "gradients", "scores"}


# `stratified` is over strata of one's own, and `by_class` is what it is for classes.
RULES: dict[str, Callable[..., Any]] = {name: getattr(choose, name) for name in choose.__all__ if name != "stratified"}
"""Rules of choice by name, each over one group of points."""

LOOKS = ("pixels", "features", "gradients")
"""What a rule over points may look at: images as networks see them; and what a trained network makes of them, its
features and its gradients in the last layer."""

_OF_TRAINING: dict[str, Callable[[Dynamics], Array]] = {
    "forgetting": lambda dynamics: _never_last(dynamics.forgotten),
    "aum": lambda dynamics: -dynamics.margins,
    "el2n": lambda dynamics: dynamics.errors,
}
_OF_LOGITS: dict[str, Callable[[np.ndarray, Array], Array]] = {
    "loss": scores.loss,
    "margin": lambda logits, labels: -scores.margin(logits),
    "entropy": lambda logits, labels: scores.entropy(logits),
    "least_confidence": lambda logits, labels: scores.least_confidence(logits),
}
_GRAD_NORM = "grad_norm"
SCORES = (*_OF_TRAINING, *_OF_LOGITS, _GRAD_NORM)
"""Of every example, the larger the harder: what the training of a network said of it, what the network makes of it at
its end, and the norm of its gradient there."""


def _never_last(forgotten: Array) -> Array:
    """Forgetting events as finite scores: one more than any other for what was never learned."""
    finite = jnp.isfinite(forgotten)
    return jnp.where(finite, forgotten, 1 + jnp.max(jnp.where(finite, forgotten, 0)))


def options_of(rule: str) -> dict[str, inspect.Parameter]:
    """What a rule takes beside points, a number and a key: a penalty, for one.

    Raises:
      JaxddError: for an unknown rule.
    """
    if rule not in RULES:
        raise unknown("rule of choice", rule, RULES)
    return {name: each for name, each in inspect.signature(RULES[rule]).parameters.items() if name not in _GIVEN}


def default_of(each: inspect.Parameter) -> Any:
    """Of an option; 0.0 where it has none, as the cutoff of CCS."""
    return 0.0 if each.default is inspect.Parameter.empty else each.default


def check(section: Mapping[str, Any]) -> None:
    """Refuse what cannot be selected by, from the section `select` of a config.

    Raises:
      JaxddError: for an unknown rule, look or option, or a rule that cannot choose by that.
    """
    rule, by = section["rule"], section["by"]
    known = options_of(rule)
    for name, value in section.items():
        if name in FIELDS:
            continue
        if name not in known:
            raise unknown(f"field of config.select with the rule {rule!r}", name, [*FIELDS, *known])
        usual = default_of(known[name])
        kind = float if isinstance(usual, int | float) else type(usual)
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
            raise JaxddError(f"config.select.{name} must be like {usual!r}, got {value!r}.")
    if by not in (*LOOKS, *SCORES):
        raise unknown("config.select.by", by, (*LOOKS, *SCORES))
    scored, needs = by not in LOOKS, _first_argument(rule)
    if needs == "scores" and not scored:
        raise JaxddError(f"{rule} chooses by scores: config.select.by is one of {', '.join(SCORES)}.")
    if needs in ("features", "gradients") and scored:
        raise JaxddError(f"{rule} chooses by points, not by scores: config.select.by is one of {', '.join(LOOKS)}.")
    if rule == "glister" and by != "gradients":
        raise JaxddError("glister chooses by gradients: config.select.by=gradients.")


def _first_argument(rule: str) -> str:
    return next(iter(inspect.signature(RULES[rule]).parameters))


FIELDS: dict[str, Any] = {
    "rule": "herding",
    "by": "pixels",
    "ipc": None,
    "fraction": None,
    "balanced": True,
}
"""Of the section `select` of a config beside the options of its rule."""

NETWORK: dict[str, Any] = {
    "model": "convnet(width=32)",
    "epochs": 20,
    "batch_size": 128,
    "learning_rate": 0.05,
    "weight_decay": 5e-4,
    "networks": 1,
    "early": None,
    "augmentation": "none",
}
"""Of the section `network` of a config: of the network whose features, gradients or training a rule looks at."""


def needs_network(by: str) -> bool:
    """Whether a network has to be trained for this look."""
    return by != "pixels"


def stage(section: Mapping[str, Any], spec: Spec) -> Stage:
    """The training of the network of a selector, from the section `network` of a config."""
    fields = {**section, "augment": section["augmentation"]}
    del fields["augmentation"]
    return training.dynamics_stage(STAGE, fields.pop("model"), spec, **fields)


def trained(section: Mapping[str, Any], real: Real, *, seed: int, config: Mapping[str, Any]) -> Dynamics:
    """What the training of a network says of the training examples; from the cache where that was done before.

    Raises:
      JaxddError, RunInterrupted: as `engine.run`; what was done is kept.
    """
    alone = stage(section, Spec.of(real.stored))
    if real.decode is not None:
        alone = dataclasses.replace(alone, recipe=engine.decoding(alone.recipe, real.decode))
    return engine.provide(alone, real.stored, seed=seed, config=config).assets[STAGE]


def selector(
    section: Mapping[str, Any], network: Network | None, dynamics: Dynamics | None, validation: Examples | None
) -> Selector:
    """What the section `select` of a config says, as a `Selector` over transformed real data.

    Args:
      network, dynamics: whose training was watched, where the look needs one.
      validation: held-out data, which GLISTER chooses for.
    """
    rule = functools.partial(RULES[section["rule"]], **{k: v for k, v in section.items() if k not in FIELDS})
    by = section["by"]

    def last_layer(examples: Examples) -> LastLayer:
        assert network is not None and dynamics is not None
        return LastLayer.of(*training.seen(network, dynamics.network, examples.images), examples.labels)

    def describe(data: RealData, key: Key) -> PyTree:
        if section["rule"] == "uniform":  # which looks at nothing, and so at data that are streamed
            return jnp.arange(len(data.labels.values))
        if by == "pixels":
            return pixels(data, key)
        assert network is not None and dynamics is not None
        if by in _OF_TRAINING:
            return _OF_TRAINING[by](dynamics)
        if by == _GRAD_NORM:
            return scores.grand(network, *dynamics.network, data.images, data.labels.values)
        if by == "gradients":
            return last_layer(data.examples)
        features, logits = training.seen(network, dynamics.network, data.images)
        return jnp.asarray(features) if by == "features" else _OF_LOGITS[by](logits, data.labels.values)

    if section["rule"] == "glister":
        if validation is None:
            raise JaxddError("glister chooses for held-out data: hold some out (config.data.validation=0.1).")
        rule = functools.partial(rule, validation=last_layer(validation))
    elif by == "gradients":
        rule = _of_gradients(rule)
    lifted = by_class(rule)
    return Selector(describe, lifted if section["balanced"] else _of_all(lifted))


def _of_gradients(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A rule over points, of the gradients in a last layer, which are made for one class at a time."""
    if "key" in inspect.signature(rule).parameters:
        return lambda part, k, key, mask=None: rule(part.gradients(), k, key=key, mask=mask)
    return lambda part, k, mask=None: rule(part.gradients(), k, mask=mask)


def _of_all(lifted: Callable[..., Chosen]) -> Callable[..., Chosen]:
    """A rule over classes, of all examples as if they were of one."""

    def choose(key: Key, described: PyTree, labels: Labels, k: Any) -> Chosen:
        return lifted(key, described, Labels.index(np.zeros(len(labels.values), np.int32)), int(np.sum(k)))

    return choose
