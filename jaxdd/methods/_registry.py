"""Methods by name: each is a frozen dataclass of hyper-parameters and a function from it to a `Method`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from jaxdd._dotted import is_dotted, resolve
from jaxdd.errors import unknown
from jaxdd.types import Method

_METHODS: dict[str, tuple[type, Callable[[Any], Method]]] = {}


def method(hyper: type) -> Callable[[Callable[[Any], Method]], Callable[..., Method]]:
    """Register a builder under its function's name and let it take the fields of `hyper` as keywords.

    `kip(ipc=10)` and `kip(KIP(ipc=10))` are the same; a misspelt field names the nearest one.
    """

    def register(builder: Callable[[Any], Method]) -> Callable[..., Method]:
        @functools.wraps(builder)
        def call(config: Any = None, /, **fields) -> Method:
            if config is not None and fields:
                raise TypeError(f"{builder.__name__} takes a {hyper.__name__} or its fields, not both")
            return builder(_make(hyper, fields) if config is None else config)

        _METHODS[builder.__name__] = (hyper, builder)
        return call

    return register


def _make(hyper: type, fields: dict[str, Any]) -> Any:
    known = [field.name for field in dataclasses.fields(hyper)]
    for name in fields:
        if name not in known:
            raise unknown(f"option of {hyper.__name__}", name, known)
    return hyper(**fields)


def available() -> dict[str, str]:
    """Name and first line of the documentation of every method."""
    return {name: (builder.__doc__ or "").strip().splitlines()[0] for name, (_, builder) in sorted(_METHODS.items())}


def hyperparameters(name: str, **fields) -> Any:
    """The frozen dataclass of a method's hyper-parameters, or None for a user's own method (a dotted path)."""
    if is_dotted(name):
        return None
    if name not in _METHODS:
        raise unknown("method", name, _METHODS)
    return _make(_METHODS[name][0], fields)


def build(name: str, **fields) -> Method:
    """A method by its name, or by the dotted path `package.module:function` of one's own builder.

    Raises:
      JaxddError: for an unknown name or hyper-parameter, with the nearest known one.
    """
    config = hyperparameters(name, **fields)
    return resolve(name)(**fields) if config is None else _METHODS[name][1](config)
