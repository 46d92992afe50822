"""What an optimised program, as the compiler prints it, does when it runs."""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\([^{]*\) -> .*)?\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\((.*)$")
_TYPE = re.compile(r"\b(pred|bf16|f8\w*|f16|f32|f64|[su]\d+)\[[\d,]*\]")
# What starts nothing on a device.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all",
    "partition-id", "replica-id", "opt-barrier", "domain", "add-dependency", "copy-done", "async-done", "async-update",
}  # fmt: skip


class Instruction(collections.namedtuple("Instruction", "name result kind rest")):
    """A line of a computation."""

    @property
    def called(self) -> list[str]:
        """The computations that it starts: of loops, branches and calls, not those that are fused into it."""
        one = re.findall(
            r"\b(?:body|condition|to_apply|calls|true_computation|false_computation)=%?([\w.\-]+)", self.rest
        )
        some = re.findall(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}", self.rest)
        return one + [each.strip().lstrip("%") for group in some for each in group.split(",")]

    @property
    def trips(self) -> int | None:
        """Of a loop, as often as the compiler knows."""
        found = re.search(r"known_trip_count\W+n\W+(\d+)", self.rest)
        return int(found[1]) if found else None

    @property
    def target(self) -> str | None:
        found = re.search(r'custom_call_target="([^"]+)"', self.rest)
        return found[1] if found else None

    @property
    def operands(self) -> list[str]:
        """The names of its arguments."""
        depth, end = 1, len(self.rest)
        for place, letter in enumerate(self.rest):
            depth += {"(": 1, ")": -1}.get(letter, 0)
            if depth == 0:
                end = place
                break
        return re.findall(r"%([\w.\-]+)", self.rest[:end])


def computations(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """The instructions of each computation, and the name of the first."""
    found: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        begun = _COMPUTATION.match(line)
        if begun:
            current = found.setdefault(begun[2], [])
            entry = begun[2] if begun[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (parts := _INSTRUCTION.match(line)):
            current.append(Instruction(*parts.groups()))
    return found, entry


def trips(text: str) -> dict[str, int | None]:
    """Of the loops of a program, by name: how often they go round, None where the compiler does not know."""
    found = (each for instructions in computations(text)[0].values() for each in instructions)
    return {each.name: each.trips for each in found if each.kind == "while"}


class Executed(NamedTuple):
    """An instruction of an update."""

    instruction: Instruction
    results: dict[str, str]
    """The types of what its computation has, by name."""
    times: int
    fused: bool
    """Whether it is part of another one."""


def executed(text: str) -> Iterator[Executed]:
    """What a program whose outermost loop goes from update to update executes in one of them, with all branches.

    Loops as often as they turn; once, and as instructions of their own, where the compiler does not know.
    """
    all_of_them, entry = computations(text)

    def inside(name: str, times: int, fused: bool) -> Iterator[Executed]:
        results = {each.name: each.result for each in all_of_them.get(name, [])}
        for each in all_of_them.get(name, []):
            endless = each.kind == "while" and each.trips is None
            if endless or not (each.kind in _FREE or each.kind.endswith("-done")):
                yield Executed(each, results, times, fused)
            within = fused or each.kind == "fusion"
            if each.kind in ("while", "call", "conditional", "async-start", "fusion"):
                for called in each.called:
                    yield from inside(called, times * (each.trips or 1), within)

    outermost = next((each for each in all_of_them[entry] if each.kind == "while"), None)
    for name in [entry] if outermost is None else outermost.called:
        yield from inside(name, 1, False)


def facts(text: str) -> dict[str, Any]:
    """Of an update.

    Returns:
      `launches`, `unknown_loops`, `library_calls`, `convolution_types`, `product_types`, `callbacks`, `float64`.
    """
    launches, unknown = 0, 0
    calls: collections.Counter[str] = collections.Counter()
    convolutions: collections.Counter[str] = collections.Counter()
    products: collections.Counter[str] = collections.Counter()
    for each, results, times, fused in executed(text):
        if each.kind == "while":
            unknown += 1
            continue
        launches += 0 if fused else times
        target = each.target or ""
        if target:
            calls[target] += times
        types = [_element(results.get(name, "")) for name in each.operands[:2]]
        said = f"{', '.join(types)} -> {_element(each.result)}"
        if each.kind == "convolution" or "conv" in target:
            convolutions[said] += times
        elif each.kind == "dot" or re.search(r"gemm|matmul|dot", target):
            products[said] += times
    return {
        "launches": launches,
        "unknown_loops": unknown,
        "library_calls": dict(calls.most_common()),
        "convolution_types": dict(convolutions.most_common()),
        "product_types": dict(products.most_common()),
        "callbacks": sum(count for name, count in calls.items() if "callback" in name),
        "float64": bool(re.search(r"\bf64\[", text)),
    }


def operations(text: str) -> float:
    """Of the products and convolutions of an update on one device, as a CPU's compiler leaves them."""
    total = 0.0
    for each, results, times, _ in executed(text):
        if each.kind not in ("dot", "convolution"):
            continue
        left, right = (_shape(results[name]) for name in each.operands[:2])
        if each.kind == "dot":
            found = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", each.rest)
            summed = math.prod(left[int(axis)] for axis in found[1].split(",") if axis) if found else 1
        else:
            labels = re.search(r"dim_labels=\w+_(\w+)->", each.rest)
            assert labels is not None  # every convolution has them
            summed = math.prod(size for size, label in zip(right, labels[1], strict=True) if label != "o")
        total += 2 * times * math.prod(_shape(each.result)) * summed
    return total


def _element(type_of: str) -> str:
    found = _TYPE.search(type_of)
    return found[1] if found else "?"


def _shape(type_of: str) -> tuple[int, ...]:
    found = re.search(r"\[([\d,]*)\]", type_of)
    assert found is not None  # of an array
    return tuple(int(size) for size in found[1].split(",") if size)
