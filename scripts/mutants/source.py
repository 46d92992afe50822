"""A source file with its syntax tree and exact places, and a mutant: one change of a few of its bytes."""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
from collections.abc import Iterator

Span = tuple[int, int]
"""Bytes from the first to before the second."""


class Unappliable(Exception):
    """A mutant that does not fit the tree."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
      id: names it in this tree.
      path: of the file in the tree, with slashes.
      operator: that made it; "listed" if a person did.
      line: of the first changed byte, from 1.
      before, after: the lines that it changes.
      span, replacement: the bytes that are replaced, and by what.
    """

    id: str
    path: str
    operator: str
    line: int
    before: str
    after: str
    span: Span
    replacement: str

    @property
    def room(self) -> str:
        """The package that the file lies in."""
        return self.path.split("/")[1]

    def applied(self, content: bytes) -> bytes:
        """The file with the change."""
        return content[: self.span[0]] + self.replacement.encode() + content[self.span[1] :]


def make(path: str, content: bytes, operator: str, span: Span, replacement: str, name: str | None = None) -> Mutant:
    """A mutant of a file's content; without a name it gets one from its place and change."""
    first = content.rfind(b"\n", 0, span[0]) + 1
    last = content.find(b"\n", span[1])
    last = len(content) if last < 0 else last
    line = content.count(b"\n", 0, span[0]) + 1
    after = content[first : span[0]] + replacement.encode() + content[span[1] : last]
    seal = hashlib.sha256(f"{path} {operator} {span} {replacement}".encode()).hexdigest()[:6]
    return Mutant(
        id=name or f"{path.removeprefix('jaxdd/').removesuffix('.py')}:{line}:{operator}:{seal}",
        path=path,
        operator=operator,
        line=line,
        before=content[first:last].decode(),
        after=after.decode(),
        span=span,
        replacement=replacement,
    )


class Module:
    """The syntax tree of a file, which knows parents and the bytes of each node."""

    def __init__(self, path: str, content: bytes):
        self.path, self.content, self.tree = path, content, ast.parse(content)
        self._starts = [0]
        for line in content.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    def span(self, node: ast.AST, last: ast.AST | None = None) -> Span:
        """The bytes of a node, or from a node to the end of another."""
        last = node if last is None else last
        # Columns of the syntax tree are bytes, not characters.
        begin = self._starts[node.lineno - 1] + node.col_offset
        return begin, self._starts[last.end_lineno - 1] + last.end_col_offset

    def text(self, node: ast.AST) -> str:
        begin, end = self.span(node)
        return self.content[begin:end].decode()

    def operand(self, node: ast.AST) -> str:
        """The text of an expression that can stand anywhere."""
        text = self.text(node)
        whole = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Constant, ast.Tuple, ast.List, ast.Dict)
        if isinstance(node, whole) and "\n" not in text and (not isinstance(node, ast.Tuple) or text.startswith("(")):
            return text
        return f"({text})"

    def parent(self, node: ast.AST) -> ast.AST | None:
        return self._parents.get(node)

    def ancestors(self, node: ast.AST) -> Iterator[ast.AST]:
        """From the parent outwards."""
        while (node := self._parents.get(node)) is not None:
            yield node

    def functions(self, node: ast.AST) -> Iterator[ast.FunctionDef | ast.Lambda]:
        """Those around a node, from the inside."""
        return (each for each in self.ancestors(node) if isinstance(each, ast.FunctionDef | ast.Lambda))

    @functools.cached_property
    def real_valued(self) -> frozenset[str]:
        """Names that this file annotates as floats."""
        found = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                name, annotation = node.target.id, node.annotation
            elif isinstance(node, ast.arg) and node.annotation is not None:
                name, annotation = node.arg, node.annotation
            else:
                continue
            if "float" in self.text(annotation):
                found.add(name)
        return frozenset(found)


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


def dotted(node: ast.AST | None) -> str:
    """`a.b.c` of names and attributes, else what is left of it after the last other thing: `c`, or nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else node.attr
    return ""


def called(node: ast.AST) -> str:
    """The last part of the name of the function that a node calls, or nothing."""
    return dotted(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""


def names(node: ast.AST) -> Iterator[str]:
    """All names and attributes in an expression."""
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            yield each.id
        elif isinstance(each, ast.Attribute):
            yield each.attr


def number(node: ast.AST) -> int | float | None:
    """The value of a literal number, with its sign."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = number(node.operand)
        return None if value is None else -value
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value
    return None
