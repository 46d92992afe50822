"""Tables as text: for a terminal, as Markdown, as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxdd.report.facts import Comparison

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType


def terminal(content: Comparison, title: str = "") -> TerminalTable:
    """What rich prints; rows of ours are bold."""
    return TerminalTable(content, title)


@dataclasses.dataclass(frozen=True)
class TerminalTable:
    """A table that rich prints at any width: what a narrow terminal has no room for stands beneath, in words."""

    content: Comparison
    title: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        shown = self._fitting(options.max_width)
        table = Table(title=Text(self.title) if self.title else None, box=box.SIMPLE_HEAD, title_justify="left")
        for column in shown:
            name, justify = self.content.columns[column], "right" if self.content.numeric[column] else "left"
            word = min(_WORD, max(map(len, name.split()), default=1))
            table.add_column(Text(name), justify=justify, overflow="fold", min_width=word)
        for cells, ours in zip(self.content.cells, self.content.ours, strict=True):
            # Text, not markup: a name in square brackets is a name.
            table.add_row(*(Text(cells[column]) for column in shown), style="bold" if ours else None)
        yield table
        rest = [column for column in range(len(self.content.columns)) if column not in shown]
        if beneath := [line for column in rest for line in self._in_words(column)]:
            yield Text("\n".join(beneath) + "\n")

    def _fitting(self, width: int) -> list[int]:
        """The columns that a table of so many characters has room for, by their numbers."""
        names = self.content.columns
        shown = list(range(len(names)))
        for name in _BENEATH:
            if sum(3 + self._least(column) for column in shown) <= width:
                break
            if name in names:
                shown.remove(names.index(name))
        return shown

    def _least(self, column: int) -> int:
        """Characters of a column in which no cell is folded; a heading is, between its words."""
        cells = [cells[column] for cells in self.content.cells]
        return max((len(text) for text in (*cells, *self.content.columns[column].split())), default=0)

    def _in_words(self, column: int) -> Iterator[str]:
        """A column as lines: a line for each value, and for whom it holds if that is not everyone."""
        named = [(cells[0], cells[column]) for cells in self.content.cells if cells[column]]
        for value in dict.fromkeys(value for _, value in named):
            of = [name for name, its in named if its == value]
            whom = "" if len(of) == len(self.content.cells) else f" of {', '.join(of)}"
            yield f"{self.content.columns[column]}{whom}: {value}"


_WORD = 16  # letters of a heading's word that are not folded
_BENEATH = ("note", "trained", "labels", "bits", "images", "on")  # what leaves a narrow table, in this order


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
