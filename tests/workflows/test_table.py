"""Runs as one table: which are seeds of each other, what their figures are, what is said of them."""

import json
import statistics

import pytest

from jaxdd import report, workflows
from jaxdd.errors import JaxddError


@pytest.fixture
def write(tmp_path):
    """`write(directory, seed, rate, accuracy)`: results of a run, of which more may be said."""

    def write(directory, seed=0, rate=0.04, accuracy=0.5, *, validation=None, rows=(), method=None, **result):
        folder = tmp_path / directory
        folder.mkdir(parents=True)
        config = {
            "seed": seed,
            "data": {"name": "digits"},
            "method": {"name": "kip", "learning_rate": rate, **(method or {})},
        }
        found = [{"name": "distilled", "kernel_accuracy": accuracy}, {"name": "random real", "kernel_accuracy": 0.25}]
        result = {"seconds": 1.5, "compile_seconds": 0.5, **result}
        if validation is not None:
            result["best_validation_kernel_accuracy"] = validation
        content = {
            "result": result,
            "rows": [*found, *rows],
            "record": {"config": config, "date": f"2026-01-0{seed + 1}"},
        }
        (folder / workflows.RESULTS).write_text(json.dumps(content))
        return folder

    return write


def test_the_unit_is_a_run_and_its_mean(write, tmp_path):
    accuracies = [0.5, 0.6, 0.76]
    for seed, accuracy in enumerate(accuracies):
        write(f"a/seed={seed}", seed, 0.01, accuracy, validation=accuracy - 0.1)
        write(f"b/{seed}", seed, 0.04, 0.9, validation=0.3, rows=[{"name": "herding", "accuracy_mean": seed / 10}])
    found = workflows.table(tmp_path)
    first, second = found["rows"]
    assert found["columns"] == ["method.learning_rate"] and found["common"] == {
        "method.name": "kip",
        "data.name": "digits",
    }
    assert first["settings"] == {"method.learning_rate": 0.01} and first["seeds"] == [0, 1, 2] and first["n"] == 3
    figure = first["test"]["kernel_accuracy"]
    assert figure["mean"] == pytest.approx(0.62) and figure["n"] == 3
    assert figure["std"] == pytest.approx(statistics.stdev(accuracies)) != pytest.approx(statistics.pstdev(accuracies))
    assert first["validation"]["kernel_accuracy"]["mean"] == pytest.approx(0.52)
    assert second["test"]["kernel_accuracy"]["std"] == 0.0
    assert second["baselines"]["herding"]["accuracy"]["mean"] == pytest.approx(0.1)
    assert first["baselines"] == {"random real": {"kernel_accuracy": {"mean": 0.25, "std": 0.0, "n": 3}}}
    assert found["best_on_validation"] == 0  # the second is better on test data
    assert found["budget"] == {
        "runs": 6,
        "failed": 0,
        "seconds": 9.0,
        "compile_seconds": 3.0,
        "evaluation_seconds": 0.0,
    }
    assert workflows.table([tmp_path / "b", tmp_path / "a", tmp_path])["rows"] == found["rows"]


def test_one_seed_has_no_standard_deviation(write, tmp_path):
    write("run", accuracy=0.5)
    found = workflows.table(str(tmp_path / "run"))
    assert found["columns"] == [] and found["rows"][0]["test"]["kernel_accuracy"] == {"mean": 0.5, "std": None, "n": 1}
    assert found["best_on_validation"] is None
    content, said = report.runs.content(found), report.runs.sentences(found)
    assert content.columns == ["n", "test", "random real"] and content.cells == [["1", "50.0\xa0%", "25.0\xa0%"]]
    assert said[1] == "Without validation figures: choosing a row by its test accuracy is selection on test data."


def test_a_hyper_parameter_at_its_default_is_no_other_config(write, tmp_path):
    write("a", 0)
    write("b", 1, method={"ipc": 1})
    write("c", 2, method={"ipc": 2})
    found = workflows.table(tmp_path)
    assert [(row["settings"], row["n"]) for row in found["rows"]] == [({"method.ipc": 1}, 2), ({"method.ipc": 2}, 1)]


def test_runs_that_were_measured_otherwise_are_no_seeds_of_each_other(write, tmp_path):
    write("a", 0, model="mlp", protocol="quick")
    write("b", 1, model="convnet", protocol="quick")
    found = workflows.table(tmp_path)
    assert found["columns"] == ["measured.model"] and [row["n"] for row in found["rows"]] == [1, 1]


def test_a_seed_counts_once(write, tmp_path):
    write("a", 0, accuracy=0.1)
    (tmp_path / "newer").mkdir()
    content = json.loads((write("b", 0, accuracy=0.9) / workflows.RESULTS).read_text())
    content["record"]["date"] = "2027-01-01"
    (tmp_path / "newer" / workflows.RESULTS).write_text(json.dumps(content))
    found = workflows.table(tmp_path)
    assert found["rows"][0]["n"] == 1 and found["rows"][0]["directories"] == [str(tmp_path / "newer")]
    assert found["notes"] == ["2 runs have config and seed of others; the newest counts"]


def test_validation_on_other_data_chooses_nothing(write, tmp_path):
    write("a", validation=0.5)
    folder = write("b", validation=0.6)
    text = (folder / workflows.RESULTS).read_text()
    (folder / workflows.RESULTS).write_text(text.replace('"digits"', '"letters"'))
    found = workflows.table(tmp_path)
    assert found["columns"] == ["data.name"] and found["best_on_validation"] is None
    assert found["common"] == {"method.name": "kip"}


def test_what_is_no_result_is_named(write, tmp_path):
    write("run")
    for name, text in (("torn", '{"result": {'), ("old", '{"result": {}, "rows": []}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / workflows.RESULTS).write_text(text)
    found = workflows.table(tmp_path)
    assert [note.rpartition("/")[2] for note in found["notes"]] == [
        "results.json does not say its config: it is of an older jaxdd",
        "results.json is damaged, or no run's",
    ]
    with pytest.raises(JaxddError, match=r"no results.json of a run in .*torn or below: .*damaged"):
        workflows.table(tmp_path / "torn")
    with pytest.raises(JaxddError, match="nowhere is no directory of runs"):
        workflows.table(tmp_path / "nowhere")


def test_somebodys_code_is_not_run_to_show_a_table(write, tmp_path):
    folder = write("run")
    text = (folder / workflows.RESULTS).read_text()
    (folder / workflows.RESULTS).write_text(text.replace('"kip"', '"os:abort"'))
    assert workflows.table(tmp_path)["common"]["method.name"] == "os:abort"
