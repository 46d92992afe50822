"""A grid of settings and seeds: what each point is, side by side, interrupted, grown, with points that fail."""

import json
import os
import signal

import jax
import pytest

from jaxdd import report, workflows
from jaxdd.errors import JaxddError, RunInterrupted
from jaxdd.workflows.data import Real

RATES = {"method.rate": [0.1, 0.3]}
FILES = [f"rate={rate}/seed={seed}" for rate in (0.1, 0.3) for seed in (0, 1)]


@pytest.fixture(autouse=True, scope="module")
def without_reports():
    """Which tests of the report are about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "write_report", lambda *args, **options: [])
        yield


def swept(config, workdir, grid=RATES, seeds=2, devices=1, **options):
    how = {"evaluate": "none", "devices": jax.devices()[:devices], **options}
    return workflows.sweep(config, grid, seeds, workdir, **how)


def files(workdir, names=FILES):
    return {name: (workdir / name / workflows.FILE).read_bytes() for name in names}


def result(workdir, name):
    return json.loads((workdir / name / workflows.RESULTS).read_text())["result"]


@pytest.fixture(scope="module")
def whole(config, tiny, tmp_path_factory):
    """A finished sweep of two rates and two seeds, on one device; no test changes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXDD_DATA_DIR", str(tiny))
        workdir = tmp_path_factory.mktemp("sweep") / "whole"
        return workdir, swept(config(), workdir)


def test_a_point_is_what_distill_makes_of_its_config(config, whole, tmp_path):
    workdir, found = whole
    assert [point["directory"] for point in found["points"]] == FILES
    assert {point["status"] for point in found["points"]} == {"done"}
    compiled = [point["compile_seconds"] for point in found["points"]]
    assert min(compiled[::2]) > 5 * max(compiled[1::2])  # the second seed of a setting has nothing to compile
    alone = {**config(method={"rate": 0.3}), "seed": 1}
    outcome = workflows.distill(alone, tmp_path, evaluate="none", devices=jax.devices()[:1])
    assert outcome.path.read_bytes() == files(workdir)["rate=0.3/seed=1"]
    stored = json.loads((workdir / "rate=0.3/seed=1" / workflows.RESULTS).read_text())
    assert stored["record"]["config"] == outcome.record["config"]
    assert len(set(files(workdir).values())) == 4
    assert json.loads((workdir / workflows.SWEEP).read_text()) == json.loads(json.dumps(found))
    assert workflows.table(workdir) == found["table"] and found["table"]["columns"] == ["method.rate"]


def test_side_by_side_and_their_data_loaded_once(config, whole, tmp_path, monkeypatch):
    loads, load = [], Real.of_config
    monkeypatch.setattr(Real, "of_config", lambda section: loads.append(section) or load(section))
    told = []
    swept(config(), tmp_path, devices=2, tell=lambda point, *_: told.append(point["directory"]))
    assert files(tmp_path) == files(whole[0]) and sorted(told) == FILES and len(loads) == 1
    assert [result(tmp_path, name)["devices"] for name in FILES] == [1] * 4


@pytest.mark.parametrize("devices", [1, 2])
def test_a_signal_ends_it_and_it_goes_on_and_may_have_grown(devices, config, whole, tmp_path):
    """Whichever point is done first sends the signal, from a thread where several devices have one each."""

    def stop(point, number, total):
        assert total == 2
        os.kill(os.getpid(), signal.SIGTERM)

    def terminate(signum, frame):
        raise RunInterrupted("interrupted.", signum)

    before = signal.signal(signal.SIGTERM, terminate)  # as the command line has it
    try:
        with pytest.raises(RunInterrupted, match=r"of 2 points are done; the same command with --resume goes on\."):
            swept(config(), tmp_path, grid={"method.rate": [0.1]}, devices=devices, tell=stop)
    finally:
        signal.signal(signal.SIGTERM, before)
    points = json.loads((tmp_path / workflows.SWEEP).read_text())["points"]
    results = [tmp_path / point["directory"] / workflows.RESULTS for point in points if point["status"] == "done"]
    written = [path.stat().st_mtime_ns for path in results]
    found = swept(config(), tmp_path, devices=devices, resume=True)
    assert written == [path.stat().st_mtime_ns for path in results] and 1 <= len(written) <= devices
    assert sum(point["taken"] for point in found["points"]) == len(written)
    assert files(tmp_path) == files(whole[0])


