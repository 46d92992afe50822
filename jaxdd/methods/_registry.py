"""Methods by name: each is a frozen dataclass of hyper-parameters and a function from it to a `Recipe`.

A method is a file of a family's folder that is called as its function; nothing else lists it.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import pathlib
import pkgutil
import typing
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from jaxdd._dotted import is_dotted, resolve
from jaxdd.errors import JaxddError, unknown
from jaxdd.methods._hyper import HyperParameters, as_type, made_of, types_of, validate
from jaxdd.types import AUTO, RETIRED, Execution, Method, Recipe, as_recipe, bound, renamed


def method(
    hyper: type, *, revisions: Mapping[int, str] | None = None
) -> Callable[[Callable[[Any], Method | Recipe]], Callable[..., Recipe]]:
    """Let a builder take the fields of `hyper` as keywords, and check them.

    `kip(ipc=10)` and `kip(KIP(ipc=10))` are the same and equal; a misspelt field names the nearest one.

        @method(Mine)
        def mine(config: Mine) -> Recipe:
            '''What `jaxdd list` says of it.'''

    Args:
      hyper: the hyper-parameters, a frozen dataclass, see `field`.
      revisions: what changed under an unchanged configuration, from 2 on: runs of an older revision are not gone on
        with, see `revisions`.
    """

    def decorated(builder: Callable[[Any], Method | Recipe]) -> Callable[..., Recipe]:
        @functools.wraps(builder)
        def call(config: Any = None, /, **fields) -> Recipe:
            if config is not None and fields:
                raise TypeError(f"{builder.__name__} takes a {hyper.__name__} or its fields, not both")
            old = {name: fields.pop(name) for name in RETIRED if name in fields and name not in types_of(hyper)}
            if config is None:
                config = made_of(hyper, fields)
            elif not isinstance(config, HyperParameters):  # which has checked itself
                validate(config)
            made = as_recipe(builder(config))
            asked = made.asked.over(_asked(builder.__name__, hyper, made.lean, old))
            return dataclasses.replace(
                made, bind=functools.partial(bound, made), identity=(builder, config, asked), asked=asked
            )

        vars(call)["__signature__"] = inspect.signature(hyper)  # what completion and help show
        vars(call)["hyper"] = hyper
        vars(call)["revisions"] = dict(revisions or {})
        return call

    return decorated


def _asked(name: str, hyper: type, lean: Execution, old: Mapping[str, Any]) -> Execution:
    """What hyper-parameters of before say of an execution; others are unknown, as ever."""
    for field in old:
        if getattr(lean, RETIRED[field]) == AUTO:
            raise unknown(f"option of {hyper.__name__}", field, types_of(hyper))
    found = renamed(old)
    if found:
        now = ", ".join(f"{field}={value!r}" for field, value in found.items())
        warnings.warn(
            f"{', '.join(old)} of {name} belong to the run now: engine.run(.., execution=types.Execution({now})).",
            DeprecationWarning,
            stacklevel=3,
        )
    return Execution(**found)


@functools.cache
def modules() -> Mapping[str, str]:
    """The module of every method by its name. Nothing is imported for it."""
    folder, package = pathlib.Path(__file__).parent, __name__.rpartition(".")[0]
    families = [each.name for each in pkgutil.iter_modules([str(folder)]) if each.ispkg]
    found = {
        each.name: f"{package}.{family}.{each.name}"
        for family in families
        for each in pkgutil.iter_modules([str(folder / family)])
        if not each.name.startswith("_")
    }
    return dict(sorted(found.items()))


def home(name: str) -> str | None:
    """The module that defines `name`, a method or its hyper-parameters (`RaTBPTT` of `rat_bptt`), or None."""

    def bare(name: str) -> str:
        return name.replace("_", "").lower()

    found = () if name.startswith("_") else modules().items()
    return next((module for method, module in found if bare(method) == bare(name)), None)


def _builder(name: str) -> Callable[..., Any]:
    """A method's builder, by its name or the dotted path of one's own."""
    if is_dotted(name):
        return resolve(name)
    if name not in modules():
        raise unknown("method", name, modules())
    return getattr(importlib.import_module(modules()[name]), name)


def available() -> dict[str, str]:
    """Name and first line of the documentation of every method, all of which are imported for it."""
    return {name: (_builder(name).__doc__ or "").strip().splitlines()[0] for name in modules()}


def fields(name: str, /, **given) -> dict[str, Any]:
    """The hyper-parameters of a method: those given, lists as tuples where tuples belong, and the others' defaults.

    Args:
      name: of the method, or the dotted path of one's own builder.

    Raises:
      JaxddError: for an unknown name.
    """
    parameters = inspect.signature(_builder(name)).parameters.values()
    defaults = {each.name: None if each.default is each.empty else each.default for each in parameters}
    kinds = field_types(name)
    return {**defaults, **{field: as_type(value, kinds.get(field, Any)) for field, value in given.items()}}


def field_types(name: str) -> dict[str, Any]:
    """The annotated types of a method's hyper-parameters, of those that have one, by its name or a dotted path.

    Raises:
      JaxddError: for an unknown name.
    """
    builder = _builder(name)
    if hyper := getattr(builder, "hyper", None):
        return dict(types_of(hyper))
    try:
        hints = typing.get_type_hints(builder)
    except (NameError, TypeError):  # annotations that are there for a type checker alone; no function
        return {}
    return {field: kind for field, kind in hints.items() if field != "return"}


def revisions(name: str) -> Mapping[int, str]:
    """What each revision of a method changed under an unchanged configuration: none for the first, which is 1.

    A method of one's own, by its dotted path, may have them too: as an attribute `revisions` of its builder.

    Raises:
      JaxddError: for an unknown name.
    """
    return getattr(_builder(name), "revisions", {})


def build(name: str, **fields) -> Method | Recipe:
    """A method by its name, or by the dotted path `package.module:function` of one's own builder.

    Raises:
      JaxddError: for an unknown name or hyper-parameter (with the nearest known one), one of the wrong type or out of
        its range, or a builder that takes other arguments or returns no `Method` or `Recipe`.
    """
    builder = _builder(name)
    if not hasattr(builder, "hyper"):
        try:
            inspect.signature(builder).bind(**fields)
        except (TypeError, ValueError) as error:
            raise JaxddError(f"method {name!r} cannot be built with {sorted(fields)}: {error}.") from error
        kinds = field_types(name)
        fields = {field: as_type(value, kinds.get(field, Any)) for field, value in fields.items()}
    made = builder(**fields)
    if not isinstance(made, Method | Recipe):
        raise JaxddError(f"method {name!r} must return a jaxdd.Method or a recipe for one, got {type(made).__name__}.")
    return made
