"""The command line on small real data: what it makes, and the sentence for everything that can be wrong."""

import ctypes
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from toys import once

from jaxdd import methods, workflows
from jaxdd.cli import config as configs
from jaxdd.cli import main
from jaxdd.cli.distill import EVALUATE
from jaxdd.synthetic import DistilledDataset

TINY = ["--config=kip", "--config.data.name=tiny", "--config.method.target_batch=64", "--config.run.validate_every=10"]


MEANS = """
from jaxdd.cli import template

def get_config():
    return template("toys:means", data={"name": "tiny"}, run={"steps": 20})
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, mnist):
    """A data directory with 600 real digits at half their size as `tiny.npz`."""
    folder = tmp_path_factory.mktemp("data")
    source = mnist.dataset
    arrays = {"x_train": source.train.images[::7, ::2, ::2], "y_train": source.train.labels[::7]}
    arrays |= {"x_test": source.test.images[::10, ::2, ::2], "y_test": source.test.labels[::10]}
    np.savez(folder / "small.npz", x=np.zeros((40, 14, 14, 1), np.uint8), y=np.arange(40) % 4)
    pixels = np.linspace(0, 255, 40 * 16, dtype=np.float32).reshape(40, 4, 4, 1)
    np.savez(folder / "mnist.npz", x=pixels, y=np.arange(40) % 4)
    (folder / "means.py").write_text(MEANS)
    (folder / "begun").mkdir()
    (folder / "begun" / "run.json").write_text('{"config": {"method": {"name": "idc"}}, "seed": 0}')
    np.savez(folder / "tiny.npz", **arrays)
    return folder


@pytest.fixture(autouse=True)
def data_dir(tiny, monkeypatch):
    monkeypatch.setenv("JAXDD_DATA_DIR", str(tiny))


def distill(workdir, *arguments, steps=20):
    return ["distill", *TINY, f"--config.run.steps={steps}", f"--workdir={workdir}", *arguments]


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """The directory of one finished run."""
    workdir = tmp_path_factory.mktemp("run") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXDD_DATA_DIR", str(tiny))
        assert main(distill(workdir, "--evaluate=quick", "--config.evaluation.networks=2")) == 0
    return workdir


@pytest.mark.endurance
def test_a_run_goes_on_by_its_directory(tiny, tmp_path, capsys):
    run, whole = tmp_path / "run", tmp_path / "whole"
    line = ["distill", f"--config={tiny / 'means.py'}", "--config.method.kernel", "--evaluate=none"]
    assert main([*line, f"--workdir={run}"]) == 0
    assert main([*line, f"--workdir={whole}", "--config.run.steps=30"]) == 0
    capsys.readouterr()
    assert main(["resume", str(run), "--json", "--config.run.steps=30"]) == 0
    result = result_of(capsys)
    assert result["resumed_from"] == 20 and result["steps"] == 30 and "kernel_accuracy" not in result
    files = [folder / workflows.FILE for folder in (run, whole)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert main(["resume", str(run), "--evaluate=kernel", "--json"]) == 0
    assert result_of(capsys)["kernel_accuracy"] > 0.3
    # What a run has left of its config is a config; that of its results is run, too.
    again = tmp_path / "again"
    assert main(["distill", f"--config={run / 'results.json'}", f"--workdir={again}", "--evaluate=none"]) == 0
    assert (again / workflows.FILE).read_bytes() == files[0].read_bytes()
    capsys.readouterr()
    assert configs.load(str(run / "command.json")) == configs.load(str(run / "results.json"))
    for line, sentence in (
        (["resume"], "exactly one directory of a run"),
        (["resume", str(tmp_path)], "no run of jaxdd has begun there"),
        (["resume", str(run), "--config=kip"], "the run has its config and its directory"),
        (["resume", str(run), "--config.method.rate=0.5"], "config.method.rate is"),
        (["distill", f"--config={run / 'run.json'}", f"--workdir={tmp_path / 'x'}"], "holds no config"),
    ):
        assert main(line) == 2
        assert sentence in capsys.readouterr().err


def result_of(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_run_leaves_everything_it_promises(finished):
    names = {path.name for path in finished.iterdir()}
    assert {"distilled.safetensors", "report.html", "images.png", "README.md", "results.json", "metrics.jsonl"} <= names
    assert {"load.py", "train_torch.py", "snapshots.safetensors"} <= names
    result = json.loads((finished / "results.json").read_text())["result"]
    assert 0 <= result["random_real_mean"] <= 1 and result["networks"] == 2
    assert result["kernel_accuracy"] > result["random_real_kernel_accuracy"] - 0.1
    header = DistilledDataset.read(finished / "distilled.safetensors").header
    assert header["config"]["method"]["ipc"] == 1 and header["data"]["name"] == "tiny"
    assert str(finished.parent) not in json.dumps(header)  # no path in it


def test_json_is_the_last_line_and_repeats_itself(tiny, tmp_path, capsys):
    line = ["distill", f"--config={tiny / 'means.py'}", "--config.method.kernel", "--evaluate=kernel", "--json"]
    results = []
    for name in ("a", "b"):
        assert main([*line, f"--workdir={tmp_path / name}"]) == 0
        results.append(result_of(capsys))
    for key in ("kernel_accuracy", "random_real_kernel_accuracy", "num_bits", "resumed_from"):
        assert results[0][key] == results[1][key]
    assert results[0]["seconds"] > 0 and results[0]["devices"] >= 1
    content = [(tmp_path / name / "distilled.safetensors").read_bytes() for name in ("a", "b")]
    assert content[0] == content[1]


@pytest.mark.endurance
def test_evaluate_by_directory_or_file(finished, capsys):
    small = ["--model=mlp(width=8, depth=1)", "--seeds=1"]
    for source, how in ((finished, small), (finished / "distilled.safetensors", ["--model=mlp", "--seeds=2"])):
        assert main(["evaluate", str(source), *how, "--protocol=quick", "--json"]) == 0
        result = result_of(capsys)
        assert {"accuracy_mean", "accuracy_std", "random_real_mean", "kernel_accuracy"} <= set(result)
    recorded = json.loads((finished / "results.json").read_text())["result"]
    assert result["accuracy_mean"] == pytest.approx(recorded["accuracy_mean"], abs=1e-6)


def test_evaluate_by_several_models(finished, tmp_path, capsys):
    """On a copy: what is measured is kept with the run."""
    run = shutil.copytree(finished, tmp_path / "run")
    models = "--models=mlp(width=8, depth=1); mlp(width=4, depth=1)"
    assert main(["evaluate", str(run), models, "--seeds=1", "--protocol=quick", "--learning_rate=0.001", "--json"]) == 0
    captured = capsys.readouterr()
    printed = json.loads(captured.out.splitlines()[-1])["architectures"]
    assert json.loads((run / "results.json").read_text())["architectures"] == printed
    assert [column["model"] for column in printed["columns"]] == ["mlp(width=8, depth=1)", "mlp(width=4, depth=1)"]
    assert printed["rows"][0]["name"] == "distilled" and "mlp(width=4, depth=1)" in captured.err


def test_show_export_and_list(finished, tmp_path, capsys):
    assert main(["show", str(finished)]) == 0
    assert "tiny" in capsys.readouterr().out
    assert main(["export", str(finished), f"--npz={tmp_path / 'a.npz'}", f"--png={tmp_path / 'png'}"]) == 0
    assert np.load(tmp_path / "a.npz", allow_pickle=False)["images"].shape == (10, 14, 14, 1)
    assert len(list((tmp_path / "png").rglob("*.png"))) == 10
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("kip", "tiny", "mnist_5k", "convnet", "quick"))
    assert main(["list", "--methods"]) == 0
    assert capsys.readouterr().out.split() == sorted(methods.available())
    assert main(["--help"]) == 0 and main(["distill", "--help"]) == 0


def test_own_method_data_and_model_by_dotted_path(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_parts.py").write_text(
        "import numpy as np, jax, jax.numpy as jnp\n"
        "from toys import class_means\n"
        "def method(rate): return class_means(rate)\n"
        "def digits():\n"
        "    labels = np.arange(200) % 4\n"
        "    rng = np.random.default_rng(0)\n"
        "    return (rng.normal(size=(200, 6, 6, 1)) + labels[:, None, None, None]).astype(np.float32), labels\n"
        "def model(image_shape, num_classes):\n"
        "    size = int(np.prod(image_shape))\n"
        "    init = lambda key: {'w': 0.1 * jax.random.normal(key, (size, num_classes))}\n"
        "    return init, lambda theta, x: x.reshape(len(x), -1) @ theta['w']\n"
    )
    monkeypatch.chdir(tmp_path)
    line = ["distill", f"--config={tmp_path / 'own_config.py'}", "--workdir=out", "--evaluate=full", "--json"]
    (tmp_path / "own_config.py").write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(): return ConfigDict({'method': {'name': 'own_parts:method', 'rate': 0.1},"
        " 'data': {'name': 'own_parts:digits'}, 'run': {'steps': 5},"
        " 'evaluation': {'model': 'own_parts:model', 'protocol': 'quick', 'networks': 2}})\n"
    )
    assert main(line) == 0
    assert result_of(capsys)["num_images"] == 4


def test_the_levels_of_evaluation_are_those_there_are():
    assert EVALUATE == workflows.EVALUATIONS


def config_file(folder: pathlib.Path, body: str) -> str:
    path = folder / "bad.py"
    path.write_text(body)
    return f"--config={path}"


BAD = {
    "no command": (["distil"], "unknown command 'distil'; did you mean 'distill'"),
    "no config": (["distill", "--workdir=DIR"], "--config is missing"),
    "no workdir": (["distill", "--config=kip"], "--workdir is missing"),
    "unknown option": (["distill", "--confg=kip"], "did you mean '--config'"),
    "unknown config": (["distill", "--config=kpi", "--workdir=DIR"], "did you mean 'kip'"),
    "missing config file": (["distill", "--config=/no/such.py", "--workdir=DIR"], "unknown config"),
    "unknown field": (["distill", *TINY, "--config.run.stpes=3", "--workdir=DIR"], "did you mean 'run.steps'"),
    "wrong type": (["distill", *TINY, "--config.run.steps=many", "--workdir=DIR"], "many"),
    "stray argument": (["distill", *TINY, "--workdir=DIR", "stray"], "unexpected argument 'stray'"),
    "wrong level": (["distill", *TINY, "--workdir=DIR", "--evaluate=some"], "one of none, kernel, quick, full"),
    "unknown preset": (["distill", "--config=kip:conf", "--workdir=DIR"], "did you mean 'conv'?"),
    "another method's field": (
        ["distill", "--config=dd", "--config.method.classes=3", "--workdir=DIR"],
        "unknown field of the config 'method.classes'",
    ),
    "as distilled, but nothing learned": (
        ["distill", *TINY, "--workdir=DIR", "--evaluate=full", "--config.evaluation.protocol=as-distilled"],
        "learned no learning rates",
    ),
    "another network than the one that is taught": (
        ["distill", "--config=dd", "--workdir=DIR", "--config.evaluation.model=mlp"],
        "one initialisation of another network",
    ),
    "impossible network": (
        ["distill", *TINY, "--workdir=DIR", "--evaluate=full", "--config.evaluation.model=convnet(width=0)"],
        "width of model 'convnet' must be an integer of at least 1",
    ),
    "window that does not fit": (
        ["distill", "--config=rat_bptt", "--workdir=DIR", "--config.method.place=full"],
        "another than full unless window is 60",
    ),
    "ipc 0": (["distill", *TINY, "--workdir=DIR", "--config.method.ipc=0"], "ipc of KIP must be at least 1"),
    "ipc too large": (["distill", *TINY, "--workdir=DIR", "--config.method.ipc=99999"], "has only"),
    "no steps": (["distill", *TINY, "--workdir=DIR", "--config.run.steps=0"], "at least 1"),
    "unknown method": (["distill", *TINY, "--workdir=DIR", "--config.method.name=kpi"], "did you mean 'kip'"),
    "unknown labels": (
        ["distill", *TINY, "--workdir=DIR", "--config.method.labels=hard"],
        "one of fixed, learned, solve",
    ),
    "unknown data": (["distill", *TINY, "--workdir=DIR", "--config.data.name=tinny"], "did you mean 'tiny'"),
    "unknown transform": (
        ["distill", *TINY, "--workdir=DIR", "--config.data.transform=standardise"],
        "did you mean 'standardize'",
    ),
    "unknown model": (
        ["distill", *TINY, "--workdir=DIR", "--evaluate=full", "--config.evaluation.model=convnett"],
        "did you mean 'convnet'",
    ),
    "unknown protocol": (
        ["distill", *TINY, "--workdir=DIR", "--evaluate=full", "--config.evaluation.protocol=defualt"],
        "did you mean 'default'",
    ),
    "diverges": (
        ["distill", "--config=FOLDER/means.py", "--workdir=DIR", "--config.method.explode_at=3.0"],
        "not finite in",
    ),
    "negative log_every": (["distill", *TINY, "--workdir=DIR", "--config.run.log_every=-5"], "at least 1"),
    "unknown validation": (
        ["distill", *TINY, "--workdir=DIR", "--config.run.validate=networks"],
        "unknown config.run.validate 'networks'; did you mean 'network'",
    ),
    "nothing to validate on": (
        ["distill", *TINY, "--workdir=DIR", "--config.run.validate=network", "--config.data.validation=0.0"],
        "config.run.validate is 'network', but no data are held out: hold some out (data.validation=0.1), or leave it",
    ),
    "no networks": (["distill", *TINY, "--workdir=DIR", "--config.evaluation.networks=0"], "networks must be"),
    "huge seed": (["distill", *TINY, "--workdir=DIR", "--config.seed=99999999999999999999"], "2**32"),
    "empty workdir": (["distill", *TINY, "--workdir="], "--workdir is missing"),
    "not a config": (["distill", f"--config={__file__}x", "--workdir=DIR"], "unknown config"),
    "another's path": (["distill", "--config=/nope/configs/kip.py", "--workdir=DIR"], "unknown config"),
    "no such validation": (["distill", *TINY, "--workdir=DIR", "--config.data.validation=1.5"], "validation"),
    "no tensorboard": (["distill", *TINY, "--workdir=DIR", "--tensorboard"], "tensorboardX"),
    "no validation to choose on": (
        ["distill", *TINY, "--workdir=DIR", "--evaluate=full", "--config.data.validation=0.0"],
        "hold some out (data.validation=0.1), fix the rate, or take a protocol that has one, 'dc' for one; --evaluate=",
    ),
    "nothing published": (
        ["distill", *TINY, "--workdir=DIR", "--config.data.transform=published"],
        "no constants are published for data set 'tiny'",
    ),
    "published for other pixels": (
        ["distill", *TINY, "--workdir=DIR", "--config.data.name=FOLDER/mnist.npz", "--config.data.transform=published"],
        "published for mnist are of images in [0, 1], but its pixels are in [0.0, 255.0]",
    ),
    "begun with another revision": (
        ["distill", "--config=idc", "--workdir=FOLDER/begun", "--resume"],
        "was begun with revision 1 of idc, and this jaxdd has revision 2 (an epoch of its network rounds its steps up",
    ),
    "rate is no number": (["evaluate", "FINISHED", "--model=mlp", "--learning_rate=nan"], "learning rate"),
    "other classes": (["evaluate", "FINISHED", "--model=mlp", "--data=small"], "distilled"),
    "no such data": (["evaluate", "FINISHED", "--data=nowhere"], "nowhere"),
    "models twice": (
        ["evaluate", "FINISHED", "--models=mlp", "--models=lenet"],
        "--models is there 2 times: give it once",
    ),
    "model and models": (["evaluate", "FINISHED", "--model=mlp", "--models=mlp;lenet"], "give one of them"),
    "a model that is none": (["evaluate", "FINISHED", "--models=mlp;;lenet"], "models must be names of networks"),
    "no file": (["show", "DIR/none.safetensors"], "no such file"),
    "two files": (["show", "a", "b"], "exactly one"),
    "not a distilled file": (["show", __file__], "not a distilled set"),
    "export nowhere": (["export", "x"], "--npz"),
    "no seeds": (["evaluate", "DIR", "--seeds=0"], "seeds"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(case, finished, tiny, tmp_path, capsys):
    line, message = BAD[case]
    line = line if "twice" in case else once(line)
    workdir = tmp_path / "run"
    places = {"DIR": workdir, "FINISHED": finished, "FOLDER": tiny}
    for word, place in places.items():
        line = [argument.replace(word, str(place)) for argument in line]
    assert main(line) == 2
    captured = capsys.readouterr()
    *told, said = captured.err.splitlines()  # before it at most what was done
    assert said.startswith("jaxdd: ") and not any("jaxdd" in line for line in told), captured.err
    assert message in captured.err and "Traceback" not in captured.err
    assert captured.out == ""
    if case != "diverges":  # that one has saved its last good state
        assert not workdir.exists()


def test_bad_configs_of_ones_own(tmp_path, capsys):
    (tmp_path / "broken.py").write_text("def get_config(: pass\n")
    (tmp_path / "imports.py").write_text("import no_such_module\ndef get_config(): pass\n")
    (tmp_path / "number.py").write_text("def get_config(): return 5\n")
    for name, message in [("broken", "SyntaxError"), ("imports", "no_such_module"), ("number", "got int")]:
        assert main(["distill", f"--config={tmp_path / name}.py", f"--workdir={tmp_path / 'run'}"]) == 2
        captured = capsys.readouterr()
        assert message in captured.err and captured.err.count("\n") == 1
    for body, message in [
        ("{'method': {'name': 'kip', 'ipc': 'a'}}", "ipc of KIP must be int"),
        ("{'method': {'name': 'kip'}, 'data': 5}", "config.data must hold fields"),
        ("{'method': {'name': 'kip'}, 'seed': 'a'}", "seed must be an integer"),
        ("{'method': {'name': 'kip'}, 'run': {'steps': 2.5}}", "steps must be an integer"),
        ("{'method': {'name': 'jaxdd.methods:build'}}", "cannot be built"),
        ("{'method': {'name': 'jaxdd.methods:available'}}", "must return a jaxdd.Method"),
        ("{'metod': {}}", "did you mean 'method'"),
        ("{'method': {}}", "config.method.name is missing"),
        ("{'method': {'name': 'kip'}, 'data': {'nam': 'x'}}", "did you mean 'name'"),
    ]:
        text = f"from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({body})\n"
        assert main(["distill", config_file(tmp_path, text), f"--workdir={tmp_path / 'run'}"]) == 2
        assert message in capsys.readouterr().err


def test_evaluate_refuses_other_data_unless_asked(finished, tiny, tmp_path, monkeypatch, capsys):
    other = dict(np.load(tiny / "tiny.npz"))
    other["x_test"] = other["x_test"][::-1]
    np.savez(tmp_path / "tiny.npz", **other)
    monkeypatch.setenv("JAXDD_DATA_DIR", str(tmp_path))
    line = ["evaluate", str(finished), "--model=mlp(width=8, depth=1)", "--protocol=quick", "--seeds=1"]
    assert main(line) == 2
    assert "not the data" in capsys.readouterr().err
    assert main([*line, "--data=tiny"]) == 0


def command(workdir, *arguments, steps=400):
    return [sys.executable, "-m", "jaxdd", *distill(workdir, "--evaluate=none", *arguments, steps=steps)]


def sha256(workdir):
    return hashlib.sha256((workdir / "distilled.safetensors").read_bytes()).hexdigest()


@pytest.mark.endurance
def test_killed_at_random_moments_gives_the_same_hash(tmp_path):
    often = ["--config.run.checkpoint_seconds=0.0", "--config.run.log_every=5", "--resume"]
    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    draw, kills = random.Random(0), 0
    while kills < 5:
        process = subprocess.Popen(
            command(tmp_path / "part", *often), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        checkpoints = tmp_path / "part" / "checkpoints"
        known = set(os.listdir(checkpoints)) if checkpoints.exists() else set()
        while process.poll() is None and not (checkpoints.exists() and set(os.listdir(checkpoints)) - known):
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, errors
            break  # it was done before we came
        kills += 1
    assert kills >= 3
    subprocess.run(command(tmp_path / "part", *often), check=True, capture_output=True)
    assert sha256(tmp_path / "part") == sha256(tmp_path / "whole")


@pytest.mark.endurance
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_exits_with_a_hint(tmp_path, number):
    process = subprocess.Popen(command(tmp_path / "run", steps=100_000), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert b"--resume goes on" in errors and b"Traceback" not in errors
    assert any(name.isdigit() for name in os.listdir(tmp_path / "run" / "checkpoints"))


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of four MiB, where mounting is allowed."""
    libc, folder = ctypes.CDLL(None, use_errno=True), tmp_path / "disk"
    folder.mkdir()
    if libc.mount(b"jaxdd", str(folder).encode(), b"tmpfs", 0, b"size=4m") != 0:
        pytest.skip("mounting a small file system needs root")
    yield folder
    libc.umount2(str(folder).encode(), 2)


@pytest.mark.endurance
def test_full_disk_is_one_sentence(small_disk, capsys):
    (small_disk / "filler").write_bytes(bytes(4_000_000))
    assert main(distill(small_disk / "run", "--config.method.ipc=20", "--evaluate=none")) == 2
    captured = capsys.readouterr()
    *steps, said = captured.err.splitlines()
    assert "disk is full" in said and all(line.startswith("step ") for line in steps)
    assert not (small_disk / "run" / "distilled.safetensors").exists()
    (small_disk / "filler").unlink()
    shutil.rmtree(small_disk / "run")
    assert main(distill(small_disk / "run", "--evaluate=none", steps=3)) == 0
