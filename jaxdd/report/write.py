"""`report.html`, `images.png` and the data card `README.md` of a distilled set."""

from __future__ import annotations

import io
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdd._files import expanded, write_atomically
from jaxdd.report.architectures import matrix, notes
from jaxdd.report.classes import by_class
from jaxdd.report.curves import curves_svg
from jaxdd.report.embedded import Growth, class_pictures, growth_pictures, pictures_note
from jaxdd.report.facts import (
    about_set,
    class_names,
    comparison,
    duration,
    flattened,
    hard_labels,
    has_no_classes,
    one_line,
    percent,
    provenance,
    ran_on,
    selection,
    source,
    storage,
    versions,
)
from jaxdd.report.pictures import enlargement, grid_image
from jaxdd.report.rendering import render
from jaxdd.report.scripts import training_scripts
from jaxdd.synthetic import DistilledDataset
from jaxdd.types import Examples

# What the report says elsewhere: in its sentence, its table, or as what was selected.
_SHOWN_ELSEWHERE = (
    "data",
    "ipc",
    "method",
    "num_images",
    "num_bits",
    "full_bits",
    "best_step",
    "best_validation_by",
    "notes",
)
# What is written here.
FILES = ("images.png", "report.html", "README.md", "load.py", "train_torch.py")
# What a report links to, where it is there.
_LINKS = {
    "distilled.safetensors": "the set: images, labels, transform and where they come from",
    "selection.safetensors": "which of the real examples these are, with weights and scores",
    "best_on_validation.safetensors": "the iterate that was best on validation data",
    "train_torch.py": "trains networks on the set in PyTorch and tests them",
    "load.py": "loads the set with NumPy and safetensors alone",
    "results.json": "every figure, with the configuration, seed, machine and versions",
    "metrics.jsonl": "loss and scores by step",
    "snapshots.safetensors": "a few images of the set on the way",
    "images.png": "the images by class",
    "README.md": "the data card",
}
_SCORES = re.compile(r"accuracy|_(mean|std)$")
_SECONDS = re.compile(r"(^|_)seconds$")


def write_report(
    directory: str | os.PathLike,
    dataset: DistilledDataset,
    *,
    history: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    result: Mapping[str, Any],
    record: Mapping[str, Any],
    real: Examples | None = None,
    growth: Growth | None = None,
    architectures: Mapping[str, Any] | None = None,
) -> list[pathlib.Path]:
    """Write `report.html`, `images.png`, the data card `README.md`, and the programs `load.py` and `train_torch.py`.

    The report is one file that loads nothing, and says only what it is told: absent header keys, columns and results
    are left out.

    Args:
      directory: is made if it is not there; the card takes the set to be `distilled.safetensors` in it.
      history: rows of `metrics.jsonl`, see `curves_svg`.
      rows: the comparison, one dict for the set (named "distilled") and each baseline, of `name`, `num_images`,
        `label_regime`, `bits`, `kernel_accuracy`, `accuracy_mean`, `accuracy_std` (fractions), `networks`, `model`,
        `protocol`, `learning_rate`, `note`, `shown` (in place of the name); of pretrained networks `data`,
        `probe_mean`, `probe_std`, `fine_tuned_mean`, `fine_tuned_std`; and `by_class`: `class_names`, `test_images`
        and, for "networks" and "kernel", what `evaluation.Confusion.as_dict` says. Each may be absent or None.
      result: flat and JSON-able: `steps`, `seconds`, `devices`, `full_bits`, `best_step`, ...
      record: where the figures come from: `command`, `date` (ISO 8601), `hardware` (`devices`, `processor`, ..), each
        of which may be absent.
      real: a few real images of each class in pixel space, to stand beside the distilled ones.
      growth: what a few images of the set were on the way.
      architectures: what networks of several kinds made of the set, see `workflows.architectures`.

    Returns:
      The paths of `FILES`.

    Raises:
      JaxddError: if a file cannot be written.
    """
    directory = expanded(directory)
    content = _content(dataset, history=history, rows=rows, result=result, record=record)
    content["files"] = [(name, what) for name, what in _LINKS.items() if name in FILES or (directory / name).exists()]
    content |= {
        "classes": class_pictures(dataset, real),
        "pictures_note": pictures_note(dataset, real),
        "growth": growth_pictures(dataset, growth),
        "other_architectures": matrix(architectures),
        "about_architectures": notes(architectures),
    }
    png = io.BytesIO()
    grid_image(dataset).save(png, format="PNG", optimize=True)
    files = {
        "images.png": png.getvalue(),
        **training_scripts(dataset, rows),
        "report.html": render("report.html", content),
        "README.md": render("card.md", content),
    }
    for name in FILES:
        write_atomically(directory / name, files[name])
    return [directory / name for name in FILES]