def test_a_point_that_is_half_done_goes_on(config, whole, tmp_path):
    for steps, resumed in ((3, 0), (6, 3)):
        run = config(run={"steps": steps})
        swept(run, tmp_path, grid={"method.rate": [0.1]}, seeds=1, resume=resumed > 0)
        assert result(tmp_path, FILES[0])["resumed_from"] == resumed
    assert files(tmp_path, FILES[:1]) == files(whole[0], FILES[:1])


def test_what_was_not_measured_is_measured(config, tmp_path, trained):
    run = config(method={"kernel": True}, run={"validate": "auto", "validate_every": 6})
    for level, taken in (("none", False), ("kernel", False), ("none", True), ("quick", False), ("quick", True)):
        found = swept(run, tmp_path, grid={}, seeds=[1], evaluate=level, resume=True)
        assert [point["taken"] for point in found["points"]] == [taken], level
    (row,) = found["table"]["rows"]
    assert row["test"].keys() == {"kernel_accuracy", "accuracy"} and row["validation"].keys() == {"kernel_accuracy"}
    text, csv = ((tmp_path / name).read_text() for name in ("sweep.md", "sweep.csv"))
    assert f"{100 * row['test']['kernel_accuracy']['mean']:.1f} %" in text
    assert str(row["validation"]["kernel_accuracy"]["mean"]) in csv.splitlines()[1].split(",")


def test_a_point_that_fails_ends_nothing(config, tmp_path, monkeypatch, caplog):
    load = Real.of_config

    def of_config(section):
        if section["split_seed"] == 1:
            raise TypeError("a mistake\nof ours")
        return load(section)

    monkeypatch.setattr(Real, "of_config", of_config)
    grid = {"method.explode_at": [3.0, 1e9], "data.split_seed": [1, 0]}
    found = swept(config(), tmp_path, grid=grid, seeds=1)
    assert [(point["settings"]["data.split_seed"], point["status"]) for point in found["points"]] == [
        (1, "failed"),
        (1, "failed"),
        (0, "failed"),
        (0, "done"),
    ]
    assert found["points"][0]["sentence"] == "TypeError: a mistake" and "Traceback" in caplog.text
    assert "step 3 gave values that are not finite" in found["points"][2]["sentence"]
    again = workflows.table(tmp_path)
    assert again["budget"]["failed"] == 3 and again["rows"] == found["table"]["rows"]
    failed = {row["failed"][0]["sentence"] for row in again["rows"] if not row["n"]}
    assert {point["sentence"] for point in found["points"] if point["sentence"]} == failed


@pytest.mark.parametrize(
    ("grid", "seeds", "sentence"),
    [
        ({"method.rat": [0.1]}, 1, "method.rat=0.1: "),
        ({"method.rate": ["much"]}, 1, "method.rate=much: rate of Means must be float"),
        ({"run.step": [1]}, 1, "run.step=1: unknown field of config.run 'step'; did you mean 'steps'"),
        ({"runs.steps": [1]}, 1, "runs.steps=1: unknown section of the config 'runs'; did you mean 'run'"),
        ({"method.name.x": [1]}, 1, "'method.name.x' of the grid: config.name holds no fields"),
        ({"steps": [1]}, 1, "a field of the grid is named SECTION.FIELD, as 'method.ipc', got 'steps'"),
        ({"seed": [1]}, 1, "seeds are no field of the grid"),
        ({"method.rate": []}, 1, "method.rate of the grid must be a list of values, got []"),
        ({"method.rate": 0.1}, 1, "method.rate of the grid must be a list of values, got 0.1"),
        ({"method.rate": [0.1, 0.2, 0.1]}, 1, "method.rate of the grid has 0.1 2 times: name it once"),
        (RATES, 0, "seeds must be an integer of at least 1, got 0"),
        (RATES, [0, 0], "seeds must be different numbers, at least one, got [0, 0]"),
        (RATES, [-1], "seeds must be an integer from 0"),
    ],
)
def test_what_is_wrong_is_said_before_a_point_is_begun(grid, seeds, sentence, config, tmp_path):
    with pytest.raises(JaxddError) as caught:
        swept(config(), tmp_path / "sweep", grid=grid, seeds=seeds)
    assert sentence in str(caught.value)
    assert not (tmp_path / "sweep").exists()


def test_a_directory_of_somebody_else_or_of_another_sweep(config, whole, tmp_path):
    (tmp_path / "sweep.md").write_text("MINE")
    with pytest.raises(JaxddError, match=r"holds sweep\.md but no sweep of jaxdd"):
        swept(config(), tmp_path, resume=True)
    with pytest.raises(JaxddError, match="already holds a sweep; add --resume"):
        swept(config(), whole[0])
