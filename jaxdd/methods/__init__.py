"""Published distillation methods, one file each, in a folder for each family. `build(name, **fields)` makes one.

A method is imported when it is first asked for: `build("kip")`, `methods.kip` and `from jaxdd.methods import KIP`
import `kernel/kip.py` alone. Its file makes it known: `FAMILY/NAME.py` holds the function NAME, and a dataclass whose
name is the same but for case and underscores.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from jaxdd.methods import _registry
from jaxdd.methods._hyper import (
    HyperParameters,
    Range,
    accepted_by,
    at_least,
    between,
    elements,
    field,
    more_than,
    one_of,
    positive,
    require,
)
from jaxdd.methods._registry import available, build, field_types, fields, method, revisions

if TYPE_CHECKING:
    from jaxdd.methods.match._matching import Classes, Matching, match_gradients, match_layers, matching, one_network
    from jaxdd.methods.unrolled._bilevel import Bilevel, Inner, bilevel

# Every method is here, too, by name; no list says which there are.
__all__ = [
    "Bilevel",
    "Classes",
    "HyperParameters",
    "Inner",
    "Matching",
    "Range",
    "accepted_by",
    "at_least",
    "available",
    "between",
    "bilevel",
    "build",
    "elements",
    "field",
    "field_types",
    "fields",
    "match_gradients",
    "match_layers",
    "matching",
    "method",
    "more_than",
    "one_network",
    "one_of",
    "positive",
    "require",
    "revisions",
]

# What a family shares, of which methods of one's own can be made, too.
_BLOCKS = {
    "match._matching": ("Classes", "Matching", "match_gradients", "match_layers", "matching", "one_network"),
    "unrolled._bilevel": ("Bilevel", "Inner", "bilevel"),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _BLOCKS.items() for name in names}


def __getattr__(name: str):
    module = _HOMES.get(name) or _registry.home(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    """With all methods and their dataclasses: this imports them."""
    builders = [__getattr__(name) for name in available()]
    return sorted([*__all__, *(name for each in builders for name in (each.__name__, each.hyper.__name__))])
