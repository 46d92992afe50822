"""Operators on conditions, flags, arguments and checks."""

from __future__ import annotations

import ast
import itertools

from mutants.constants import default_of
from mutants.fair import is_check, mentions_the_machine
from mutants.registry import Changes, exchanged, operator
from mutants.source import Module, called, dotted, words

# Of functions whose two arguments may change places.
_SYMMETRIC = words(
    "add dot equal gcd hypot isclose logical_and logical_or maximum mean_feature_matching minimum multiply "
    "squared_error vdot"
)
# Of a method, as others are of the machine.
_FLAGS = words("as_distilled clip edges flip learn_labels nesterov nonnegative replace staircase stem train")
_OTHER = {
    ast.Eq: "!=", ast.NotEq: "==", ast.Lt: ">=", ast.LtE: ">", ast.Gt: "<=", ast.GtE: "<",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip


@operator
def negate_condition(module: Module, node: ast.AST) -> Changes:
    """The other branch of an `if` or a conditional expression. Not of a loop, which would not end."""
    if not isinstance(node, ast.If | ast.IfExp) or is_check(node, module) or mentions_the_machine(module, node.test):
        return
    test = node.test
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        sides = module.operand(test.left), module.operand(test.comparators[0])
        yield module.span(test), f"{sides[0]} {_OTHER[type(test.ops[0])]} {sides[1]}"
    elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        yield module.span(test), module.operand(test.operand)
    else:
        yield module.span(test), f"not {module.operand(test)}"


@operator
def drop_condition(module: Module, node: ast.AST) -> Changes:
    """One of several conditions that hold together, or of which one is enough, alone: of `and`, `or` and `&`."""
    if isinstance(node, ast.BoolOp):
        parts = node.values
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd):
        parts = [node.left, node.right]
    else:
        return
    if not mentions_the_machine(module, node):
        for part in (parts[0], parts[-1]):
            yield module.span(node), module.operand(part)


@operator
def flip_flag(module: Module, node: ast.AST) -> Changes:
    """True for False where a flag is part of a method: `train`, `staircase`, `replace` and their like."""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, bool):
        return
    outside = module.parent(node)
    name = outside.arg if isinstance(outside, ast.keyword) else default_of(module, node)
    if name in _FLAGS:
        yield module.span(node), repr(not node.value)


@operator
def swap_arguments(module: Module, node: ast.AST) -> Changes:
    """Two neighbouring arguments of one kind exchanged: the two results of `where` and `cond`, else names that have
    the same annotation or were unpacked together. Not keys (see `reuse_key`), not of a symmetric function.
    """
    if not isinstance(node, ast.Call) or called(node) in _SYMMETRIC:
        return
    if called(node) in ("where", "cond"):
        pairs = [tuple(node.args[1:3])] if len(node.args) >= 3 else []
    else:
        pairs = list(itertools.pairwise(node.args))
        pairs = [(a, b) for a, b in pairs if _kind(module, a) is not None and _kind(module, a) == _kind(module, b)]
    for first, second in pairs:
        if module.text(first) != module.text(second) and not mentions_the_machine(module, node):
            yield exchanged(module, first, second)


def _kind(module: Module, node: ast.AST) -> str | None:
    """The annotation of the argument that a name is, or where it was unpacked."""
    if not isinstance(node, ast.Name):
        return None
    for function in module.functions(node):
        arguments = function.args
        for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            if each.arg == node.id:
                kind = None if each.annotation is None else module.text(each.annotation)
                return None if kind == "Key" else kind
        for each in ast.walk(function):
            match each:
                case ast.Assign(targets=[ast.Tuple(elts=unpacked)]) if called(each.value) != "split":
                    if node.id in {dotted(one) for one in unpacked}:
                        return f"line {each.lineno}"
    return None


@operator
def skip_check(module: Module, node: ast.AST) -> Changes:
    """A check of arguments that lets everything pass, or is not made: the tests must ask for its sentence."""
    if is_check(node, module):
        assert isinstance(node, ast.If)
        yield module.span(node.test), "False"
    elif isinstance(node, ast.Expr) and called(node.value).lstrip("_").startswith("check_"):
        yield module.span(node), "pass"
    elif isinstance(node, ast.Call) and called(node) == "field" and len(node.args) == 2:
        yield module.span(node), module.text(node.args[0])
    elif isinstance(node, ast.Call) and called(node) == "require":
        for keyword in node.keywords:
            if isinstance(keyword.value, ast.Tuple):
                yield module.span(keyword.value.elts[0]), "True"
            elif isinstance(keyword.value, ast.Call):
                yield module.span(keyword.value), '(True, "")'
