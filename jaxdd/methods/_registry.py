"""Methods by name: each is a frozen dataclass of hyper-parameters and a function from it to a `Recipe`."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_type_hints

from jaxdd._dotted import is_dotted, resolve
from jaxdd.errors import JaxddError, unknown
from jaxdd.types import Method, Recipe, bound

_METHODS: dict[str, tuple[type, Callable[..., Recipe]]] = {}


def method(
    hyper: type, *, revisions: Mapping[int, str] | None = None
) -> Callable[[Callable[[Any], Method | Recipe]], Callable[..., Recipe]]:
    """Register a builder under its function's name and let it take the fields of `hyper` as keywords.

    `kip(ipc=10)` and `kip(KIP(ipc=10))` are the same and equal; a misspelt field names the nearest one.

    Args:
      hyper: the hyper-parameters, a frozen dataclass.
      revisions: what changed under an unchanged configuration, from 2 on: runs of an older revision are not gone on
        with, see `revisions`.
    """

    def register(builder: Callable[[Any], Method | Recipe]) -> Callable[..., Recipe]:
        @functools.wraps(builder)
        def call(config: Any = None, /, **fields) -> Recipe:
            if config is not None and fields:
                raise TypeError(f"{builder.__name__} takes a {hyper.__name__} or its fields, not both")
            config = _make(hyper, fields) if config is None else config
            made = builder(config)
            rest = {"stages": made.stages, "parts": made.parts} if isinstance(made, Recipe) else {}
            return Recipe(functools.partial(bound, made), identity=(builder, config), **rest)

        vars(call)["__signature__"] = inspect.signature(hyper)  # what completion and help show
        vars(call)["revisions"] = dict(revisions or {})
        _METHODS[builder.__name__] = (hyper, call)
        return call

    return register


def _make(hyper: type, fields: dict[str, Any]) -> Any:
    types = get_type_hints(hyper)
    for name, value in fields.items():
        if name not in types:
            raise unknown(f"option of {hyper.__name__}", name, types)
        allowed = get_args(types[name]) or (types[name],)  # of `int | None` its members
        right = type(value) in allowed or (float in allowed and type(value) is int)
        if not right:
            kinds = " or ".join("None" if kind is type(None) else kind.__name__ for kind in allowed)
            raise JaxddError(f"{name} of {hyper.__name__} must be {kinds}, got {value!r}.")
    return hyper(**fields)


def require(config: Any, **checks: tuple[bool, str]) -> None:
    """Raise a JaxddError for the first field of a config whose check fails: `field=(holds, "what would be right")`."""
    for field, (holds, expected) in checks.items():
        if not holds:
            raise JaxddError(f"{field} of {type(config).__name__} must be {expected}, got {getattr(config, field)!r}.")


def positive(value: float) -> tuple[bool, str]:
    """The check of `require` for rates."""
    return 0 < value < math.inf, "positive and finite"


def available() -> dict[str, str]:
    """Name and first line of the documentation of every method."""
    return {name: (builder.__doc__ or "").strip().splitlines()[0] for name, (_, builder) in sorted(_METHODS.items())}


def fields(name: str) -> dict[str, Any]:
    """The hyper-parameters of a method and their defaults, by its name or the dotted path of one's own builder.

    Raises:
      JaxddError: for an unknown name.
    """
    described = resolve(name) if is_dotted(name) else _registered(name)[0]
    parameters = inspect.signature(described).parameters.values()
    return {each.name: None if each.default is each.empty else each.default for each in parameters}


def revisions(name: str) -> Mapping[int, str]:
    """What each revision of a method changed under an unchanged configuration: none for the first, which is 1.

    A method of one's own, by its dotted path, may have them too: as an attribute `revisions` of its builder.

    Raises:
      JaxddError: for an unknown name.
    """
    return getattr(resolve(name) if is_dotted(name) else _registered(name)[1], "revisions", {})


def _registered(name: str) -> tuple[type, Callable[..., Recipe]]:
    if name not in _METHODS:
        raise unknown("method", name, _METHODS)
    return _METHODS[name]


def build(name: str, **fields) -> Method | Recipe:
    """A method by its name, or by the dotted path `package.module:function` of one's own builder.

    Raises:
      JaxddError: for an unknown name or hyper-parameter (with the nearest known one), one of the wrong type, or a
        builder that takes other arguments or returns no `Method` or `Recipe`.
    """
    if not is_dotted(name):
        return _registered(name)[1](**fields)
    builder = resolve(name)
    try:
        inspect.signature(builder).bind(**fields)
    except (TypeError, ValueError) as error:
        raise JaxddError(f"method {name!r} cannot be built with {sorted(fields)}: {error}.") from error
    made = builder(**fields)
    if not isinstance(made, Method | Recipe):
        raise JaxddError(f"method {name!r} must return a jaxdd.Method or a recipe for one, got {type(made).__name__}.")
    return made
