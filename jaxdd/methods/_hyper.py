"""Hyper-parameters: plain frozen dataclasses whose fields say beside their default what they may be.

@dataclasses.dataclass(frozen=True)
class Mine(HyperParameters):
    ipc: int = field(1, at_least(1))
    optimizer: str = field("adam", one_of(("adam", "sgd")))
    betas: tuple[float, float] = field((0.9, 0.999), elements(at_least(0, under=1)))
    clip: float | None = field(None, more_than(1))
    steps: int = 10  # any int

    def check(self):  # what one field alone cannot say
        require(self, steps=(self.steps >= self.ipc, f"at least ipc, {self.ipc}"))

Mine(betas=(0.5, 1.0))  # JaxddError: betas of Mine must be at least 0 and under 1 in every element, got (0.5, 1.0).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from jaxdd.errors import JaxddError, unknown

T = TypeVar("T")
_RANGE = "jaxdd.range"  # of a field's metadata


@dataclasses.dataclass(frozen=True)
class Range:
    """What a value may be.

    Attributes:
      holds: `holds(value)`, whether it is that. It may raise a `JaxddError` with a better sentence.
      expected: the same in words, after "must be".
      kind: likewise, of a value of another type than the annotation; None for that itself.
    """

    holds: Callable[[Any], bool]
    expected: str
    kind: Callable[[], str] | None = None


def field(default: T, allowed: Range | None = None) -> T:
    """A field of a dataclass of hyper-parameters: its default, and what it may be beside its annotated type.

    Where the annotation allows None, so does the range. A subclass that gives a field another default keeps the range;
    another `field` has its own.
    """
    return dataclasses.field(default=default, metadata={_RANGE: allowed})


def at_least(low: float, *, under: float | None = None) -> Range:
    """From `low` on, and below `under` if given (`math.inf`: finite)."""
    if under is None:
        return Range(lambda value: value >= low, f"at least {low}")
    return Range(lambda value: low <= value < under, f"at least {low} and {_below(under)}")


def more_than(low: float, *, under: float | None = None) -> Range:
    """Above `low`, and below `under` if given (`math.inf`: finite)."""
    if under is None:
        return Range(lambda value: value > low, f"more than {low}")
    return Range(lambda value: low < value < under, f"more than {low} and {_below(under)}")


def _below(end: float) -> str:
    return "finite" if end == math.inf else f"under {end}"


def between(low: float, high: float) -> Range:
    """From `low` to `high`, both of them allowed."""
    return Range(lambda value: low <= value <= high, f"between {low} and {high}")


def one_of(names: Iterable[Any]) -> Range:
    """One of these."""
    known = tuple(names)
    return Range(lambda value: value in known, f"one of {', '.join(map(str, known))}")


def or_a(kind: type, words: str, allowed: Range) -> Range:
    """What is allowed, or any object of this kind, which is called so in words."""
    return Range(lambda value: isinstance(value, kind) or allowed.holds(value), f"{allowed.expected} or {words}")


def elements(allowed: Range) -> Range:
    """Of a tuple: every element."""
    return Range(lambda values: all(map(allowed.holds, values)), f"{allowed.expected} in every element")


def accepted_by(function: Callable[[Any], Any]) -> Range:
    """What `function` takes, which else raises a `JaxddError`: a look-up by name."""

    def holds(value: Any) -> bool:
        function(value)
        return True

    return Range(holds, f"what {getattr(function, '__name__', function)} takes")


positive = Range(lambda value: 0 < value < math.inf, "positive and finite")
"""What rates and weights are."""


class HyperParameters:
    """Base of a frozen dataclass of hyper-parameters that checks itself when it is made.

    Raises:
      JaxddError: for the first field of another type than its annotation or out of its range, and by `check`.
    """

    def __post_init__(self):
        for name, value in vars(self).items():
            if isinstance(value, np.generic):
                object.__setattr__(self, name, value.item())
            elif isinstance(value, tuple) and any(isinstance(each, np.generic) for each in value):
                bare = (each.item() if isinstance(each, np.generic) else each for each in value)
                object.__setattr__(self, name, tuple(bare))
        validate(self)

    def check(self) -> None:
        """What needs more than one field, by `require`; a subclass's begins with `super().check()`."""