def _content(
    dataset: DistilledDataset,
    *,
    history: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    result: Mapping[str, Any],
    record: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything the templates say."""
    header, data = dataset.header, source(dataset)
    license = str(data.get("license") or "unknown")
    count = len(dataset.images)
    return {
        "title": f"{data['name']} in {_counted(count, 'image')}" if data.get("name") else _counted(count, "image"),
        "summary": summary(dataset, rows),
        "image_width": enlargement(dataset) * dataset.images.shape[2],
        "curves": curves_svg(history),
        "table": comparison(rows),
        "by_class": by_class(rows),
        "selection": selection(dataset, rows, result),
        "bits": _bits(header.get("num_bits"), result.get("full_bits")),
        "about": about_set(dataset),
        "provenance": provenance(dataset),
        "run": _run(result, rows) + ran_on(record),
        "config": flattened(header.get("config") or {}),
        "versions": versions(),
        "command": record.get("command"),
        "license": license,
        "license_id": license_id(license),
        "source_name": data.get("name"),
        "convention": header.get("label_convention"),
        "dtype": str(dataset.images.dtype),
        "transformed": dataset.transform.name != "none",
        "size_category": "n<1K" if count < 1000 else "1K<n<10K" if count < 10_000 else "10K<n<100K",
    }


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def summary(dataset: DistilledDataset, rows: Sequence[Mapping[str, Any]]) -> str:
    """The whole report in a sentence or two."""
    name, method = source(dataset).get("name"), dataset.header.get("method")
    count = len(dataset.images)
    counts = np.bincount(hard_labels(dataset), minlength=len(class_names(dataset)))
    # Learned labels may make another class the largest.
    average = "" if np.all(counts == counts[0]) else " on average"
    text = _counted(count, "real image" if dataset.selected else "synthetic image")
    text += "" if has_no_classes(dataset) else f" ({counts.mean():.3g} per class{average})"
    text += f" that stand in for the training set of {name}" if name else ""
    text += f", {'chosen by' if dataset.selected else 'distilled with'} {method}" if method else ""
    row = next((row for row in rows if row.get("name") == "distilled"), {})
    kernel, networks = percent(row.get("kernel_accuracy")), percent(row.get("accuracy_mean"), row.get("accuracy_std"))
    findings = [f"kernel ridge regression on them reaches {kernel}"] if kernel else []
    if networks:
        of = f" ({row['networks']} × {row['model']})" if row.get("networks") and row.get("model") else ""
        findings.append(f"{'networks' if kernel else 'fresh networks'} trained on them{of} reach {networks}")
    return f"{text}: {' and '.join(findings)} on test data." if findings else f"{text}."


def _bits(bits: int | None, full: int | None) -> str:
    """What the set costs to store, against all training data."""
    if not bits:
        return ""
    text = f"The set takes {storage(bits)}"
    if not full:
        return f"{text}."
    ratio = full / bits
    return f"{text}, the full training set {storage(full)}: {ratio:,.{0 if ratio >= 10 else 1}f} times as much."


def _run(result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What is known of the run and not said elsewhere."""
    in_table = {key for row in rows for key in row}
    shown = []
    for key, value in result.items():
        if value is None or key in _SHOWN_ELSEWHERE or key in in_table or _SCORES.search(key):
            continue
        if key == "resumed_from" and not value:
            continue
        if _SECONDS.search(key) and isinstance(value, int | float):
            name = {"seconds": "time"}.get(key, f"time, {_SECONDS.sub('', key).replace('_', ' ')}")
            shown.append((name, duration(value)))
        else:
            shown.append((key.replace("_", " "), one_line(value)))
    return shown


def license_id(license: str) -> str:
    """The licence as the Hugging Face hub names it, "other" for one it has no name for, "unknown" for none."""
    text = license.lower()
    if text == "unknown" or text.startswith("no licence"):
        return "unknown"
    known = re.match(r"(mit|apache-2\.0|bsd-[23]-clause|cc0-1\.0|cc[- ]by(-nc)?(-sa|-nd)?[- ]\d\.\d)(?![\w.-])", text)
    return known.group(1).replace(" ", "-") if known else "other"
