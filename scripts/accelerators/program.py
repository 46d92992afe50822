"""What an optimised program, as the compiler prints it, does when it runs."""

from __future__ import annotations

import collections
import re
from typing import Any

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


def facts(text: str) -> dict[str, Any]:
    """Of a program whose outermost loop goes from update to update: of one of them, with all branches.

    Returns:
      `launches`, `unknown_loops`, `library_calls`, `convolution_types`, `product_types`, `callbacks`, `float64`.
    """
    all_of_them, entry = computations(text)
    launches, unknown = 0, 0
    calls: collections.Counter[str] = collections.Counter()
    convolutions: collections.Counter[str] = collections.Counter()
    products: collections.Counter[str] = collections.Counter()

    def element(type_of: str) -> str:
        found = _TYPE.search(type_of)
        return found[1] if found else "?"

    def types(instruction: Instruction, results: dict[str, str]) -> str:
        operands = [element(results.get(name, "")) for name in instruction.operands[:2]]
        return f"{', '.join(operands)} -> {element(instruction.result)}"

    def inside(name: str, times: int) -> None:
        """Products and convolutions that are fused into something."""
        results = {each.name: each.result for each in all_of_them.get(name, [])}
        for each in all_of_them.get(name, []):
            if each.kind in ("convolution", "dot"):
                (convolutions if each.kind == "convolution" else products)[types(each, results)] += times
            elif each.kind == "fusion":
                for called in each.called:
                    inside(called, times)

    def walk(name: str, times: int) -> None:
        nonlocal launches, unknown
        results = {each.name: each.result for each in all_of_them.get(name, [])}
        for each in all_of_them.get(name, []):
            if each.kind == "while":
                trips = each.trips
                unknown += trips is None
                for called in each.called:
                    walk(called, times * (trips or 1))
                continue
            if each.kind in ("call", "conditional", "async-start"):
                for called in each.called:
                    walk(called, times)
                continue
            if each.kind in _FREE or each.kind.endswith("-done"):
                continue
            launches += times
            target = each.target
            if target is not None:
                calls[target] += times
                if "conv" in target:
                    convolutions[types(each, results)] += times
                elif re.search(r"gemm|matmul|dot", target):
                    products[types(each, results)] += times
            elif each.kind in ("convolution", "dot"):
                (convolutions if each.kind == "convolution" else products)[types(each, results)] += times
            elif each.kind == "fusion":
                for called in each.called:
                    inside(called, times)

    outermost = next((each for each in all_of_them[entry] if each.kind == "while"), None)
    for name in [entry] if outermost is None else outermost.called:
        walk(name, 1)
    return {
        "launches": launches,
        "unknown_loops": unknown,
        "library_calls": dict(calls.most_common()),
        "convolution_types": dict(convolutions.most_common()),
        "product_types": dict(products.most_common()),
        "callbacks": sum(count for name, count in calls.items() if "callback" in name),
        "float64": bool(re.search(r"\bf64\[", text)),
    }
