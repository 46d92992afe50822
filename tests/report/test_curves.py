"""Curves show the logged numbers, and are optional."""

import re
import sys

import pytest

from jaxdd.report import curves_svg


def history(losses, accuracies=()):
    rows = [{"step": 10 * k, "split": "train", "loss": v, "batch_accuracy": 0.5} for k, v in enumerate(losses)]
    return rows + [{"step": 10 * k, "split": "validation", "kernel_accuracy": v} for k, v in enumerate(accuracies)]


def test_two_panels_with_labelled_axes():
    svg = curves_svg(history([3.0, 2.0, 1.5], [0.4, 0.6]))
    assert svg.count("<svg ") == svg.count("</svg>") == 2
    for text in ("loss", "accuracy (%)", "step", "validation: kernel accuracy", "training: batch accuracy"):
        assert f">{text}</text>" in svg


def test_equal_curves_are_equal_bytes_and_ids_are_unique():
    rows = history([3.0, 2.0, 1.5], [0.4, 0.6])
    assert curves_svg(rows) == curves_svg(rows)
    panels = [re.findall(r' id="([^"]+)"', panel) for panel in curves_svg(rows).split("</svg>")]
    ids = [name for panel in panels for name in panel]
    assert len(ids) == len(set(ids)) > 0


def ticks(svg):
    return [float(text.replace(",", "")) for text in re.findall(r">([\d.,]+)</text>", svg)]


def test_loss_over_a_decade_is_on_a_log_scale():
    steep = ticks(curves_svg([{"step": k, "split": "train", "loss": 10.0**-k} for k in range(3)]))
    assert {0.01, 0.1, 1.0} <= set(steep)
    flat = ticks(curves_svg([{"step": k, "split": "train", "loss": 1.0 - 0.1 * k} for k in range(3)]))
    assert max(flat) <= 2 and 0.01 not in flat


def test_a_loss_of_zero_or_nan_is_drawn_without_a_complaint():
    svg = curves_svg(history([1.0, 0.0, float("nan"), float("inf"), 1e-9]))
    assert "<svg " in svg and "nan" not in svg.lower()


def test_names_are_text_and_not_markup():
    svg = curves_svg([{"step": 1, "split": "train", "accuracy $x^{<script>$ &": 0.5, "accuracy": 0.4}])
    assert "<script>" not in svg and "$x^{&lt;script&gt;$ &amp;</text>" in svg


def test_the_page_gives_the_colours():
    svg = curves_svg(history([1.0, 2.0]))
    assert "currentColor" in svg and "var(--first" in svg and "#0102" not in svg


@pytest.mark.parametrize("rows", [[], [{"step": 1, "split": "train", "other": 1.0}]])
def test_nothing_to_draw(rows):
    assert curves_svg(rows) == ""


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert curves_svg(history([1.0])) is None


def test_pyplot_is_left_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    assert curves_svg(history([1.0, 0.5]))
