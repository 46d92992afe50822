"""All operators by name, and what they make of a file.

Each says in its docstring what it does, and what it leaves out beside what `fair` leaves out, and why: a mutant that
cannot differ from the original, or that no program survives, would say nothing about the tests.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from mutants import arithmetic, choices, constants, parts  # noqa: F401  (they register their operators)
from mutants.fair import is_fair
from mutants.registry import OPERATORS
from mutants.source import Module, Mutant, Span, make

_OF_CHECKS = "skip_check"


def changes(module: Module, node: ast.AST) -> Iterator[tuple[str, Span, str]]:
    """All that the operators make of a node: operator, bytes, replacement."""
    fair = is_fair(module, node)
    for name, make_changes in OPERATORS.items():
        if fair or name == _OF_CHECKS:
            for span, text in make_changes(module, node):
                yield name, span, text


def mutants_of(path: str, content: bytes) -> list[Mutant]:
    """All mutants of a file, in its order; of equal ones the first."""
    module, found = Module(path, content), {}
    for node in ast.walk(module.tree):
        for name, span, text in changes(module, node):
            if content[span[0] : span[1]].decode() != text:
                found.setdefault((span, text), make(path, content, name, span, text))
    return sorted(found.values(), key=lambda mutant: (mutant.span, mutant.operator, mutant.replacement))
