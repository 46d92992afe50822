"""How well networks and kernels know each class, and what they take for what: as text, for pages and terminals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxdd.report.facts import percent

SQUARE = 12
"""Of more classes no square is drawn; those that are known worst are listed."""
WORST = 10
_TAKEN_FOR = 3


class Cell(NamedTuple):
    """Of a square: how many percent of a class were taken for one, "" for next to none."""

    text: str
    share: float
    strength: float
    """Of its colour, 0 to 1."""
    right: bool


class ClassRow(NamedTuple):
    """One class."""

    name: str
    accuracy: str
    images: str
    """Test images."""
    taken_for: str
    """What it is taken for most often, with percent."""
    cells: tuple[Cell, ...]
    """In the order of the columns; () where no square is drawn."""


class ByClass(NamedTuple):
    """What one way of predicting knows.

    Attributes:
      title: which way.
      columns: short heads of a square's columns; () where none is drawn.
      rows: all classes, or the worst ones, the worst first.
      note: a sentence about what is shown.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[ClassRow, ...]
    note: str


def by_class(rows: Sequence[Mapping[str, Any]]) -> list[ByClass]:
    """Of each comparison row that says so: its networks, its kernel."""
    found = []
    for row in rows:
        told = row.get("by_class") or {}
        networks, model = row.get("networks"), row.get("model")
        titles = {
            "networks": f"networks ({networks} × {model})" if networks and model else "networks",
            "kernel": "kernel regression",
        }
        found += [_of(told, told[how], title) for how, title in titles.items() if how in told]
    return found


def _of(told: Mapping[str, Any], measured: Mapping[str, Any], title: str) -> ByClass:
    names, images = list(told["class_names"]), list(told["test_images"])
    accuracy = measured["accuracy"]
    classes = len(accuracy)
    names += [str(number) for number in range(len(names), classes)]
    images += [0] * (classes - len(images))
    shares = _shares(measured)
    known = [number for number in range(classes) if accuracy[number] is not None]
    square = classes <= SQUARE and "confusion" in measured
    short = all(len(name) <= 3 for name in names)

    def row(number: int) -> ClassRow:
        name = names[number] if short or not square else f"{number} {names[number]}"
        of_class = shares.get(number, {})
        wrong = sorted((key for key in of_class if key != number), key=lambda key: (-of_class[key], key))
        said = [f"{names[key]} ({_whole(of_class[key])})" for key in wrong[:_TAKEN_FOR] if _told(of_class[key])]
        cells = tuple(_cell(of_class.get(key, 0.0), key == number) for key in range(classes)) if square else ()
        return ClassRow(name, percent(accuracy[number]), f"{images[number]:,}", ", ".join(said), cells)

    if square:
        note = "Rows are what test images are, columns what they are taken for, in percent of the row."
        columns = tuple(names if short else map(str, range(classes)))
        return ByClass(title, columns, tuple(map(row, known)), note)
    worst = sorted(known, key=lambda number: accuracy[number])[:WORST]
    middle = sorted(accuracy[number] for number in known)[len(known) // 2]
    note = f"The {len(worst)} classes that are known worst, of {len(known)}; half of all are above {percent(middle)}."
    return ByClass(title, (), tuple(map(row, worst)), note)


def _shares(measured: Mapping[str, Any]) -> dict[int, dict[int, float]]:
    """Of the images of a class, the shares that are taken for others, as far as they are told."""
    if "confusion" in measured:
        rows = enumerate(measured["confusion"])
        return {i: {j: count / sum(row) for j, count in enumerate(row) if count} for i, row in rows if sum(row)}
    shares: dict[int, dict[int, float]] = {}
    for true, taken, share in measured.get("confused", ()):
        shares.setdefault(true, {})[taken] = share
    return shares


def _cell(share: float, right: bool) -> Cell:
    """Colours of what is wrong go by the square root: it is seldom much, and that is what one looks for."""
    strength = share if right else math.sqrt(share)
    return Cell(f"{100 * share:.0f}" if _told(share) else "", share, round(strength, 3), right)


def _told(share: float) -> bool:
    """Whether it is a percent, rounded."""
    return round(100 * share) >= 1


def _whole(share: float) -> str:
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"
