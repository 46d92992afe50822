"""Selectors as a config names them: what is looked at in the real data, and the rule that chooses by it."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import data, engine, models, training
from jaxdd.errors import JaxddError, unknown
from jaxdd.methods import missing_method
from jaxdd.selection import LastLayer, Selector, by_class, choose, pixels, scores
from jaxdd.training import Dynamics
from jaxdd.types import Array, Key, Labels, Network, PyTree, RealData, Recipe, Spec

DYNAMICS = "dynamics"
"""Name of the stage that trains the network of a selector."""
_BLOCK = 500  # examples whose features are computed at once

RULES: dict[str, Callable[..., Any]] = {
    name: getattr(choose, name) for name in choose.__all__ if name != "stratified"
}
"""By name; each chooses from one group of points."""
