"""What a distilled set says about itself, in words; keys that a header lacks are left out."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import jaxdd
from jaxdd._system import in_words
from jaxdd.data import Chain, Standardize, Transform
from jaxdd.synthetic import DistilledDataset
from jaxdd.training import protocols

_CONVENTIONS = {
    "raw": "vectors that cross-entropy uses as they are",
    "hard": "class numbers",
    "probability": "probabilities of the classes, one row an image; meant for cross-entropy",
    "features": "targets of an encoder, one row an image; meant for squared error",
    "centred": "one row an image, a class is one-hot minus 1/classes; meant for squared error",
}


def source(dataset: DistilledDataset) -> dict[str, Any]:
    """What the header says of the source data; empty where it says nothing."""
    return dataset.header.get("data") or {}


def has_no_classes(dataset: DistilledDataset) -> bool:
    """Whether the labels are features, which know no classes."""
    return dataset.header.get("label_convention") == "features"


def hard_labels(dataset: DistilledDataset) -> np.ndarray:
    """The class of each image, int `(m,)`: the largest entry of a soft label, 0 where labels are features."""
    if has_no_classes(dataset):
        return np.zeros(len(dataset.labels), np.int32)
    return dataset.labels if dataset.labels.ndim == 1 else dataset.labels.argmax(axis=1)


def class_names(dataset: DistilledDataset) -> list[str]:
    """A name for every class; its number where the header has none, "all" for all images where labels are features."""
    if has_no_classes(dataset):
        return ["all"]
    named = [str(name) for name in source(dataset).get("class_names") or ()]
    occur = dataset.labels.shape[1] if dataset.labels.ndim == 2 else int(dataset.labels.max(initial=-1)) + 1
    count = max(len(named), occur, source(dataset).get("num_classes") or 0)
    return named + [str(number) for number in range(len(named), count)]


def pixel_range(dataset: DistilledDataset) -> tuple[float, float]:
    """Black and white in pixel space, (0, 1) where the header does not say."""
    low, high = source(dataset).get("pixel_range") or (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1)


def percent(mean: float | None, std: float | None = None) -> str:
    """A fraction as "82.3 %" or "82.3 ± 0.4 %" with spaces that do not break, and nothing where there is none."""
    if mean is None or not math.isfinite(mean):
        return ""
    text = f"{100 * mean:.1f} %" if std is None else f"{100 * mean:.1f} ± {100 * std:.1f} %"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def storage(bits: int | None) -> str:
    """Bits, and what that is in KiB or more."""
    if not bits:
        return ""
    size, unit = bits / 8 / 1024, "KiB"
    while size >= 1024 and unit != "GiB":
        size, unit = size / 1024, {"KiB": "MiB", "MiB": "GiB"}[unit]
    return f"{bits:,} bits ({size:.{0 if size >= 100 else 1}f} {unit})"


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def one_line(value: Any) -> str:
    """A JSON-able value for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {one_line(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(one_line(item) for item in value)
    return str(value)


def flattened(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested config as the dotted names under which the command line sets them."""
    rows = []
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            rows += flattened(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", one_line(value)))
    return rows


def transform_in_words(transform: Transform) -> str:
    """What networks expect to be done to pixels, with its numbers where they are few."""
    if isinstance(transform, Chain):
        return ", then ".join(transform_in_words(part) for part in transform.transforms)
    if isinstance(transform, Standardize):
        mean, std = (one_line([float(value) for value in part]) for part in (transform.mean, transform.std))
        return f"standardize: (pixel - mean) / std for each channel, mean {mean}, std {std}"
    return {"none": "none: pixels as they are", "zca": "ZCA whitening; its matrix is in the file"}.get(
        transform.name, transform.name
    )


def about_set(dataset: DistilledDataset) -> list[tuple[str, str]]:
    """The set itself: shapes, labels, bits, transform."""
    header, names = dataset.header, class_names(dataset)
    count, height, width, channels = dataset.images.shape
    low, high = pixel_range(dataset)
    rates, schedule = dataset.learning_rates, dataset.schedule
    convention, kernel = header.get("label_convention"), dict(header.get("kernel") or {})
    learned = {"learned": "learned with the images", "hard": "not learned"}.get(header.get("label_regime") or "")
    labels = [f"{convention}: {_CONVENTIONS.get(convention, 'unknown')}"] if convention else []
    rows = {
        "images": f"{count}, each {height} × {width} × {channels}, {dataset.images.dtype}; "
        f"black is {low:g} and white is {high:g}",
        "classes": ""
        if has_no_classes(dataset)
        else f"{len(names)}: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}",
        "labels": "; ".join([*labels, *([learned] if learned else [])]),
        "learning rates": "" if rates is None else one_line([float(rate) for rate in np.ravel(rates)[:8]]),
        "steps": "" if schedule is None else f"{len(schedule)}, each on {schedule.shape[1]} images",
        "initialisation": "" if dataset.theta0 is None else "one, which is in the file",
        "transform": transform_in_words(dataset.transform),
        "storage": storage(header.get("num_bits")),
        "decoder": header.get("decoder"),
        "model": header.get("model"),
        "protocol": header.get("protocol"),
        "kernel": f"{kernel.pop('name', 'of no name')}: {one_line(kernel)}" if kernel else "",
    }
    return [(name, one_line(value)) for name, value in rows.items() if value]


def provenance(dataset: DistilledDataset) -> list[tuple[str, str]]:
    """Where the set comes from: method, seeds, source data, licence, version."""
    header, data = dataset.header, source(dataset)
    rows = {
        "method": header.get("method"),
        "seed": header.get("seed"),
        "source data": data.get("name"),
        "licence of the source": data.get("license"),
        "SHA-256 of its arrays": data.get("source_hash"),
        "validation": "the split of the source's own" if data.get("own_validation") else None,
        "validation, cut from train": None if data.get("own_validation") else percent(data.get("validation")),
        "seed of the cut": data.get("split_seed"),
        "selected on": header.get("selected_on"),
        "selected by": header.get("selected_by"),
        "written by": f"jaxdd {header['jaxdd_version']}" if header.get("jaxdd_version") else None,
    }
    return [(name, one_line(value)) for name, value in rows.items() if value not in (None, "")]


def versions() -> list[tuple[str, str]]:
    """Of Python and of the libraries that decide the numbers."""
    rows = [("python", platform.python_version()), ("jaxdd", jaxdd.__version__)]
    for name in ("jax", "jaxlib", "flax", "optax", "numpy"):
        try:
            rows.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return rows


def ran_on(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """When and on what machine."""
    hardware = record.get("hardware") or {}
    cores, memory = hardware.get("cores"), hardware.get("memory")
    machine = [hardware.get("processor"), f"{cores} cores" if cores else None, in_words(memory) if memory else None]
    rows = {
        "date": record.get("date"),
        "devices of JAX": hardware.get("devices"),
        "machine": ", ".join(part for part in machine if part),
    }
    return [(name, value) for name, value in rows.items() if value]


class Comparison(NamedTuple):
    """A table as text: `cells[i][j]` stands in `columns[j]`, at the right if `numeric[j]`; `ours[i]` marks a row."""

    columns: list[str]
    numeric: list[bool]
    cells: list[list[str]]
    ours: list[bool]


def comparison(rows: Sequence[Mapping[str, Any]]) -> Comparison:
    """The distilled set beside its baselines. Columns that no row fills are left out."""

    def trained(row: Mapping[str, Any]) -> str:
        rate, networks, model = row.get("learning_rate"), row.get("networks"), row.get("model")
        parts = [
            f"{networks} × {model}" if networks and model else model,
            row.get("protocol"),
            None if rate is None else f"rate {rate:g}",
        ]
        return ", ".join(part for part in parts if part)

    columns = {
        "training set": [str(row.get("shown") or row.get("name", "")) for row in rows],
        "kernel accuracy": [percent(row.get("kernel_accuracy")) for row in rows],
        "network accuracy": [percent(row.get("accuracy_mean"), row.get("accuracy_std")) for row in rows],
        "on": [str(row.get("data") or "") for row in rows],
        "linear probe": [percent(row.get("probe_mean"), row.get("probe_std")) for row in rows],
        "fine-tuned": [percent(row.get("fine_tuned_mean"), row.get("fine_tuned_std")) for row in rows],
        "images": [f"{row['num_images']:,}" if row.get("num_images") else "" for row in rows],
        "bits": [f"{row['bits']:,}" if row.get("bits") else "" for row in rows],
        "labels": [str(row.get("label_regime") or "") for row in rows],
        "Vendi": [f"{row['vendi']:.1f}" if row.get("vendi") is not None else "" for row in rows],
        "coverage": [percent(row.get("coverage")) for row in rows],
        "represented": [percent(row.get("representativeness")) for row in rows],
        "trained": [trained(row) if _measured(row) else "" for row in rows],
        "note": [str(row.get("note") or "") for row in rows],
    }
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    return Comparison(
        columns=list(columns),
        numeric=[name in _NUMERIC for name in columns],
        cells=[list(row) for row in zip(*columns.values(), strict=True)],
        ours=[row.get("name") == "distilled" for row in rows],
    )


_NUMERIC = (
    *("images", "bits", "kernel accuracy", "network accuracy", "linear probe", "fine-tuned"),
    *("Vendi", "coverage", "represented"),
)


def _measured(row: Mapping[str, Any]) -> bool:
    return row.get("accuracy_mean") is not None or row.get("probe_mean") is not None


def selection(dataset: DistilledDataset, rows: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> list[str]:
    """What was selected on what, in sentences."""
    how = "chosen" if dataset.selected else "distilled"
    if dataset.selected:
        sentences = ["The images are real ones, as the source has them; which ones, no test score has picked."]
    elif dataset.header.get("selected_on"):
        step = dataset.header.get("step")
        which = f" (step {step:,})" if step else ""
        sentences = [f"The set is the iterate{which} that was best on {dataset.header['selected_on']} data."]
    else:
        step = f" (step {result['steps']:,})" if result.get("steps") else ""
        average = dataset.header.get("iterate") == "average"
        which = "moving average of the iterates up to the last" if average else "last iterate"
        sentences = [f"The set is the {which}{step}; no score picked it."]
    if result.get("best_step"):
        score = percent(result.get("best_validation_kernel_accuracy", result.get("best_validation_accuracy")))
        by = result.get("best_validation_by")
        which = f"step {result['best_step']:,}{f', {score}' if score else ''}{f'; {by}' if by else ''}"
        sentences.append(f"The iterate that was best on validation data ({which}) is kept beside it.")
    if source(dataset).get("validation") == 0:
        sentences.append(f"It was {how} from all training data; none were held out to select anything on.")
    named = list(dict.fromkeys(row["protocol"] for row in rows if row.get("protocol")))
    known = [protocols.get(name) for name in named if name in protocols.available()]  # others are somebody's own
    if named:
        averaged = " and ".join(repr(protocol.name) for protocol in known if protocol.weight_average)
        weights = f", by {averaged} with the moving average of their weights" if averaged else ""
        too = "" if dataset.selected else ", too"
        sentences.append(f"Networks are measured at their last step{too}{weights}.")
    sentences += [f"Protocol {protocol.name!r}: {protocol.description}." for protocol in known]
    meant = dataset.header.get("protocol")
    if meant in protocols.available() and meant not in named:
        said = protocols.get(meant).description
        sentences.append(f"Protocol {meant!r}: {said}; the file names it, and jaxdd evaluate trains by it.")
    if any(_measured(row) or percent(row.get("kernel_accuracy")) for row in rows):
        sentences.append("All accuracies in the table are on test data, on which nothing was selected.")
    return sentences
