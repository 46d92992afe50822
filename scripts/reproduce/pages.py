"""The pages of docs/results/, from the rows recorded there."""

from __future__ import annotations

import json
import statistics
import textwrap

from reproduce.running import ROOT, Result
from reproduce.tables import PAGES, TABLES

RESULTS = ROOT / "docs" / "results"


def markdown(page: str) -> str:
    """The page of all recorded rows of its tables."""
    titles = [title for title, on in PAGES.items() if on == page]
    parts = [f"# {page.replace('_', ' ') if titles != [page] else page}\n"]
    for title in titles:
        heading = f"## {title}\n\n" if titles != [page] else ""
        parts.append(heading + _markdown(title))
    return "\n".join(parts)


def _markdown(title: str) -> str:
    """A table with what is said of it."""
    table = TABLES[title]
    headings = ["row", "seeds", *(heading for heading, _, _ in table.shown()), "command"]
    lines = [
        textwrap.fill(table.about, 120),
        "",
        "| " + " | ".join(headings) + " |",
        "|---" * len(headings) + "|",
    ]
    for name in table.rows:
        if not (RESULTS / f"{name}.json").exists():
            continue
        row = json.loads((RESULTS / f"{name}.json").read_text())
        cells = [name, str(len(row["results"]))]
        cells += [shown(row["results"], key, kind) for _, key, kind in table.shown()]
        lines.append("| " + " | ".join([*cells, f"`{row['command']}`"]) + " |")
    return "\n".join([*lines, *(["", table.below] if table.below else [])]) + "\n"


def shown(results: list[Result], key: str, kind: str) -> str:
    """One cell of a table."""
    values = [result[key] for result in results if result.get(key) is not None]
    if not values:
        return "–"
    if kind == "course":
        return ", ".join(f"{100 * statistics.mean(each):.1f}" for each in zip(*values, strict=True))
    values = [100 * value for value in values] if kind == "%" else values
    mean = statistics.mean(values)
    if kind == "s" or (len(set(values)) == 1 and float(mean).is_integer()):
        return f"{mean:.0f}"
    text = "{:.1f}" if kind == "%" else "{:.3g}"
    return text.format(mean) + (" ± " + text.format(statistics.stdev(values)) if len(values) > 1 else "")
