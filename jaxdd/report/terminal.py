"""Tables for the command line."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxdd.report.classes import by_class
from jaxdd.report.facts import Comparison, about_set, comparison, flattened, provenance
from jaxdd.synthetic import DistilledDataset

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group, RenderableType
    from rich.table import Table


def comparison_table(rows: Sequence[Mapping[str, Any]], title: str) -> ComparisonTable:
    """The distilled set beside its baselines; `rows` as `write_report` takes them."""
    return ComparisonTable(comparison(rows), title)


@dataclasses.dataclass(frozen=True)
class ComparisonTable:
    """A comparison that rich prints at any width: what a narrow terminal has no room for stands beneath, in words."""

    content: Comparison
    title: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        shown = self._fitting(options.max_width)
        table = Table(title=Text(self.title), box=box.SIMPLE_HEAD, title_justify="left")
        for column in shown:
            numeric = self.content.numeric[column]
            table.add_column(self.content.columns[column], justify="right" if numeric else "left", overflow="fold")
        for cells, ours in zip(self.content.cells, self.content.ours, strict=True):
            # Text, not markup: a name in square brackets is a name.
            table.add_row(*(Text(cells[column]) for column in shown), style="bold" if ours else None)
        yield table
        if beneath := [
            line
            for column in range(len(self.content.columns))
            if column not in shown
            for line in self._in_words(column)
        ]:
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
        return max(len(text) for text in (*cells, *self.content.columns[column].split()))

    def _in_words(self, column: int) -> Iterator[str]:
        """A column as lines: a line for each value, and for whom it holds if that is not everyone."""
        named = [(cells[0], cells[column]) for cells in self.content.cells if cells[column]]
        for value in dict.fromkeys(value for _, value in named):
            of = [name for name, its in named if its == value]
            whom = "" if len(of) == len(self.content.cells) else f" of {', '.join(of)}"
            yield f"{self.content.columns[column]}{whom}: {value}"


_BENEATH = ("note", "trained", "labels", "bits", "images", "on")  # what leaves a narrow table, in this order


def classes_table(rows: Sequence[Mapping[str, Any]]) -> Group:
    """What `jaxdd evaluate` prints of classes: of each way of predicting a table, of all or of the worst ones."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    tables = []
    for known in by_class(rows):
        table = Table(title=Text(f"By class, {known.title}"), box=box.SIMPLE_HEAD, title_justify="left")
        for name, justify in (("class", "left"), ("accuracy", "right"), ("taken for", "left")):
            table.add_column(name, justify=justify, overflow="fold")  # pyright: ignore[reportArgumentType]
        for row in known.rows:
            table.add_row(*map(Text, (row.name, row.accuracy, row.taken_for)))
        tables.append(table)
    return Group(*tables)


def describe(dataset: DistilledDataset) -> Group:
    """What `jaxdd show` prints: the set, the tensors it stores, where it comes from, and its configuration."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    stored = dataset.tensors.items()
    tensors = [(name, f"{leaf.dtype} ({', '.join(map(str, leaf.shape))})") for name, leaf in stored]
    sections = {
        "Distilled set": about_set(dataset),
        "Tensors": tensors,
        "Provenance": provenance(dataset),
        "Configuration": flattened(dataset.header.get("config") or {}),
    }
    tables = []
    for title, rows in sections.items():
        if not rows:
            continue
        table = Table(title=Text(title), title_justify="left", box=box.SIMPLE, show_header=False, pad_edge=False)
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(Text(name), Text(value))
        tables.append(table)
    return Group(*tables)


def stages_table(entries: Sequence[Any], title: str) -> Table:
    """What `jaxdd stages` prints, of `engine.cache.entries()`."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), box=box.SIMPLE_HEAD, title_justify="left")
    for name, justify in (
        ("stage", "left"),
        ("size", "right"),
        ("last used", "left"),
        ("", "left"),
        ("folder", "left"),
    ):
        table.add_column(name, justify=justify, overflow="fold")  # pyright: ignore[reportArgumentType]
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        size = f"{entry.num_bytes / 2**20:,.1f} MiB"
        table.add_row(*map(Text, (entry.name, size, used, "" if entry.whole else "not done", entry.directory.name)))
    return table
