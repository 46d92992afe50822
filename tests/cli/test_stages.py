"""Stages through the command line: what they will cost, what they left, and room made again."""

import json

import numpy as np
import pytest

from jaxdd.cli import main

OWN = '''
import jax.numpy as jnp
import optax
from jaxdd import training
from jaxdd.data import uniform_sampler
from jaxdd.types import Distilled, Method, Recipe, Record, Stage


def probed():
    """Images that follow batches, beside a network that was trained before."""
    trained = training.supervised("mlp(width=4)", optax.sgd(0.1), batch_size=100)
    facts = {"model": "mlp(width=4)", "rate": 0.1}
    stage = Stage("probe", trained, steps=4, config=facts, record=Record(2, lambda state: state.network.theta))

    def bind(spec):
        assert spec.length("probe") == 3

        def update(key, state, batch):
            return {"images": state["images"] + 0.1 * batch.images.mean(0)[None]}, {"loss": batch.images.mean()}

        def init(key, data):
            return {"images": data.images[:10]}

        def product(state):
            return Distilled(state["images"], jnp.arange(10), params=state)

        return Method(init, uniform_sampler(16), update, product)

    return Recipe(bind, stages=lambda spec: (stage,))
'''
CONFIG = """
import ml_collections

def get_config():
    return ml_collections.ConfigDict(
        {"data": {"name": "small.npz"}, "method": {"name": "own_stages:probed"}, "run": {"steps": 3}}
    )
"""


@pytest.fixture
def flag(tmp_path, monkeypatch):
    labels = np.arange(200) % 10
    np.savez(tmp_path / "small.npz", x=np.float32(np.random.default_rng(0).random((200, 5, 5, 1))), y=labels)
    (tmp_path / "own_stages.py").write_text(OWN)
    (tmp_path / "probed.py").write_text(CONFIG)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXDD_CACHE_DIR", str(tmp_path / "cache"))
    return f"--config={tmp_path / 'probed.py'}"


@pytest.mark.endurance
def test_a_stage_is_planned_made_listed_and_deleted(flag, tmp_path, capsys):
    def said(*arguments):
        assert main([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    (foretold,) = said("plan", flag)["stages"]
    assert not (tmp_path / "cache").exists()
    each = foretold["plan"]["seconds_per_step"]
    assert (foretold["name"], foretold["steps"], foretold["made"]) == ("probe", 4, False)
    assert foretold["seconds"] == pytest.approx(foretold["plan"]["compile_seconds"] + 4 * each)
    weights = 25 * 4 + 4 + 4 * 4 + 4 + 4 * 10 + 10
    assert foretold["num_bytes"] == 3 * 4 * weights
    assert foretold["fits"] and main(["plan", flag, "--budget=1GiB"]) == 0
    assert "stages, run first" in capsys.readouterr().out

    said("distill", flag, "--workdir=run", "--evaluate=none")
    (made,) = said("plan", flag)["stages"]
    facts = {"name": "probe", "steps": 4, "num_bytes": 12 * weights, "made": True, "plan": None}
    assert made == {**facts, "fits": True, "seconds": 0}
    (listed,) = said("stages")
    assert listed["name"] == "probe" and listed["whole"] and listed["num_bytes"] > 12 * weights
    assert main(["stages"]) == 0
    assert "probe" in capsys.readouterr().out
    assert len(said("stages", "--prune=1")) == 1
    assert said("stages", "--prune=0") == [] and not list((tmp_path / "cache" / "stages").iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["stages", "--prune=-1"], "-1.0 is not a non-negative number"),
        (["stages", "--prune=all"], "--prune=all: this takes a number"),
        (["stages", "mine"], "unexpected argument 'mine'"),
    ],
)
def test_bad_input(arguments, sentence, flag, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1


@pytest.mark.parametrize("said", ["much", "-3", "nan"])
def test_a_bound_that_is_none_is_refused_before_anything_is_computed(said, flag, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAXDD_CACHE_GB", said)
    assert main(["distill", flag, "--workdir=run", "--evaluate=none"]) == 2
    assert f"JAXDD_CACHE_GB must be a number of GiB, got {said!r}." in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()
