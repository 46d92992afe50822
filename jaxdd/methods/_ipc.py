"""`ipc`, images per class, of the methods that have it: one number for all classes, or one for each."""

from __future__ import annotations

from jaxdd.errors import JaxddError
from jaxdd.methods import _registry
from jaxdd.methods._hyper import Range, members


def _enough(ipc: int | tuple[int, ...]) -> bool:
    if not isinstance(ipc, tuple):
        return ipc >= 1
    for k, count in enumerate(ipc):
        if count < 1:
            raise JaxddError(f"ipc by class must be at least 1 for every class, got {count} for class {k}.")
    return len(ipc) > 0


def _takers() -> str:
    """What a method of equal blocks says of numbers by class."""
    names = [name for name in _registry.modules() if tuple[int, ...] in members(_registry.field_types(name).get("ipc"))]
    return f"one whole number (numbers by class are for {', '.join(names)})"


BY_CLASS = Range(_enough, "at least 1", kind=lambda: "int, or a tuple of one for each class")
"""Of a field `int | tuple[int, ...]`: at least 1, of every class."""
ALIKE = Range(_enough, "at least 1", kind=_takers)
"""Of a field `int`, where a method takes its classes for blocks of equal size."""
