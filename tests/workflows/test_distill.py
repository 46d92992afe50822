"""What a run leaves, goes on from, and leaves alone."""

import datetime
import html
import json

import jax
import numpy as np
import pytest
import toys

from jaxdd import _progress, workflows
from jaxdd.errors import JaxddError
from jaxdd.synthetic import DistilledDataset
from jaxdd.workflows import again


def test_plain_dicts_in_and_out(config, tmp_path):
    given = config("kip")
    before = json.dumps(given)
    outcome = workflows.distill(given, tmp_path / "run", evaluate="kernel", command="as typed")
    assert json.dumps(given) == before
    stored = json.loads((tmp_path / "run" / workflows.RESULTS).read_text())
    report = html.unescape((tmp_path / "run" / "report.html").read_text())
    assert stored == {"result": outcome.result, "rows": outcome.rows, "record": outcome.record}
    assert outcome.record["config"] == workflows.complete(outcome.record["config"])  # goes in again as it is
    assert outcome.record["config"]["method"].items() >= given["method"].items()
    assert outcome.record["seed"] == 0 and outcome.record["command"] == "as typed"
    assert outcome.record["hardware"]["devices"] == f"{jax.device_count()} × cpu"
    assert outcome.record["versions"]["jax"] == jax.__version__
    assert datetime.datetime.fromisoformat(outcome.record["date"]).tzinfo is not None
    assert outcome.record["date"][:16] in report and outcome.record["hardware"]["processor"] in report
    assert outcome.path == tmp_path / "run" / workflows.FILE and outcome.summary == "kip on tiny, 10 images"
    assert "as typed" in report
    assert "path" not in DistilledDataset.read(outcome.path).header["data"]  # it was found by its name
    assert outcome.result["kernel_accuracy"] == outcome.rows[0]["kernel_accuracy"] > 0.2
    assert outcome.result["best_validation_kernel_accuracy"] > 0.2
    known = outcome.rows[0]["by_class"]
    mean = np.average(known["kernel"]["accuracy"], weights=known["test_images"])
    assert mean == pytest.approx(outcome.result["kernel_accuracy"]) and "networks" not in known
    assert all(said in report for said in ("kernel regression", "How they grew", ">real<", 'href="results.json"'))


def test_what_goes_on_is_said(config, tmp_path):
    all_of_them = {"validation": 0.0}  # so the rate is fixed, and nothing is chosen
    for steps, level in ((4, "none"), (6, "quick")):
        told = toys.Told()
        with _progress.listening(told):
            workflows.distill(config(data=all_of_them, run={"steps": steps}), tmp_path, resume=True, evaluate=level)
        assert not told.open
    resumed, *of_steps = [line for line in told.lines if " of 6" in line]
    assert resumed == "resuming from step 4 of 6"
    assert [line.partition(",")[0] for line in of_steps] == ["step 5 of 6", "step 6 of 6"] and "loss" in of_steps[-1]
    rest = [line for line in told.lines if " of 6" not in line]
    assert rest[:3] == ["reading floats", "checking", "compiling"] and rest[-1] == "writing the report"
    assert rest[3:5] == ["evaluating distilled", "evaluating distilled: network 1 of 1"]
    assert {"evaluating random real, hard labels", "evaluating herding: network 1 of 1"} < set(rest)


def test_resume_may_ask_for_more_steps_and_starts_fresh_in_an_empty_directory(config, tmp_path):
    (tmp_path / "part").mkdir()
    for steps, resumed in ((3, 0), (6, 3)):
        run = config(run={"steps": steps})
        outcome = workflows.distill(run, tmp_path / "part", resume=True, evaluate="none")
        assert outcome.result["resumed_from"] == resumed
    whole = workflows.distill(config(), tmp_path / "whole", evaluate="none")
    assert outcome.path.read_bytes() == whole.path.read_bytes()


