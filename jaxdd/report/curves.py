"""Loss and accuracy over the steps of a run, as SVG that takes the colours of the page it stands in."""

from __future__ import annotations

import io
import math
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

# matplotlib knows no CSS: these stand-ins are replaced in the SVG by the page's colours.
_INK, _MUTED, _LINE, _FIRST, _SECOND = "#010203", "#010204", "#010205", "#010206", "#010207"
_CSS = {
    _INK: "currentColor",
    _MUTED: "var(--muted, #59636e)",
    _LINE: "var(--line, #d1d9e0)",
    _FIRST: "var(--first, #0969da)",
    _SECOND: "var(--second, #bc4c00)",
}
_DRAWING = threading.Lock()  # matplotlib is for one thread
_SPLITS = {"train": "training", "validation": "validation"}

Curve = tuple[str, list[int], list[float]]


def curves_svg(history: Sequence[Mapping[str, Any]]) -> str | None:
    """The loss and the accuracies of a run, one `<svg>` element each, to stand in an HTML page as they are.

    Args:
      history: rows of `metrics.jsonl`: `{"step", "split": "train" | "validation", name: value, ..}`. "loss" and every
        name with "accuracy" in it are drawn.

    Returns:
      The elements one after the other, "" if there is nothing to draw, None where matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return None
    names = list(dict.fromkeys(name for row in history for name in row))
    losses = _curves(history, [name for name in names if name == "loss"])
    accuracies = _curves(history, [name for name in names if "accuracy" in name])
    with _DRAWING:
        panels = [_panel("loss", losses, unit=1)] if losses else []
        whose = f", {accuracies[0][0].partition(':')[0]} data" if len(accuracies) == 1 else ""  # more have a legend
        panels += [_panel(f"accuracy (%){whose}", accuracies, unit=100)] if accuracies else []
    return "\n".join(panels)


def _curves(history: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Curve]:
    """Label, steps and finite values of each metric in each split."""
    curves = []
    for split, title in _SPLITS.items():
        for name in names:
            points = [(row["step"], row[name]) for row in history if row.get("split") == split and name in row]
            points = [(step, float(value)) for step, value in points if math.isfinite(value)]
            if points:
                steps, values = zip(*points, strict=True)
                text = title if name == "loss" else f"{title}: {name.replace('_', ' ')}"
                curves.append((text, list(steps), list(values)))
    return curves


def _panel(title: str, curves: Sequence[Curve], *, unit: float) -> str:
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    # Text stays text, in the page's font; a fixed salt makes equal curves equal bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 9}):
        figure = Figure(figsize=(4.6, 2.9), layout="constrained")
        axes = figure.add_subplot()
        styles = zip((_FIRST, _SECOND, _INK, _MUTED) * len(curves), curves, strict=False)
        for color, (label, steps, values) in styles:
            marker = "o" if len(steps) <= 20 else None
            scaled = [unit * value for value in values]
            label = label.replace("$", r"\$")
            axes.plot(steps, scaled, color=color, linewidth=1.6, marker=marker, markersize=3, label=label)
        lows, highs = zip(*((min(values), max(values)) for _, _, values in curves), strict=True)
        if unit == 1 and min(lows) > 0 and max(highs) > 10 * min(lows):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=9))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlabel("step", color=_MUTED)
        axes.set_title(title, color=_INK, loc="left", fontsize=10)
        axes.grid(axis="y", color=_LINE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(which="both", length=0, colors=_MUTED)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(_LINE)
        if len(curves) > 1:
            axes.legend(frameon=False, labelcolor=_INK, fontsize=8)
        figure.patch.set_visible(False)
        axes.patch.set_visible(False)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' id="[a-z\d.]+_\d+"', "", svg)  # names of groups; two panels in one page would repeat them
    for stand_in, color in _CSS.items():
        svg = svg.replace(stand_in, color)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{title} over steps" ', 1)
