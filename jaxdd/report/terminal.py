"""Tables for the command line."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxdd.report import tables
from jaxdd.report.classes import by_class
from jaxdd.report.facts import about_set, comparison, flattened, provenance
from jaxdd.synthetic import DistilledDataset

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table


def comparison_table(rows: Sequence[Mapping[str, Any]], title: str) -> tables.TerminalTable:
    """The distilled set beside its baselines; `rows` as `write_report` takes them."""
    return tables.terminal(comparison(rows), title)


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
    """What `jaxdd stages` prints, of what the cache holds."""
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
        where = "/".join(entry.directory.parts[-2:])
        table.add_row(*map(Text, (entry.name, size, used, "" if entry.whole else "not done", where)))
    return table
