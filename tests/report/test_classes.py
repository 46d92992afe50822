"""What is said of classes: a square of few, the worst of many."""

import json

import numpy as np
import pytest
from rich.console import Console

from jaxdd.evaluation import Confusion
from jaxdd.report import classes_table
from jaxdd.report.classes import SQUARE, WORST, by_class

MODEL = {"networks": 2, "model": "mlp"}


def told(classes, rng, names=None, kernel=False):
    """A row as a run writes it: every class is the harder the larger its number is."""
    labels = np.repeat(np.arange(classes), 40)
    right = rng.uniform(size=(2, len(labels))) > 0.6 * labels / classes
    found = Confusion.of(labels, np.where(right, labels, (labels + 1) % classes), classes)
    names = names or [str(k) for k in range(classes)]
    about = {"class_names": names, "test_images": found.test_images.tolist(), "networks": found.as_dict()}
    about |= {"kernel": found.as_dict()} if kernel else {}
    return {"name": "distilled", **MODEL, "by_class": json.loads(json.dumps(about))}, found


def test_of_few_classes_a_square_says_all(rng):
    row, found = told(4, rng)
    (known,) = by_class([row, {"name": "herding"}])
    shares = found.matrix / found.matrix.sum(1, keepdims=True)
    assert known.title == "networks (2 × mlp)" and known.columns == ("0", "1", "2", "3")
    np.testing.assert_allclose([[cell.share for cell in row.cells] for row in known.rows], shares)
    for i, row in enumerate(known.rows):
        assert [cell.right for cell in row.cells] == [i == j for j in range(4)]
        assert row.accuracy.startswith(f"{100 * shares[i, i]:.1f}") and row.images == "40"
        assert [cell.text for cell in row.cells] == [f"{100 * s:.0f}" if 100 * s > 0.5 else "" for s in shares[i]]
    assert known.rows[3].taken_for == f"0 ({100 * shares[3, 0]:.0f}\xa0%)" and known.rows[0].taken_for == ""


def test_long_names_are_numbered(rng):
    (known,) = by_class([told(2, rng, ["Trouser", "Bag"])[0]])
    assert known.columns == ("0", "1") and [row.name for row in known.rows] == ["0 Trouser", "1 Bag"]


@pytest.mark.parametrize("classes", [SQUARE + 1, 120])
def test_of_many_classes_the_worst_are_listed(classes, rng):
    """Also where there are so many that not every confusion is told."""
    row, found = told(classes, rng)
    (known,) = by_class([row])
    assert known.columns == () and len(known.rows) == WORST and not any(row.cells for row in known.rows)
    shown = [float(row.accuracy.split("\xa0")[0]) for row in known.rows]
    np.testing.assert_allclose(shown, np.sort(100 * found.accuracy)[:WORST], atol=0.051)
    for row in known.rows:
        if row.taken_for:  # all mistakes of this toy
            name, share = row.taken_for.rstrip("\xa0%)").split(" (")
            assert int(name) == (int(row.name) + 1) % classes
            assert float(share) == pytest.approx(100 - 100 * found.accuracy[int(row.name)], abs=0.51)
    assert any(row.taken_for for row in known.rows)
    assert f"{WORST} classes that are known worst, of {classes}" in known.note


def test_a_class_without_test_images_is_left_out():
    confusion = Confusion.of([0, 2], [[0, 0]], 3).as_dict()
    about = {"class_names": ["0", "1", "2"], "test_images": [1, 0, 1], "kernel": confusion}
    (known,) = by_class([{"by_class": about}])
    assert [row.name for row in known.rows] == ["0", "2"] and known.title == "kernel regression"


def test_the_terminal_says_the_same(rng):
    row, _ = told(3, rng, ["[red]a[/red]", "b", "c"], kernel=True)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(classes_table([row]))
    said = capture.get()
    assert "By class, networks (2 × mlp)" in said and "By class, kernel regression" in said
    assert "[red]a[/red]" in said  # a name, not markup
    for known in by_class([row]):
        assert all(line.accuracy.replace("\xa0", " ") in said.replace("\xa0", " ") for line in known.rows)
