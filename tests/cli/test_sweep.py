"""Sweeps and tables as people type them, and what they are told."""

import csv
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from absl import flags

from jaxdd import report
from jaxdd.cli import main, sweep, swept
from jaxdd.errors import JaxddError

MEANS = """
from jaxdd.cli import template

def get_config():
    return template("toys:means", data={"name": "tiny"}, run={"steps": 4}, method={"kernel": True})
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, mnist):
    """A data directory with 600 real digits at half their size, and a config of class means on them."""
    folder, source = tmp_path_factory.mktemp("data"), mnist.dataset
    arrays = {"x_train": source.train.images[::7, ::2, ::2], "y_train": source.train.labels[::7]}
    arrays |= {"x_test": source.test.images[::10, ::2, ::2], "y_test": source.test.labels[::10]}
    np.savez(folder / "tiny.npz", **arrays)
    (folder / "means.py").write_text(MEANS)
    return folder


@pytest.fixture(autouse=True)
def data_dir(folder, monkeypatch):
    monkeypatch.setenv("JAXDD_DATA_DIR", str(folder))
    monkeypatch.setattr(report, "write_report", lambda *args, **options: [])


def parsed(*line):
    values = flags.FlagValues()
    sweep.define(values)
    rest = sweep.parse(values, "sweep", list(line))
    return values, rest


def test_values_are_what_their_fields_take():
    values, rest = parsed(
        "--config=dm",
        "--sweep.method.learning_rate=1,2e-1",
        "-sweep.method.model=convnet(width=32,depth=3),mlp",
        "--sweep.method.ipc=1,10,(2,1)",
        "--sweep.data.stream=true,False",
        "--sweep.run.log_every=None,5",
        "--sweep.evaluation.model=convnet(norm='a,b')",
        "--config.seed=3",
        "--seeds=0,7",
    )
    assert values.sweep == {
        "method.learning_rate": [1.0, 0.2],
        "method.model": ["convnet(width=32,depth=3)", "mlp"],
        "method.ipc": [1, 10, (2, 1)],
        "data.stream": [True, False],
        "run.log_every": [None, 5],
        "evaluation.model": ["convnet(norm='a,b')"],
    }
    assert isinstance(values.sweep["method.learning_rate"][0], float)
    assert (
        values.config.seed == 3
        and values.config.method.learning_rate == parsed("--config=dm")[0].config.method.learning_rate
    )
    assert values.seeds == "0,7" and rest == []


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ["a"]),
        ("a, b", ["a", "b"]),
        ("f(a,b),[c,{d,e}]", ["f(a,b)", "[c,{d,e}]"]),
        ("'a,(b',c", ["'a,(b'", "c"]),
        ("(0,1),(1,2)", ["(0,1)", "(1,2)"]),
    ],
)
def test_lists_are_parted_at_their_own_commas(text, parts):
    assert swept.split(text, "--x") == parts


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["--sweep.method.ipcc=3"], "unknown field of the config 'method.ipcc'; did you mean 'method.ipc'?"),
        (["--sweep.method=3"], "config.method is a section"),
        (["--sweep.method.depth=1,x"], "--sweep.method.depth=x: this takes a whole number"),
        (["--sweep.method.ipc=1,,2"], "--sweep.method.ipc=1,,2: a value is missing beside a comma"),
        (["--sweep.method.ipc="], "--sweep.method.ipc=: a value is missing"),
        (["--sweep.method.ipc"], "--sweep.method.ipc needs its values: --sweep.method.ipc=a,b,c"),
        (["--sweep.method.ipc=(1,2"], "--sweep.method.ipc=(1,2: a ) is missing"),
        (["--sweep.method.ipc=1", "--sweep.method.ipc=2"], "--sweep.method.ipc is there 2 times: give it once"),
        (["--sweep.method.ipc=1", "--config.method.ipc=2"], "method.ipc is both set and swept"),
        (["--sweep.seed=1,2"], "seeds are swept by --seeds=5"),
        (["--seeds=1", "--seeds=2"], "--seeds is there 2 times: give it once"),
        (["--swep.method.ipc=1"], "unknown option '--swep.method.ipc'"),
    ],
)
def test_what_is_typed_wrongly(line, sentence):
    with pytest.raises(JaxddError) as caught:
        parsed("--config=kip", *line)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["sweep"], "--config is missing: jaxdd sweep --config=kip"),
        (["sweep", "--config=kip"], "--workdir is missing: jaxdd sweep --config=kip"),
        (["sweep", "--config=kip", "--workdir=DIR", "--sweep=3"], "--sweep needs a field"),
        (["sweep", "--config=kip", "--workdir=DIR", "--seeds=few"], "--seeds=few: this takes how many, as in 5, or"),
        (["sweep", "--config=kip", "--workdir=DIR", "--sweep.method.ipc=1,0"], "method.ipc=0: ipc of KIP must be at"),
        (["table"], "give at least one directory of runs"),
        (["table", "DIR"], "is no directory of runs"),
        (["table", "DIR", "--format=html"], "--format=html: this takes one of text, csv, markdown, json"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(line, sentence, tmp_path, capsys):
    assert main([argument.replace("DIR", str(tmp_path / "run")) for argument in line]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("jaxdd: ") and captured.err.count("\n") == 1 and captured.out == ""
    assert sentence in captured.err and not (tmp_path / "run").exists()


@pytest.mark.endurance
def test_a_sweep_with_a_point_that_fails_and_its_table(folder, tmp_path, capsys):
    line = ["sweep", f"--config={folder / 'means.py'}", f"--workdir={tmp_path}", "--evaluate=kernel", "--json"]
    line += ["--sweep.method.explode_at=3,1e9", "--seeds=2", "--devices=1"]
    assert main(line) == 2
    captured = capsys.readouterr()
    found = json.loads(captured.out.splitlines()[-1])
    assert [point["status"] for point in found["points"]] == ["failed"] * 2 + ["done"] * 2
    assert captured.err.splitlines()[-1] == "jaxdd: 2 of 4 points failed; --resume tries them again."
    for said in (
        "[1/4] explode_at=3.0/seed=0: step 3 gave values that are not finite",
        "Failed, explode_at=3.0, seed=0",
        "selection on test data",
        "[4/4] explode_at=1000000000.0/seed=1",
    ):
        assert said in captured.err
    (exploded, row) = found["table"]["rows"]
    assert exploded["n"] == 0 and row["n"] == 2 and row["test"]["kernel_accuracy"]["std"] is not None
    printed = {}
    for kind in ("text", "csv", "markdown", "json"):
        assert main(["table", str(tmp_path), f"--format={kind}"]) == 0
        printed[kind] = capsys.readouterr().out
    mean = row["test"]["kernel_accuracy"]["mean"]
    assert json.loads(printed["json"]) == found["table"]
    assert float(list(csv.DictReader(io.StringIO(printed["csv"])))[1]["test/kernel_accuracy/mean"]) == mean
    assert all(f"{100 * mean:.1f} ±" in printed[kind].replace("\xa0", " ") for kind in ("text", "markdown"))


@pytest.mark.endurance
@pytest.mark.parametrize("devices", [1, 2])
def test_stopped_in_the_middle_and_gone_on_with_gives_the_same_bytes(devices, folder, tmp_path):
    """Also on two devices side by side, whose files are those of one."""
    tests = pathlib.Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)])}
    environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    line = [sys.executable, "-m", "jaxdd", "sweep", f"--config={folder / 'means.py'}", "--evaluate=none"]
    line += ["--sweep.method.rate=0.1,0.2", "--seeds=2", "--config.run.steps=500", "--config.run.log_every=5"]

    def begun(workdir, *more, forced=environment):
        return subprocess.Popen(
            [*line, f"--workdir={workdir}", *more],
            env=forced,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    one = {**environment, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    whole = begun(tmp_path / "whole", forced=one)
    assert whole.communicate(timeout=300) and whole.returncode == 0
    interruptions, resume = 0, []
    while True:
        process = begun(tmp_path / "part", *resume)
        known = len(list((tmp_path / "part").glob("rate=*/seed=*/metrics.jsonl")))
        until = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < until:
            if len(list((tmp_path / "part").glob("rate=*/seed=*/metrics.jsonl"))) > known + 1:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
        if process.returncode == 0:
            break
        assert process.returncode == 128 + signal.SIGTERM, errors
        assert "of 4 points are done; the same command with --resume goes on." in errors and "Traceback" not in errors
        interruptions, resume = interruptions + 1, ["--resume"]
    assert interruptions >= 2
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("distilled.safetensors"))
    assert len(files) == 4
    for file in files:
        assert (tmp_path / "part" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
