"""Operators on sums, products and functions of numbers."""

from __future__ import annotations

import ast

from mutants.fair import mentions_the_machine
from mutants.registry import Changes, exchanged, is_tree_map, operator
from mutants.source import Module, called, dotted, names, number, words

TINY = 1e-4
"""A smaller constant that is added is there for rounding."""

_FLIPPED = {ast.Add: "-", ast.Sub: "+"}
_PATHS = words("cache_dir directory folder parent path root workdir _directory")
_EVEN = words("square abs norm cos hypot")
_SHAPING = words("abs clip exp floor l2_normalize log log_softmax safe_sqrt softmax sqrt _sqrt square standardize tanh")


def is_sequence(node: ast.AST) -> bool:
    texts = isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    return texts or isinstance(node, ast.JoinedStr | ast.List | ast.Tuple | ast.ListComp | ast.Dict)


def is_arithmetic(module: Module, node: ast.AST) -> bool:
    """Whether a node is a sum, difference, product or quotient of numbers that count; `/` also joins paths."""
    return (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div)
        and not (is_sequence(node.left) or is_sequence(node.right))
        and not mentions_the_machine(module, node)
        and not (isinstance(node.op, ast.Div) and not _PATHS.isdisjoint(names(node)))
    )


@operator
def drop_term(module: Module, node: ast.AST) -> Changes:
    """One side of a sum or product alone; a difference or quotient without what is taken from it or divides it.

    Also of trees (`jax.tree.map(jnp.add, a, b)`) and `x += y`. Not a neutral 0 or 1, nor a tiny constant that is added
    for rounding; not texts and lists, which are joined and not added.
    """
    if is_arithmetic(module, node):
        assert isinstance(node, ast.BinOp)
        adds = isinstance(node.op, ast.Add | ast.Sub)
        dropped = [(node.right, node.left)]
        if isinstance(node.op, ast.Add | ast.Mult):
            dropped.append((node.left, node.right))
        for gone, kept in dropped:
            value = number(gone)
            if value is None or not (value == (0 if adds else 1) or (adds and abs(value) < TINY)):
                yield module.span(node), module.operand(kept)
    elif is_tree_map(node, "jnp.add", "jnp.subtract"):
        terms = [module.operand(each) for each in node.args[1:]]
        if len(terms) == 1 and isinstance(node.args[1], ast.Starred):
            terms = [f"{module.operand(node.args[1].value)}[{k}]" for k in (0, 1)]
        for term in terms if dotted(node.args[0]) == "jnp.add" else terms[:1]:
            yield module.span(node), term
    elif isinstance(node, ast.AugAssign) and not isinstance(node.op, ast.BitOr | ast.BitAnd):
        loops = any(isinstance(each, ast.While) for each in module.ancestors(node))
        if not (loops or is_sequence(node.value) or mentions_the_machine(module, node)):  # a loop must end
            yield module.span(node), "pass"


@operator
def flip_sign(module: Module, node: ast.AST) -> Changes:
    """`a + b` for `a - b`, `a - b` for `a + b`, `x` for `-x`. Not of 0; not of literal integers, which are places."""
    if is_arithmetic(module, node) and type(node.op) in _FLIPPED:
        if number(node.right) != 0 and number(node.left) != 0:
            sides = module.operand(node.left), module.operand(node.right)
            yield module.span(node), f"{sides[0]} {_FLIPPED[type(node.op)]} {sides[1]}"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and type(number(node.operand)) is not int:
        yield module.span(node), module.operand(node.operand)
    elif is_tree_map(node, "jnp.subtract"):
        yield module.span(node.args[0]), "jnp.add"
    elif is_tree_map(node, "jnp.negative"):
        yield module.span(node), module.operand(node.args[1])


@operator
def swap_operands(module: Module, node: ast.AST) -> Changes:
    """`b - a` for `a - b`, `b / a` for `a / b`. Not under a square, a norm or another even function."""
    if is_tree_map(node, "jnp.subtract") and len(node.args) == 3:
        yield exchanged(module, *node.args[1:])
    if not is_arithmetic(module, node) or not isinstance(node.op, ast.Sub | ast.Div):
        return
    outside = module.parent(node)
    even = called(outside) in _EVEN if isinstance(outside, ast.Call) else False
    if isinstance(outside, ast.BinOp) and isinstance(outside.op, ast.Pow):
        even = outside.left is node and isinstance(number(outside.right), int) and number(outside.right) % 2 == 0
    if not (even and isinstance(node.op, ast.Sub)):
        sides = module.operand(node.left), module.operand(node.right)
        yield module.span(node), f"{sides[1]} {'-' if isinstance(node.op, ast.Sub) else '/'} {sides[0]}"


@operator
def drop_function(module: Module, node: ast.AST) -> Changes:
    """`x` for `jnp.sqrt(x)`, `jnp.exp(x)`, `l2_normalize(x)`, `jnp.clip(x, ..)`, `x ** 2` and their like."""
    if isinstance(node, ast.Call) and called(node) in _SHAPING and node.args:
        if not (isinstance(node.args[0], ast.Starred) or mentions_the_machine(module, node)):
            yield module.span(node), module.operand(node.args[0])
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and number(node.right) not in (None, 1):
        yield module.span(node), module.operand(node.left)


@operator
def swap_mean_and_sum(module: Module, node: ast.AST) -> Changes:
    """`mean` for `sum` and `sum` for `mean`, as methods and as functions."""
    yield from _renamed(module, node, {"mean": "sum", "sum": "mean"})


@operator
def swap_extremes(module: Module, node: ast.AST) -> Changes:
    """The smallest for the largest and the other way round."""
    yield from _renamed(module, node, {"max": "min", "min": "max", "maximum": "minimum", "minimum": "maximum"})


def _renamed(module: Module, node: ast.AST, other: dict[str, str]) -> Changes:
    """Of a call the function with the other name; not of `block` and its like."""
    if not isinstance(node, ast.Call) or called(node) not in other or mentions_the_machine(module, node):
        return
    name, end = called(node), module.span(node.func)[1]
    if isinstance(node.func, ast.Attribute) or name in ("max", "min"):
        yield (end - len(name), end), other[name]
