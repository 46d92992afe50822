"""What a method must be, said in a sentence where somebody's own is something else; see `types.Method`."""

from __future__ import annotations

from typing import Any

import jax

from jaxdd.errors import JaxddError
from jaxdd.types import Method, PyTree, RealData, Recipe


def check_given(method: Any, data: Any) -> None:
    """Raises JaxddError unless these are a method and data for it."""
    if not isinstance(method, Method | Recipe):
        raise JaxddError(f"the method must be a Method or a Recipe, got {_called(method)}.")
    if not isinstance(data, RealData):
        raise JaxddError(
            f"the data must be a RealData, got {_called(data)}: data.real_data(dataset.train, transform, "
            "dataset.num_classes), or RealData.of(images, Labels.index(labels, num_classes))."
        )


def _called(given: Any) -> str:
    """What somebody gave, and, where that is known, what they meant."""
    name = type(given).__name__
    if isinstance(given, str):
        return f"the name {given!r}: methods.build({given!r})"
    if hasattr(given, "__dataclass_fields__") and not isinstance(given, type) and hasattr(given, "check"):
        return f"the hyper-parameters {name}: the function of its method takes them as arguments, as methods.kip(ipc=1)"
    if callable(given):
        return f"the function {getattr(given, '__name__', name)}: call it"
    return f"a {name}"


def check_update(before: PyTree, made: Any) -> None:
    """Look at what an update makes of a state, both as shapes.

    Raises:
      JaxddError: unless it is `(state, metrics)`, the state has the leaves, shapes and dtypes that it had before, and
        metrics are numbers by name.
    """
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], dict)):
        what = f"{len(made)} things" if type(made) is tuple else f"a {type(made).__name__}"
        if type(made) is tuple and len(made) == 2:
            what = f"a state and a {type(made[1]).__name__}"
        raise JaxddError(f"the method's update must return (state, metrics), metrics a dict of numbers; got {what}.")
    after, metrics = made
    for name, value in metrics.items():
        if getattr(value, "shape", None) != ():
            shape = getattr(value, "shape", f"a {type(value).__name__}")
            raise JaxddError(f"the metric {name!r} of the method's update must be one number, got shape {shape}.")
    if jax.tree.structure(before) != jax.tree.structure(after):
        raise JaxddError(
            "the method's update must return a state of the same structure as it is given: "
            f"{jax.tree.structure(before)} before, {jax.tree.structure(after)} after."
        )
    for (path, old), new in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            where = jax.tree_util.keystr(path, simple=True, separator=".")
            raise JaxddError(
                f"the method's update must leave shapes and dtypes of the state as they are: {where} is "
                f"{old.dtype}{list(old.shape)} before and {new.dtype}{list(new.shape)} after."
            )
