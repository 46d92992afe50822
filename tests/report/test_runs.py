"""The table of many runs in words, Markdown and CSV."""

import csv
import io

from jaxdd.report import runs


def figure(mean, std=None, n=1):
    return {"mean": mean, "std": std, "n": n}


def row(rate, test, baselines=None, failed=(), **settings):
    return {
        "settings": {"method.learning_rate": rate, **settings},
        "n": 2,
        "validation": {"kernel_accuracy": figure(0.7, 0.01, 2)},
        "test": test,
        "baselines": baselines or {},
        "failed": list(failed),
        "directories": [],
    }


TABLE = {
    "columns": ["method.learning_rate", "evaluation.model", "data.model"],
    "common": {"method.name": "kip", "data.name": "my_digits"},
    "rows": [
        row(0.01, {"kernel_accuracy": figure(0.8, 0.02, 2)}, {"herding": {"accuracy": figure(0.5)}}),
        row(0.04, {"accuracy": figure(0.6)}, failed=[{"seed": 7, "sentence": "it | failed"}],
            **{"evaluation.model": "mlp(width=8, depth=1)", "data.model": None}),
    ],
    "best_on_validation": 1,
    "budget": {"runs": 5, "failed": 1, "seconds": 3.0, "compile_seconds": 0.0, "evaluation_seconds": 600.0},
    "notes": ["a note"],
}  # fmt: skip


def test_columns_are_what_there_is():
    content = runs.content(TABLE)
    assert content.columns == [
        "learning_rate", "evaluation.model", "data.model", "n", "validation, kernel", "test, kernel", "test, network",
        "herding, network", "failed",
    ]  # fmt: skip
    cells = [[cell.replace("\xa0", " ") for cell in line] for line in content.cells]
    assert cells == [
        ["0.01", "", "", "2", "70.0 ± 1.0 %", "80.0 ± 2.0 %", "", "50.0 %", ""],
        ["0.04", "mlp(width=8, depth=1)", "none", "2", "70.0 ± 1.0 %", "", "60.0 %", "", "seed 7"],
    ]
    assert content.ours == [False, True] and content.numeric[:4] == [True, False, True, True]


def test_what_stands_under_it():
    said = runs.sentences(TABLE)
    assert "Choose a row by validation: choosing it by its test accuracy is selection on test data." in said[1]
    assert said[2] == "Best on validation: learning_rate=0.04, evaluation.model=mlp(width=8, depth=1), data.model=None."
    assert said[3] == "5 runs, 1 failed: distilling 3.0 s, evaluating 10 min."
    assert said[4].startswith("Failed, learning_rate=0.04") and said[4].endswith("seed=7: it | failed.")
    assert said[-1] == "a note."


def test_markdown_keeps_its_columns_whatever_texts_hold():
    lines = runs.as_markdown(TABLE).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert lines[0] == r"# kip on my\_digits" and len(table) == 4
    assert {line.replace(r"\|", "").count("|") for line in table} == {10}
    assert r"it \| failed" in lines[-2] and "**60.0 %**" in table[3]


def test_csv_holds_fractions_in_full():
    first, second = csv.DictReader(io.StringIO(runs.as_csv(TABLE)))
    assert float(first["test/kernel_accuracy/std"]) == 0.02 and first["herding/accuracy/mean"] == "0.5"
    assert second["evaluation.model"] == "mlp(width=8, depth=1)" and second["test/kernel_accuracy/mean"] == ""
    assert (first["failed"], second["failed"], second["n"]) == ("0", "1", "2")
