"""The table of many runs, as `workflows.table` gives it, for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxdd.report import tables
from jaxdd.report.facts import Comparison, duration, one_line, percent

_IN_WORDS = {"kernel_accuracy": "kernel", "accuracy": "network", "probe": "linear probe", "fine_tuned": "fine-tuned"}

Cell = Callable[[Mapping[str, Any]], str]


def content(table: Mapping[str, Any]) -> Comparison:
    """Its cells as text; what is best on validation is ours."""
    short = short_names(table["columns"])
    columns: dict[str, tuple[bool, Cell]] = {
        short[name]: (_numeric(table, name), lambda row, name=name: _setting(row["settings"], name))
        for name in table["columns"]
    }
    columns["n"] = True, lambda row: str(row["n"])
    alone = len({measure for _, measure in _figures(table)}) == 1
    for place, measure in _figures(table):
        of = "" if alone else f", {_IN_WORDS.get(measure, measure)}"
        baseline = place not in ("validation", "test")
        columns[f"{place}{of}"] = True, lambda row, p=place, m=measure, b=baseline: _accuracy(row, p, m, baseline=b)
    if any(row["failed"] for row in table["rows"]):
        columns["failed"] = False, lambda row: "; ".join(f"seed {one['seed']}" for one in row["failed"])
    return Comparison(
        columns=list(columns),
        numeric=[numeric for numeric, _ in columns.values()],
        cells=[[cell(row) for _, cell in columns.values()] for row in table["rows"]],
        ours=[i == table["best_on_validation"] for i in range(len(table["rows"]))],
    )


def title(table: Mapping[str, Any]) -> str:
    """Method and data, where all rows have the same."""
    return " on ".join(str(value) for value in table["common"].values())


def sentences(table: Mapping[str, Any]) -> list[str]:
    """What stands under the table."""
    several = any(row["n"] > 1 for row in table["rows"])
    found = [
        "n is the number of runs, a seed each; mean ± sample standard deviation over runs of each run's mean accuracy."
        if several
        else "One run in each row, so there is no standard deviation over runs."
    ]
    figures = dict.fromkeys(place for place, _ in _figures(table))
    if "validation" in figures:
        found.append(
            "Validation is of a run's best iterate, on training data that were held out; test is of its last iterate. "
            "Choose a row by validation: choosing it by its test accuracy is selection on test data."
        )
    elif "test" in figures:
        found.append("Without validation figures: choosing a row by its test accuracy is selection on test data.")
    if table["best_on_validation"] is not None:
        found.append(f"Best on validation: {_named(table, table['rows'][table['best_on_validation']])}.")
    found.append(_budget(table["budget"]))
    for row in table["rows"]:
        for one in row["failed"]:
            where = ", ".join(part for part in (_named(table, row), f"seed={one['seed']}") if part)
            found.append(f"Failed, {where}: {one['sentence'].rstrip('.')}.")
    return found + [f"{note.rstrip('.')}." for note in table["notes"]]


def as_markdown(table: Mapping[str, Any]) -> str:
    """The table and what stands under it."""
    said = "".join(f"- {tables.escaped(sentence)}\n" for sentence in sentences(table))
    heading = f"# {tables.escaped(title(table))}\n\n" if table["common"] else ""
    return f"{heading}{tables.markdown(content(table))}\n{said}"


def as_csv(table: Mapping[str, Any]) -> str:
    """Fractions in full, a column for each mean, standard deviation and count."""
    rows, names = [], dict.fromkeys([*table["columns"], "n"])
    for row in table["rows"]:
        flat = {**{name: _plain(value) for name, value in row["settings"].items()}, "n": row["n"]}
        of_sets = {"validation": row["validation"], "test": row["test"], **row["baselines"]}
        for place, figures in of_sets.items():
            for measure, figure in figures.items():
                flat |= {f"{place}/{measure}/{part}": value for part, value in figure.items()}
        flat |= {"failed": len(row["failed"])}
        names |= dict.fromkeys(flat)
        rows.append(flat)
    return tables.comma_separated(list(names), rows)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """The last part of each dotted name, or all of it where two share that."""
    last = [name.rpartition(".")[2] for name in names]
    return {name: short if last.count(short) == 1 else name for name, short in zip(names, last, strict=True)}


def _figures(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What there is of figures, `(place, measure)`: validation, then test with the baselines of each measure."""
    rows = table["rows"]
    found = [("validation", measure) for row in rows for measure in row["validation"]]
    for measure in _IN_WORDS:
        found += [("test", measure) for row in rows if measure in row["test"]]
        found += [(name, measure) for row in rows for name, figures in row["baselines"].items() if measure in figures]
    return list(dict.fromkeys(found))


def _accuracy(row: Mapping[str, Any], place: str, measure: str, *, baseline: bool) -> str:
    figure = (row["baselines"].get(place, {}) if baseline else row[place]).get(measure)
    if figure is None:
        return ""
    return percent(figure["mean"], None if baseline else figure["std"])


def _setting(settings: Mapping[str, Any], name: str) -> str:
    return one_line(settings[name]) if name in settings else ""


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str | None) else one_line(value)


def _numeric(table: Mapping[str, Any], name: str) -> bool:
    return all(isinstance(row["settings"].get(name), int | float | None) for row in table["rows"])


def _named(table: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """A row by its settings."""
    short = short_names(table["columns"])
    return ", ".join(f"{short[name]}={value}" for name, value in row["settings"].items())


def _budget(budget: Mapping[str, Any]) -> str:
    times = {"distilling": "seconds", "compiling": "compile_seconds", "evaluating": "evaluation_seconds"}
    parts = [f"{name} {duration(budget[key])}" for name, key in times.items() if budget[key]]
    failed = f", {budget['failed']} failed" if budget["failed"] else ""
    return f"{budget['runs']} run{'' if budget['runs'] == 1 else 's'}{failed}{': ' if parts else ''}{', '.join(parts)}."
