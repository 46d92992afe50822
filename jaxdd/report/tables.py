"""Tables as text: for a terminal, as Markdown, as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxdd.report.facts import Comparison

if TYPE_CHECKING:
    from rich.table import Table

_WORD = 16  # letters of a heading's word that are not folded


def terminal(content: Comparison, title: str = "") -> Table:
    """What rich prints; rows of ours are bold."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, box=box.SIMPLE_HEAD, title_justify="left")
    for name, numeric in zip(content.columns, content.numeric, strict=True):
        word = min(_WORD, max(map(len, name.split()), default=1))
        table.add_column(Text(name), justify="right" if numeric else "left", overflow="fold", min_width=word)
    for cells, ours in zip(content.cells, content.ours, strict=True):
        # Text, not markup: a name in square brackets is a name.
        table.add_row(*map(Text, cells), style="bold" if ours else None)
    return table


def markdown(content: Comparison) -> str:
    """A table of GitHub's Markdown; rows of ours are bold."""
    lines = [content.columns, ["--:" if numeric else ":--" for numeric in content.numeric]]
    for cells, ours in zip(content.cells, content.ours, strict=True):
        mark = "**" if ours else ""
        lines.append([f"{mark}{escaped(cell)}{mark}" if cell else "–" for cell in cells])
    lines[0] = [escaped(name) for name in content.columns]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def escaped(text: str) -> str:
    """Foreign text as it is in Markdown: no markup, one line, no end of a table's cell."""
    return re.sub(r"([\\`*_{}\[\]<>#|$~])", r"\\\1", " ".join(text.split()))


def comma_separated(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """CSV with a line of names; what a row lacks is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if row.get(name) is None else row[name] for name in columns])
    return text.getvalue()
