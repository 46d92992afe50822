"""What the host starts when a compiled program runs on a GPU, as XLA dumps it: its thunks.

XLA records most kernels and library calls that follow each other into CUDA graphs ("command buffers"), each of which
the host starts at once.
"""

from __future__ import annotations

import pathlib
import re
from typing import NamedTuple

_LINE = re.compile(r"^( *)(\d+): k(\w+)")
_ANNOTATED = re.compile(r'profile_annotation: "([^"]+)"\s+(?:\w+: (?!\d)\S+\s+)*thunk_id: (\d+)')


class _Thunk(NamedTuple):
    indent: int
    number: int
    kind: str
    in_condition: bool


def host_launches(folder: pathlib.Path, trips: dict[str, int | None]) -> int | None:
    """How often the host starts something, a graph, a kernel, a library call or a copy, in one update; None if unsaid.

    An update is a trip of the outermost loop. A loop outside of graphs takes what is in it times its trips, and once
    where they are unknown; of a choice all branches count.

    Args:
      folder: of XLA's dump (`--xla_dump_to`), of one program.
      trips: of loops, by name, as the optimised program has them.
    """
    sequences = sorted(folder.glob("*jit_chunk*thunk_sequence_after_thunk_passes.txt"))
    if not sequences:
        return None
    told = sequences[-1].parent / sequences[-1].name.replace("thunk_sequence_after_thunk_passes", "thunk_metadata")
    names = {int(number): name for name, number in _ANNOTATED.findall(told.read_text())}
    thunks = _thunks(sequences[-1].read_text())
    loop = next((at for at, each in enumerate(thunks) if each.kind == "While"), None)
    if loop is None:
        return _count(thunks, 0, len(thunks), names, trips)
    return _count(thunks, loop + 1, _end(thunks, loop), names, trips)


def _thunks(text: str) -> list[_Thunk]:
    found, in_condition = [], False
    for line in text.splitlines():
        if line.strip() in ("condition:", "body:"):
            in_condition = line.strip() == "condition:"
        elif parts := _LINE.match(line):
            found.append(_Thunk(len(parts[1]), int(parts[2]), parts[3], in_condition))
    return found


def _end(thunks: list[_Thunk], at: int) -> int:
    """Behind what is inside of a thunk."""
    return next((k for k in range(at + 1, len(thunks)) if thunks[k].indent <= thunks[at].indent), len(thunks))


def _count(thunks: list[_Thunk], start: int, end: int, names: dict[int, str], trips: dict[str, int | None]) -> int:
    total, at = 0, start
    while at < end:
        after, kind = _end(thunks, at), thunks[at].kind
        if kind == "While":
            known = trips.get(names.get(thunks[at].number, ""))
            inside = _count(thunks, at + 1, after, names, trips)
            # Where the trips are known the host does not ask the condition.
            asked = sum(each.in_condition for each in thunks[at + 1 : after] if each.indent == thunks[at + 1].indent)
            total += (inside - asked) * known if known else inside
        elif kind in ("Conditional", "Sequential", "DynamicSliceFusion"):
            total += _count(thunks, at + 1, after, names, trips)
        else:
            total += 1
        at = after
    return total