def test_how_a_machine_goes_about_it_is_no_part_of_a_run(config, tmp_path):
    """Neither of its identity nor of its file; and a run from when it was goes on."""
    run, named = config(), {"execution": {"block": 16, "side_by_side": None}}
    first, second = (
        workflows.distill({**run, **how}, tmp_path / str(len(how)), evaluate="none").path for how in ({}, named)
    )
    blocks = [json.loads((path.parent / "execution.json").read_text())["block"] for path in (first, second)]
    assert blocks == [8, 16]
    texts = [(path.parent / "run.json").read_text() for path in (first, second)]
    headers = [DistilledDataset.read(path).header for path in (first, second)]
    assert texts[0] == texts[1] and headers[0]["config"] == headers[1]["config"]
    assert not {"block", "side_by_side", "precision", "execution"} & set(json.dumps(headers[0]).split('"'))

    before = json.loads(texts[0])
    before["config"]["method"] |= {"target_block": 4, "classes_per_batch": 1, "precision": "default"}
    (first.parent / "run.json").write_text(json.dumps(before))
    (first.parent / "execution.json").unlink()
    outcome = workflows.distill(config(run={"steps": 8}), first.parent, resume=True, evaluate="none")
    assert outcome.result["resumed_from"] == 6
    assert json.loads((first.parent / "execution.json").read_text())["block"] == 4


@pytest.mark.parametrize("name", ["README.md", "metrics.jsonl"])
def test_a_directory_of_somebody_else_is_left_alone(name, config, tmp_path):
    (tmp_path / name).write_text("MINE")
    with pytest.raises(JaxddError, match=f"holds {name} but no run"):
        workflows.distill(config(), tmp_path, evaluate="none")
    assert (tmp_path / name).read_text() == "MINE" and len(list(tmp_path.iterdir())) == 1


def test_a_directory_of_another_config_is_refused_with_the_difference(config, tmp_path):
    workflows.distill(config(), tmp_path, evaluate="none")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for resume, changed, sentence in (
        (False, {}, "add --resume"),
        (True, {"method": {"rate": 0.2}}, "method.rate is 'absent' there and 0.2 here"),
        (True, {"data": {"split_seed": 5}}, "config.data.split_seed is 0 there and 5 here"),
    ):
        with pytest.raises(JaxddError) as caught:
            workflows.distill(config(**changed), tmp_path, resume=resume, evaluate="none")
        assert sentence in str(caught.value)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_what_was_asked_for_lies_beside_the_run(config, tmp_path):
    asked = {"evaluate": "none", "callback": "toys:note"}
    given = config(run={"steps": 4})
    toys.NOTED.clear()
    workflows.distill(given, tmp_path / "run", **asked)
    assert [step for step, *_ in toys.NOTED] == [1, 2, 3, 4] and "loss" in toys.NOTED[0][1]
    found = again.read(tmp_path / "run")
    assert found.options == {"full_data": False, "tensorboard": False, **asked}
    assert found.config == workflows.complete(found.config) and found.config["run"]["steps"] == 4
    with pytest.raises(JaxddError, match=r"seed is 0 there and 1 here"):
        workflows.distill({**given, "seed": 1}, tmp_path / "run", resume=True, evaluate="none")
    assert again.read(tmp_path / "run") == found  # what was refused is not asked for
    (tmp_path / "run" / again.FILE).write_text("{")
    with pytest.raises(JaxddError, match=r"command\.json is damaged; give the whole command"):
        again.read(tmp_path / "run")
    with pytest.raises(JaxddError, match=r"holds no command\.json"):
        again.read(tmp_path)


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("note", "must be package.module:function"),
        ("toys:nothing", "has no 'nothing'"),
        ("toys:NOTED", "is a list, not a function"),
        ("toys:build", r"--callback=toys:build must take \(step, metrics, state\): too many"),
        (
            "toys:stumble",
            r"--callback=toys:stumble failed, .*toys\.py:\d+: ValueError: at step 1; stopped at step 1 of 6",
        ),
    ],
)
def test_a_callback_that_cannot_be_called_is_said(name, sentence, config, tmp_path):
    with pytest.raises(JaxddError, match=sentence):
        workflows.distill(config(), tmp_path / "run", evaluate="none", callback=name)


