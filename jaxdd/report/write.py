"""`report.html`, `images.png` and the data card `README.md` of a distilled set."""

from __future__ import annotations

import base64
import io
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdd._files import expanded, write_atomically
from jaxdd.report.curves import curves_svg
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
    pixel_range,
    provenance,
    ran_on,
    selection,
    source,
    storage,
    versions,
)
from jaxdd.report.pictures import by_class, clipped_share, enlargement, grid_image, shown_range, to_8_bit, to_image
from jaxdd.synthetic import DistilledDataset

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
) -> list[pathlib.Path]:
    """Write `report.html`, `images.png` and `README.md`, and return their paths.

    The report is one file that loads nothing, and says only what it is told: absent header keys, columns and results
    are left out.

    Args:
      directory: is made if it is not there; the card takes the set to be `distilled.safetensors` in it.
      history: rows of `metrics.jsonl`, see `curves_svg`.
      rows: the comparison, one dict for the set (named "distilled") and each baseline, of `name`, `num_images`,
        `label_regime`, `bits`, `kernel_accuracy`, `accuracy_mean`, `accuracy_std` (fractions), `networks`, `model`,
        `protocol`, `learning_rate`, `note`; of pretrained networks `data`, `probe_mean`, `probe_std`,
        `fine_tuned_mean`, `fine_tuned_std`, each of which may be absent or None.
      result: flat and JSON-able: `steps`, `seconds`, `devices`, `full_bits`, `best_step`, ...
      record: where the figures come from: `command`, `date` (ISO 8601), `hardware` (`devices`, `processor`, ..), each
        of which may be absent.

    Raises:
      JaxddError: if a file cannot be written.
    """
    directory = expanded(directory)
    content = _content(dataset, history=history, rows=rows, result=result, record=record)
    png = io.BytesIO()
    grid_image(dataset).save(png, format="PNG", optimize=True)
    files = {
        "images.png": png.getvalue(),
        "report.html": _render("report.html", content),
        "README.md": _render("card.md", content),
    }
    for name, text in files.items():
        write_atomically(directory / name, text)
    return [directory / name for name in files]


def _render(template: str, content: Mapping[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxdd.report"),
        autoescape=jinja2.select_autoescape(("html",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["yaml"] = lambda value: json.dumps(value, ensure_ascii=False)  # JSON is YAML
    environment.filters["md"] = _markdown
    environment.filters["fenced"] = _fenced
    return environment.get_template(template).render(content)


def _markdown(text: str) -> str:
    """Foreign text as it is: no markup, one line, no end of a table's cell."""
    return re.sub(r"([\\`*_{}\[\]<>#|$~])", r"\\\1", " ".join(text.split()))


def _fenced(command: str) -> str:
    """A block of code that its content cannot leave."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
    return f"{fence}sh\n{command}\n{fence}"


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
        "classes": _pictures(dataset),
        "image_width": enlargement(dataset) * dataset.images.shape[2],
        "pictures_note": _pictures_note(dataset),
        "curves": curves_svg(history),
        "table": comparison(rows),
        "selection": selection(dataset, rows, result),
        "bits": _bits(header.get("num_bits"), result.get("full_bits")),
        "about": about_set(dataset),
        "provenance": provenance(dataset),
        "run": _run(result, rows) + ran_on(record),
        "config": flattened(header.get("config") or {}),
        "versions": versions(),
        "command": record.get("command"),
        "license": license,
        "license_id": _license_id(license),
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
    text = _counted(count, "synthetic image")
    text += "" if has_no_classes(dataset) else f" ({counts.mean():.3g} per class{average})"
    text += f" that stand in for the training set of {name}" if name else ""
    text += f", distilled with {method}" if method else ""
    row = next((row for row in rows if row.get("name") == "distilled"), {})
    kernel, networks = percent(row.get("kernel_accuracy")), percent(row.get("accuracy_mean"), row.get("accuracy_std"))
    findings = [f"kernel ridge regression on them reaches {kernel}"] if kernel else []
    if networks:
        of = f" ({row['networks']} × {row['model']})" if row.get("networks") and row.get("model") else ""
        findings.append(f"{'networks' if kernel else 'fresh networks'} trained on them{of} reach {networks}")
    return f"{text}: {' and '.join(findings)} on test data." if findings else f"{text}."


def _pictures(dataset: DistilledDataset) -> list[dict[str, Any]]:
    """For each class its name and its images as data URIs, with their labels in words."""
    names, pixels = class_names(dataset), to_8_bit(dataset, shown_range(dataset))
    classes, bare = [], has_no_classes(dataset)
    for group in by_class(dataset):
        images = []
        for index in group.indices:
            file = io.BytesIO()
            to_image(pixels[index]).save(file, format="PNG")
            uri = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
            images.append({"uri": uri, "label": "" if bare else _label_in_words(dataset.labels[index], names)})
        classes.append({"name": group.name, "images": images, "hidden": group.hidden})
    return classes


def _label_in_words(label: np.ndarray, names: Sequence[str]) -> str:
    """The largest entries of a soft label, the name of a hard one."""
    if label.ndim == 0:
        return names[int(label)]
    return ", ".join(f"{names[k]} {label[k]:.2f}" for k in np.argsort(-label, kind="stable")[:3])


def _pictures_note(dataset: DistilledDataset) -> str:
    shown, real, channels = shown_range(dataset), pixel_range(dataset), dataset.images.shape[-1]
    share = clipped_share(dataset, shown)
    sentences = [f"Black is {shown[0]:.3g} and white is {shown[1]:.3g}, as in the real images."]
    if shown != real:
        sentences = [
            f"Contrast is raised: black is {shown[0]:.3g} and white is {shown[1]:.3g} in these pictures, "
            f"{real[0]:.3g} and {real[1]:.3g} in the real images."
        ]
    if share:
        amount = "less than 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"
        sentences.append(f"Of the values {amount} lie outside and are clipped, here only.")
    if channels not in (1, 3):
        sentences.append(f"Shown in grey: the mean of {channels} channels.")
    if dataset.labels.ndim == 2 and not has_no_classes(dataset):
        sentences.append("An image stands with the class of its largest label entry.")
    return " ".join(sentences)


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


def _license_id(license: str) -> str:
    """The licence as the Hugging Face hub names it, "other" for one it has no name for, "unknown" for none."""
    text = license.lower()
    if text == "unknown" or text.startswith("no licence"):
        return "unknown"
    known = re.match(r"(mit|apache-2\.0|bsd-[23]-clause|cc0-1\.0|cc[- ]by(-nc)?(-sa|-nd)?[- ]\d\.\d)(?![\w.-])", text)
    return known.group(1).replace(" ", "-") if known else "other"