def require(config: Any, **checks: tuple[bool, str]) -> None:
    """Raise a JaxddError for the first field of a config whose check fails: `field=(holds, "what would be right")`."""
    for name, (holds, expected) in checks.items():
        if not holds:
            raise JaxddError(f"{name} of {type(config).__name__} must be {expected}, got {getattr(config, name)!r}.")


def validate(config: Any) -> None:
    """Check the types of a dataclass's fields, their ranges, and what its `check` says, if it has one.

    Raises:
      JaxddError: for the first that is wrong.
    """
    hyper = type(config)
    for name, kind in types_of(hyper).items():
        value = getattr(config, name)
        allowed = _ranges(hyper)[name]
        if not _fits(value, kind):
            expected = allowed.kind() if allowed and allowed.kind else _in_words(kind)
            require(config, **{name: (False, expected)})
        if value is not None and allowed:
            or_none = " or None" if _fits(None, kind) else ""
            require(config, **{name: (allowed.holds(value), allowed.expected + or_none)})
    if check := getattr(config, "check", None):
        check()


@functools.cache
def types_of(hyper: type) -> Mapping[str, Any]:
    """The types of a dataclass's fields, which are what its constructor takes."""
    hints = typing.get_type_hints(hyper)
    return {each.name: hints[each.name] for each in dataclasses.fields(hyper) if each.init}


@functools.cache
def _ranges(hyper: type) -> Mapping[str, Range | None]:
    """Of each field that of the nearest class which says one: a new default alone does not."""
    found: dict[str, Range | None] = dict.fromkeys(types_of(hyper))
    for cls in reversed(hyper.__mro__):
        for name, each in vars(cls).get("__dataclass_fields__", {}).items():
            if name in found and _RANGE in each.metadata:
                found[name] = each.metadata[_RANGE]
    return found


def made_of(hyper: type, fields: Mapping[str, Any]) -> Any:
    """A dataclass of fields from a config: lists become tuples where the annotation has tuples.

    Raises:
      JaxddError: for an unknown field (with the nearest one) or one that is missing, and as `validate`.
    """
    kinds = types_of(hyper)
    for name in fields:
        if name not in kinds:
            raise unknown(f"option of {hyper.__name__}", name, kinds)
    for each in dataclasses.fields(hyper):
        required = each.init and each.default is each.default_factory is dataclasses.MISSING
        if required and each.name not in fields:
            raise JaxddError(f"option {each.name!r} of {hyper.__name__} is missing.")
    config = hyper(**{name: as_type(value, kinds[name]) for name, value in fields.items()})
    if not isinstance(config, HyperParameters):
        validate(config)
    return config


def as_type(value: Any, kind: Any) -> Any:
    """A list of a config, as the tuple that the type asks for; everything else as it is."""
    if isinstance(value, list) and not _fits(value, kind):
        for member in members(kind):
            if member is tuple or typing.get_origin(member) is tuple:
                inside = [each for each in typing.get_args(member) if each is not Ellipsis] or [Any]
                inside += inside[-1:] * (len(value) - len(inside))
                return tuple(map(as_type, value, inside))
    return value


def members(kind: Any) -> tuple[Any, ...]:
    """The types that a union is of; of another type itself."""
    is_union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return typing.get_args(kind) if is_union else (kind,)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of an annotated type. An int is a float, a bool is no number."""
    if len(of := members(kind)) > 1:
        return any(_fits(value, each) for each in of)
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if kind is None or kind is type(None):
        return value is None
    if origin is typing.Literal:
        return value in inside
    if kind is float or kind is int:
        return isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    if origin is tuple and isinstance(value, tuple):
        if inside[-1:] == (Ellipsis,):
            return all(_fits(each, inside[0]) for each in value)
        return len(value) == len(inside) and all(map(_fits, value, inside))
    plain = origin or kind
    return not isinstance(plain, type) or isinstance(value, plain)


def _in_words(kind: Any) -> str:
    words = []
    for each in members(kind):
        none, bare = each is type(None), isinstance(each, type) and not typing.get_args(each)
        words.append("None" if none else each.__name__ if bare else str(each).replace("typing.", ""))
    return " or ".join(words)
