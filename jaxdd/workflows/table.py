"""Many runs as one table: a row for each config, over its seeds."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxdd import methods
from jaxdd._dotted import is_dotted
from jaxdd._files import expanded, read_object
from jaxdd.errors import JaxddError
from jaxdd.workflows.outcome import RESULTS, read_results

SWEEP = "sweep.json"
# What a run is measured by: keys of its rows, and what the table calls them.
MEASURES = {
    "kernel_accuracy": "kernel_accuracy",
    "accuracy_mean": "accuracy",
    "probe_mean": "probe",
    "fine_tuned_mean": "fine_tuned",
}
_VALIDATION = "best_validation_"
# Of a result: runs of one config that were measured otherwise are no seeds of each other.
_MEASURED_BY = ("model", "protocol", "best_validation_by", "measured_on")
_NAMES = ("method.name", "select.rule", "data.name")
_TIMES = ("seconds", "compile_seconds", "evaluation_seconds")
_NOT_WITHIN = ("checkpoints", "best")


class Run(NamedTuple):
    """A run that was measured, or that failed.

    Attributes:
      directory: where it lies.
      seed: its own.
      settings: the rest of its config, flat, by dotted names.
      measured: by what, likewise.
      content: of its `results.json`, {} if it failed.
      sentence: why it failed.
    """

    directory: str
    seed: int | None
    settings: dict[str, Any]
    measured: dict[str, Any]
    content: dict[str, Any]
    sentence: str | None = None


def table(sources: str | os.PathLike | Sequence[str | os.PathLike]) -> dict[str, Any]:
    """What runs came to, a row for each config that differs in more than the seed.

        table("runs/sweep")["rows"][0]["test"]["kernel_accuracy"]  # {"mean": 0.83, "std": 0.004, "n": 5}

    The unit is a run: one seed, distilled once. Its accuracy is the mean over the networks that were trained on its
    set, and `std` is the sample standard deviation (ddof=1) over runs of these means: the luck of distilling. The
    spread of networks within a run is in its own results. Validation accuracies are of a run's best iterate, test
    accuracies of its last. A row that is chosen by its test accuracy is selected on test data.

    Args:
      sources: directories of runs or of sweeps, or any above them.

    Returns:
      JSON-able: `columns`, the dotted names of the fields that differ between rows; `common`, method and data where all
      have the same; `rows`, sorted by their settings, of `settings`, `seeds`, `n`, `validation` and `test`
      (`{measure: {"mean", "std", "n"}}`, fractions, std None for one run), `baselines` (`{name: {measure: ..}}`),
      `failed`, `directories`; `best_on_validation`, the number of the row with the best validation accuracy, None where
      rows cannot be compared by one; `budget`, runs and seconds in all; `notes`.

    Raises:
      JaxddError: for a directory that is not there, or where no results lie in any.
    """
    runs, notes = found_in([sources] if isinstance(sources, str | os.PathLike) else sources)
    return tabulated(runs, notes)


def found_in(sources: Sequence[str | os.PathLike]) -> tuple[list[Run], list[str]]:
    """The runs in directories and below them, and what is to be said of files that are none."""
    runs, notes, seen = [], [], set()
    for source in sources:
        if not expanded(source).is_dir():
            raise JaxddError(f"{source} is no directory of runs.")
        for folder, inside, files in os.walk(expanded(source)):
            inside[:] = sorted(name for name in inside if name not in _NOT_WITHIN)
            path = pathlib.Path(folder)
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            if RESULTS in files:
                run = read(path)
                notes += [run] if isinstance(run, str) else []
                runs += [run] if isinstance(run, Run) else []
            if SWEEP in files:
                runs += _failed(path)
    if not runs:
        said = f": {'; '.join(notes)}" if notes else ""
        raise JaxddError(f"no {RESULTS} of a run in {', '.join(map(str, sources))} or below{said}.")
    return runs, notes


def read(directory: pathlib.Path) -> Run | str:
    """A finished run, or a sentence about what its results lack."""
    content = read_results(directory)
    if content is None:
        return f"{directory / RESULTS} is damaged, or no run's"
    config = (content.get("record") or {}).get("config")
    if not isinstance(config, dict) or not any(isinstance(config.get(how), dict) for how in ("method", "select")):
        return f"{directory / RESULTS} does not say its config: it is of an older jaxdd"
    return run_of(str(directory), config, content)


def run_of(directory: str, config: Mapping[str, Any], content: Mapping[str, Any], sentence: str | None = None) -> Run:
    """A run from its complete config and its results."""
    result = content.get("result") or {}
    measured = {name: result[name] for name in _MEASURED_BY if result.get(name) is not None}
    return Run(directory, config.get("seed"), flat(_without_seed(config)), measured, dict(content), sentence)


def _failed(folder: pathlib.Path) -> list[Run]:
    """The points of a sweep that failed and have no results since."""
    points = (read_object(folder / SWEEP) or {}).get("points") or []
    bad = [point for point in points if point.get("status") == "failed" and isinstance(point.get("config"), dict)]
    return [
        run_of(str(folder / point["directory"]), point["config"], {}, str(point.get("sentence")))
        for point in bad
        if not (folder / point["directory"] / RESULTS).exists()
    ]


def _without_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    """What seeds of each other share, with the hyper-parameters that it leaves at their defaults."""
    rest = {name: value for name, value in config.items() if name != "seed"}
    if "method" not in rest:  # a selection
        return rest
    name = str(rest["method"].get("name"))
    if not is_dotted(name):  # somebody's code is not run to show a table
        with contextlib.suppress(JaxddError):  # of a method that this jaxdd does not have
            rest["method"] = {"name": name, **methods.fields(name, **_others(rest["method"]))}
    return rest


def _others(method: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in method.items() if name != "name"}


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config by dotted names; tuples are lists."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = json.loads(json.dumps(value))
    return found


def tabulated(runs: Sequence[Run], notes: Sequence[str] = ()) -> dict[str, Any]:
    """The table of these runs, see `table`."""
    runs, more = _newest(runs)
    groups = _groups(runs)
    facts = [{**group[0].settings, **_called(group[0].measured)} for group in groups]
    names = list(dict.fromkeys(name for fact in facts for name in fact))
    columns = [name for name in names if len({_key([name in fact, fact.get(name)]) for fact in facts}) > 1]
    settings = [{name: fact[name] for name in columns if name in fact} for fact in facts]
    rows = [_row(*pair) for pair in zip(settings, groups, strict=True)]
    rows.sort(key=lambda row: [_order(row["settings"].get(name)) for name in columns])
    return {
        "columns": columns,
        "common": {name: facts[0][name] for name in _NAMES if name in facts[0] and name not in columns},
        "rows": rows,
        "best_on_validation": _best(rows, columns),
        "budget": _budget(runs),
        "notes": [*notes, *more],
    }


def _newest(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Each seed of a config once: the newest of its runs."""
    found: dict[str, Run] = {}
    twice = 0
    for run in runs:
        key = _key([run.settings, run.measured, run.seed, run.sentence is None])
        twice += key in found
        if key not in found or _date(run) >= _date(found[key]):
            found[key] = run
    said = f"{twice} runs have config and seed of others; the newest counts" if twice else ""
    return list(found.values()), [said] if said else []


