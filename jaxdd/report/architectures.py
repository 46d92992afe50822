"""Sets beside each other, each measured by several models: the matrix of `workflows.architectures`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxdd.report.facts import Comparison, percent

_MEASURES = {"accuracy": "Test accuracy", "probe": "Test accuracy of linear probes"}


def matrix(architectures: Mapping[str, Any] | None) -> Comparison:
    """A row for each set, a column for each model; no columns where there is no matrix."""
    if not architectures:
        return Comparison([], [], [], [])
    columns, rows = architectures["columns"], architectures["rows"]
    return Comparison(
        columns=["training set", *headings(columns)],
        numeric=[False, *(True for _ in columns)],
        cells=[[row["name"], *(percent(cell["mean"], cell["std"]) for cell in row["cells"])] for row in rows],
        ours=[row["name"] == "distilled" for row in rows],
    )


def headings(columns: Sequence[Mapping[str, Any]]) -> list[str]:
    """The models, and of the columns' protocols, networks and data what is not the same in all."""
    parts = {
        "protocol": lambda column: column["protocol"],
        "networks": lambda column: f"{column['networks']} networks",
        "data": lambda column: f"on {column['data']}",
        "learning_rate": lambda column: _rate(column.get("learning_rate")),
        "fine_tuning": lambda column: column.get("fine_tuning") or "",
        "labels_per_class": lambda column: _few(column.get("labels_per_class")),
    }
    differing = [name for name in parts if len({str(column.get(name)) for column in columns}) > 1]
    found = []
    for column in columns:
        said = [parts[name](column) for name in differing]
        found.append(", ".join([column["model"], *(text for text in said if text)]))
    return found


def notes(architectures: Mapping[str, Any] | None) -> list[str]:
    """What the figures are, and what could not be measured, in sentences."""
    if not architectures or not architectures["columns"]:
        return []
    columns, first = architectures["columns"], architectures["columns"][0]
    several = any(column["networks"] > 1 for column in columns)
    text = f"{_MEASURES[first['measure']]} of fresh networks of each kind"
    text += ", mean ± std over networks" if several else ""
    for name, said in (("protocol", "protocol {!r}"), ("networks", "{} of each"), ("data", "on {}")):
        if len({column[name] for column in columns}) == 1:
            text += f"; {said.format(first[name])}"
    found = [f"{text}. Nothing was selected on test data."]
    for row in architectures["rows"]:
        told: dict[str, list[str]] = {}
        for name, cell in zip(headings(columns), row["cells"], strict=True):
            if cell["note"]:
                told.setdefault(cell["note"], []).append(name)
        for note, names in told.items():
            of = "" if len(names) == len(columns) else f" ({'; '.join(names)})"
            found.append(f"{row['name']}{of}: {note}.")
    return found


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"rate {rate:g}"


def _few(count: int | None) -> str:
    return "" if count is None else f"{count} labels a class"
