"""Operators on literal numbers, and on where a range ends."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Callable

from mutants.arithmetic import TINY, is_arithmetic
from mutants.fair import is_fair, mentions_the_machine, of_the_machine
from mutants.registry import Changes, exchanged, operator
from mutants.source import Module, Span, called, dotted, number


def default_of(module: Module, node: ast.AST) -> str:
    """The name of the field or argument whose default a node is, or nothing."""
    outside = module.parent(node)
    if isinstance(outside, ast.Call) and called(outside) == "field" and node in outside.args[:1]:
        node, outside = outside, module.parent(outside)  # a default with its range
    if isinstance(outside, ast.AnnAssign) and outside.value is node and isinstance(outside.target, ast.Name):
        return outside.target.id if isinstance(module.parent(outside), ast.ClassDef) else ""
    if isinstance(outside, ast.arguments):
        places = [*outside.posonlyargs, *outside.args]
        given = dict(zip(outside.defaults, places[len(places) - len(outside.defaults) :], strict=True))
        given |= {value: place for value, place in zip(outside.kw_defaults, outside.kwonlyargs, strict=True) if value}
        return given[node].arg if node in given else ""
    return ""


def purpose(module: Module, node: ast.AST) -> str:
    """What a constant is given to: the keyword, the field, the argument or the variable; or nothing."""
    for each in module.ancestors(node):
        if isinstance(each, ast.keyword):
            return each.arg or ""
        if isinstance(each, ast.Assign):
            return dotted(each.targets[0])
        if isinstance(each, ast.AnnAssign | ast.AugAssign):
            return dotted(each.target)
        if isinstance(each, ast.arguments):
            return default_of(module, node)
        if isinstance(each, ast.stmt | ast.Lambda):
            return ""
    return ""


def _scaled(value: int | float) -> str:
    """Twice as much; half where that would leave the range of a share."""
    return repr(value / 2 if isinstance(value, float) and 0.5 <= value < 1 else value * 2)


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and number(node) is not None


@operator
def scale_constant(module: Module, node: ast.AST) -> Changes:
    """Twice a constant, or half of one between a half and one.

    Floats, and integers that multiply, divide, are exponents or are given by keyword. Not 0; not a tiny constant that
    is added for rounding.
    """
    if not _is_number(node) or node.value == 0 or default_of(module, node):
        return
    outside = module.parent(node)
    if of_the_machine(module, purpose(module, node)):
        return
    if isinstance(outside, ast.BinOp) and isinstance(outside.op, ast.Add | ast.Sub) and abs(node.value) < TINY:
        return
    keyword = isinstance(outside, ast.keyword)
    factor = isinstance(outside, ast.BinOp) and isinstance(outside.op, ast.Mult | ast.Div | ast.Pow)
    if isinstance(node.value, float) or keyword or (factor and not mentions_the_machine(module, outside)):
        yield module.span(node), _scaled(node.value)


@operator
def scale_default(module: Module, node: ast.AST) -> Changes:
    """The same for the default of a hyper-parameter or argument. Not `ipc` and `seed`: a user's choice, no paper's."""
    name = default_of(module, node)
    wanted = bool(name) and name not in ("ipc", "seed", "axis") and not of_the_machine(module, name)
    if wanted and _is_number(node) and node.value != 0:
        yield module.span(node), _scaled(node.value)


@operator
def swap_constants(module: Module, node: ast.AST) -> Changes:
    """Two neighbouring constants exchanged: in a call, a tuple, among defaults or keywords. Not in a subscript, nor
    where something is looked up among them; not an integer and a float, of which one would be refused.
    """
    if isinstance(node, ast.Call):
        groups = [node.args, [keyword.value for keyword in node.keywords]]
    elif isinstance(node, ast.Tuple | ast.List) and not isinstance(module.parent(node), ast.Subscript | ast.Compare):
        groups = [node.elts]
    elif isinstance(node, ast.arguments):
        groups = [node.defaults]
    else:
        return
    for group in groups:
        for first, second in itertools.pairwise(group):
            values = number(first), number(second)
            if None in values or values[0] == values[1] or type(values[0]) is not type(values[1]):
                continue
            if not (is_fair(module, first) and is_fair(module, second)):
                continue
            if not any(of_the_machine(module, purpose(module, each)) for each in (first, second)):
                yield exchanged(module, first, second)


@operator
def off_by_one(module: Module, node: ast.AST) -> Changes:
    """One more in a sum, an index or a bound; one less at the end of a range; `<=` for `<` and `<` for `<=`.

    Not `<` between real numbers, which are never quite equal; not a place in what a call returns, which is another
    thing altogether.
    """
    if _is_number(node) and isinstance(node.value, int) and not of_the_machine(module, purpose(module, node)):
        if _counts(module, node):
            yield module.span(node), repr(node.value + 1)
    elif isinstance(node, ast.Call) and called(node) in ("range", "randint"):
        ends = node.args[3:4] if called(node) == "randint" else node.args[:1] if len(node.args) == 1 else node.args[1:2]
        ends = [*ends, *(keyword.value for keyword in node.keywords if keyword.arg == "maxval")]
        for end in ends:
            if not _is_number(end) and not mentions_the_machine(module, end):
                yield module.span(end), f"{module.operand(end)} - 1"
    elif isinstance(node, ast.Compare) and not mentions_the_machine(module, node) and not _is_real(module, node):
        for left, sign, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            if isinstance(sign, ast.Lt | ast.LtE | ast.Gt | ast.GtE):
                yield _between(module, left, right, lambda text: text[:-1] if text.endswith("=") else f"{text}=")


def _counts(module: Module, node: ast.AST) -> bool:
    """Whether a literal integer is a term, an index or an end."""
    outside = module.parent(node)
    if isinstance(outside, ast.UnaryOp):
        outside = module.parent(outside)
    if isinstance(outside, ast.BinOp):
        return is_arithmetic(module, outside) and isinstance(outside.op, ast.Add | ast.Sub)
    if isinstance(outside, ast.Subscript):
        return not isinstance(outside.value, ast.Call)
    if isinstance(outside, ast.Slice):
        return node is not outside.step and outside.step is None
    if isinstance(outside, ast.Call):
        return called(outside) in ("range", "randint", "arange", "max", "min", "maximum", "minimum")
    return False


def _is_real(module: Module, node: ast.Compare) -> bool:
    for each in ast.walk(node):
        name = dotted(each).rpartition(".")[2]
        if isinstance(number(each), float) or called(each) in ("norm", "mean", "uniform", "hypot", "float"):
            return True
        if isinstance(each, ast.Name | ast.Attribute) and name in module.real_valued:
            return True
    return False


def _between(module: Module, left: ast.AST, right: ast.AST, change: Callable[[str], str]) -> tuple[Span, str]:
    """The sign between two operands, changed."""
    begin, end = module.span(left)[1], module.span(right)[0]
    text = module.content[begin:end].decode()
    found = re.search(r"[<>=!]+", text)
    assert found
    return (begin + found.start(), begin + found.end()), change(found.group())