def _date(run: Run) -> str:
    return str((run.content.get("record") or {}).get("date") or "")


def _groups(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that differ in their seeds alone; one that failed stands with those of its config."""
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.sentence is not None):
        own = [group for group in groups.values() if group[0].settings == run.settings]
        if run.sentence is not None and own:
            own[0].append(run)
        else:
            groups.setdefault(_key([run.settings, run.measured]), []).append(run)
    return list(groups.values())


def _called(measured: Mapping[str, Any]) -> dict[str, Any]:
    return {f"measured.{name}": value for name, value in measured.items()}


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _order(value: Any) -> tuple[int, float, str]:
    """None, then numbers, then texts and the rest."""
    if value is None:
        return 0, 0.0, ""
    if isinstance(value, int | float):
        return 1, float(value), ""
    return 2, 0.0, value if isinstance(value, str) else _key(value)


def _row(settings: dict[str, Any], group: Sequence[Run]) -> dict[str, Any]:
    done = sorted((run for run in group if run.sentence is None), key=lambda run: _order(run.seed))
    results = [run.content["result"] for run in done]
    names = dict.fromkeys(name for result in results for name in result)
    by = [name for name in names if name.startswith(_VALIDATION) and name != f"{_VALIDATION}by"]
    sets: dict[str, list[Mapping[str, Any]]] = {}
    for run in done:
        for row in run.content.get("rows") or []:
            sets.setdefault(row["name"], []).append(row)
    return {
        "settings": settings,
        "seeds": [run.seed for run in done],
        "n": len(done),
        "validation": _figures({name.removeprefix(_VALIDATION): [r.get(name) for r in results] for name in by}),
        "test": _measured(sets.pop("distilled", [])),
        "baselines": {name: measured for name, rows in sets.items() if (measured := _measured(rows))},
        "failed": [{"seed": run.seed, "sentence": run.sentence} for run in group if run.sentence is not None],
        "directories": [run.directory for run in done],
    }


def _measured(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return _figures({called: [row.get(name) for row in rows] for name, called in MEASURES.items()})


def _figures(columns: Mapping[str, Sequence[float | None]]) -> dict[str, Any]:
    """Mean, sample standard deviation and count of what is there."""
    found = {}
    for name, column in columns.items():
        if values := [float(value) for value in column if value is not None]:
            std = statistics.stdev(values) if len(values) > 1 else None
            found[name] = {"mean": statistics.fmean(values), "std": std, "n": len(values)}
    return found


def _best(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> int | None:
    """The row that validation would choose, where all are validated by one measure on the same data."""
    measures = {name for row in rows for name in row["validation"]}
    alike = not any(name.startswith("data.") or name == "measured.best_validation_by" for name in columns)
    if len(measures) != 1 or not alike:
        return None
    (measure,) = measures
    seen = [(row["validation"][measure]["mean"], -i) for i, row in enumerate(rows) if row["validation"]]
    complete = all(row["validation"] or not row["n"] for row in rows)
    return -max(seen)[1] if complete and len(seen) > 1 else None


def _budget(runs: Sequence[Run]) -> dict[str, Any]:
    """What all of it took."""
    results = [run.content.get("result") or {} for run in runs]
    times = {name: sum(result.get(name) or 0.0 for result in results) for name in _TIMES}
    return {"runs": len(runs), "failed": sum(run.sentence is not None for run in runs), **times}