def test_data_by_a_relative_path_are_looked_for_where_the_run_was_begun(config, tmp_path, monkeypatch):
    begun, elsewhere = tmp_path / "begun", tmp_path / "elsewhere"
    for folder in (begun, elsewhere):
        folder.mkdir()
    (begun / "own.npz").write_bytes(b"")
    asked = again.Asked({"data": {"name": "own.npz", "keep": None}}, {}, str(begun))
    monkeypatch.chdir(begun)
    again.check_data(asked.config, asked)
    monkeypatch.chdir(elsewhere)
    with pytest.raises(JaxddError, match=r"config\.data\.name is own\.npz, which lies in .*begun, where this run was"):
        again.check_data(asked.config, asked)
    again.check_data({"data": {"name": str(begun / "own.npz")}}, asked)
    again.check_data({"data": {"name": "mnist_5k"}}, asked)


def test_a_run_ends_with_its_seconds(config, tmp_path):
    outcome = workflows.distill(config(run={"steps": 10**6, "seconds": 0.01}), tmp_path / "run", evaluate="none")
    assert 0 < outcome.result["steps"] < 10**6
    assert DistilledDataset.read(outcome.path).header["config"]["steps"] == outcome.result["steps"]
    for seconds in (0, -1, "1", True):
        with pytest.raises(JaxddError, match=r"config\.run\.seconds must be a number above 0"):
            workflows.complete(config(run={"seconds": seconds}))


def test_without_validation_data(config, tmp_path):
    run = config(data={"validation": 0.0}, method={"kernel": True}, run={"validate": "auto"})
    assert "best_step" not in workflows.distill(run, tmp_path / "run", evaluate="kernel").result


def test_a_method_of_another_revision_does_not_go_on(config, tmp_path, monkeypatch):
    def run():
        return workflows.distill(config(run={"steps": 1}), tmp_path / "run", resume=True, evaluate="none")

    monkeypatch.setattr(toys.means, "revisions", {2: "it forgets", 3: "it remembers"})
    header = DistilledDataset.read(run().path).header
    assert json.loads((tmp_path / "run" / "run.json").read_text())["config"]["revision"] == 3
    assert header["config"]["revision"] == 3
    for held, sentence in (
        (
            {2: "it forgets", 3: "it remembers", 4: "it wonders"},
            "revision 3 of toys:means, and this jaxdd has revision 4 (it",
        ),
        ({}, "revision 3 of toys:means, and this jaxdd has revision 1: finish it with the jaxdd that began it"),
    ):
        monkeypatch.setattr(toys.means, "revisions", held)
        with pytest.raises(JaxddError) as caught:
            run()
        assert sentence in str(caught.value)


def test_a_run_of_which_not_all_can_be_measured_ends_with_a_report_that_says_so(tmp_path, mnist, config, caplog):
    """All of train, and more noise images of each class than there are real ones."""
    source = mnist.dataset
    rows = np.concatenate([np.flatnonzero(source.train.labels == label)[:4] for label in range(4)])
    images, labels = source.train.images[:, ::2, ::2], source.train.labels
    np.savez(tmp_path / "few.npz", x_train=images[rows], y_train=labels[rows], x_test=images[rows], y_test=labels[rows])
    few_of_them = {"name": str(tmp_path / "few.npz"), "validation": 0.0}
    method = {"init": "noise", "ipc": 5, "model": "mlp(width=4, depth=1)", "target_per_class": 4}
    workdir = tmp_path / "run"
    result = workflows.distill(config("dm", data=few_of_them, method=method, run={"steps": 1}), workdir).result
    few = "class 0 has 4 real images, fewer than 5"
    assert f"random real, hard labels will not be measured: {few}." in caplog.messages  # before the first step
    assert result["notes"] == [
        "distilled: rate fixed, no validation data",
        f"random real, hard labels: not measured: {few}",
        f"herding: not measured: {few}",
    ]
    assert result["accuracy_mean"] >= 0 and result["random_real_mean"] is result["herding_mean"] is None
    for file in ("report.html", "README.md"):
        said = (workdir / file).read_text().replace("\\", "")
        assert all(sentence in said for sentence in (few, "rate fixed, no validation data", "from all training data"))
    stored = json.loads((workdir / "results.json").read_text())
    assert [row["learning_rate"] for row in stored["rows"]] == [0.001, None, None]
