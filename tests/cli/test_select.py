"""`jaxdd select`."""

import json

import pytest

from jaxdd.cli import config as configs
from jaxdd.cli.main import main
from jaxdd.selection import Selection
from jaxdd.workflows.select import complete


@pytest.mark.parametrize("name", configs.rules())
def test_every_rule_that_comes_along_is_complete(name):
    config = configs.load(configs.rules()[name]).to_dict()
    assert complete(config) == config


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--config=herdin"], "did you mean 'herding'"),
        (["--config=kip"], "kip distils a set: jaxdd distill --config=kip"),
        (["--config=herding"], "--workdir is missing"),
        (["--config=herding", "--workdir=run"], "nothing says how many"),
        (["--config=herding", "--workdir=run", "--ipc=2", "--fraction=0.5"], "give one of them"),
        (["--config=herding", "--workdir=run", "--ipc=2", "--config.select.penalty=3"], "unknown field of the config"),
        (["--config=herding", "--workdir=run", "--ipc=2", "--baselines=herdin"], "unknown baseline 'herdin'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_read(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["select", *arguments]) == 2
    assert sentence in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_distill_sends_a_rule_to_where_it_belongs(capsys):
    assert main(["distill", "--config=herding", "--workdir=run"]) == 2
    assert "herding selects real examples: jaxdd select --config=herding" in capsys.readouterr().err


def test_a_selection_from_the_command_line(tmp_path, capsys):
    arguments = ["--config=herding", "--config.data.name=mnist_5k", "--ipc=2", "--evaluate=none", "--json"]
    assert main(["select", *arguments, f"--workdir={tmp_path / 'run'}"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["method"] == "herding" and result["num_images"] == 20
    assert len(Selection.read(tmp_path / "run" / "selection.safetensors").rows) == 20
    assert main(["show", str(tmp_path / "run")]) == 0
    assert "herding" in capsys.readouterr().out
