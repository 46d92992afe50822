"""Where operators are kept by name, and what they have in common."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from mutants.source import Module, Span, dotted

Changes = Iterator[tuple[Span, str]]
"""Bytes, and what they are replaced by."""
Operator = Callable[[Module, ast.AST], Changes]

OPERATORS: dict[str, Operator] = {}


def operator(function: Operator) -> Operator:
    """Register an operator under its name. Its docstring says what it does and what it leaves out, and why."""
    OPERATORS[function.__name__] = function
    return function


def is_tree_map(node: ast.AST, *functions: str) -> bool:
    """`jax.tree.map(jnp.add, a, b)`, say, or of one tree."""
    if not isinstance(node, ast.Call) or dotted(node.func) != "jax.tree.map":
        return False
    return dotted(node.args[0]) in functions


def exchanged(module: Module, first: ast.AST, second: ast.AST) -> tuple[Span, str]:
    """Two expressions, one after the other, in each other's place."""
    begin, end = module.span(first)[1], module.span(second)[0]
    between = module.content[begin:end].decode()
    return module.span(first, second), f"{module.text(second)}{between}{module.text(first)}"
