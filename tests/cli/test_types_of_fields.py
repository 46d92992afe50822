"""Hyper-parameters of every type from the command line: a toy method with tuples and optional numbers."""

import json
import sys

import numpy as np
import pytest

from jaxdd import methods
from jaxdd.cli import main

MODULE = '''
import dataclasses
import json
import pathlib

import jax.numpy as jnp

from jaxdd.data import balanced_sampler
from jaxdd.methods import HyperParameters, at_least, elements, field, method, more_than
from jaxdd.types import Distilled, Method


@dataclasses.dataclass(frozen=True)
class Toy(HyperParameters):
    betas: tuple[float, float] = field((0.9, 0.999), elements(at_least(0, under=1)))
    sizes: tuple[int, ...] = (3, 3)
    x: float | None = field(None, more_than(0))
    y: float | None = field(0.5, more_than(0))
    rate: float = 1.0
    flip: bool = False


@method(Toy)
def toy(config):
    """Keeps what it is given, and says with what it was built."""
    with open("built.jsonl", "a") as file:
        print(json.dumps(dataclasses.asdict(config)), file=file)
    return Method(
        lambda key, data: {"images": data.images[:4]},
        balanced_sampler(16),
        lambda key, state, batch: (state, {"loss": batch.images.mean()}),
        lambda state: Distilled(state["images"], jnp.arange(4), params=state),
    )


def bare(betas: tuple[float, float] = (0.9, 0.999), x: float | None = None):
    """The same by a function's arguments."""
    return toy(betas=betas, x=x)
'''
CONFIG = """
from jaxdd.cli import template

def get_config(name="toy"):
    method = {"betas": [0.5, 0.9]} | ({"rate": 2} if name == "toy" else {})
    return template(f"toy_methods:{name}", method=method, data={"name": "tiny"}, run={"steps": 2})
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """`toy(preset, flags)` distils in `run`: exit status and what the method was last built with."""
    (tmp_path / "toy_methods.py").write_text(MODULE)
    (tmp_path / "toy.py").write_text(CONFIG)
    labels = np.arange(80) % 4
    np.savez(tmp_path / "tiny.npz", x=np.random.default_rng(0).integers(0, 256, (80, 4, 4, 1), np.uint8), y=labels)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("JAXDD_DATA_DIR", str(tmp_path))
    monkeypatch.delitem(sys.modules, "toy_methods", raising=False)

    def distill(preset, *flags):
        config = f"--config=toy.py:{preset}" if preset else "--config=toy.py"
        status = main(["distill", config, "--workdir=run", "--evaluate=none", *flags])
        return status, json.loads((tmp_path / "built.jsonl").read_text().splitlines()[-1])

    return distill


def test_tuples_and_optional_numbers_on_the_command_line(toy, tmp_path, capsys):
    given = ("x=0.5", "betas=(0.1, 0.2)", "sizes=5", "flip", "y=None", "rate=0.5")
    flags = [f"--config.method.{each}" for each in given]
    wanted = {"betas": [0.1, 0.2], "sizes": [5], "x": 0.5, "y": None, "rate": 0.5, "flip": True}
    assert toy("", *flags) == (0, wanted)
    identity = json.loads((tmp_path / "run" / "run.json").read_text())["config"]["method"]
    assert identity == {"name": "toy_methods:toy", **wanted}
    assert toy("", *flags, "--resume") == (0, wanted)
    assert toy("", *flags[1:], "--resume")[0] == 2 and "belongs to another run" in capsys.readouterr().err


def test_a_list_for_a_tuple_is_one_in_a_template_and_by_build(toy, tmp_path):
    status, built = toy("", "--config.method.y=2")
    assert (status, built["betas"], built["y"], built["x"]) == (0, [0.5, 0.9], 2, None)
    for name in ("toy", "bare"):
        assert methods.fields(f"toy_methods:{name}", betas=[0.1, 0.2])["betas"] == (0.1, 0.2)
        methods.build(f"toy_methods:{name}", betas=[0.1, 0.2], x=3)
        assert json.loads((tmp_path / "built.jsonl").read_text().splitlines()[-1])["betas"] == [0.1, 0.2]


def test_the_annotations_of_a_bare_function_do_as_well(toy):
    status, built = toy("bare", "--config.method.x=0.5", "--config.method.betas=(0.1, 0.2)")
    assert (status, built["x"], built["betas"]) == (0, 0.5, [0.1, 0.2])


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("x=-1", "x of Toy must be more than 0 or None, got -1."),
        ("x=abc", "x of Toy must be float or None, got 'abc'."),
        ("betas=(0.1,)", "betas of Toy must be tuple[float, float], got (0.1,)."),
        ("betas=(0.1, 1.5)", "betas of Toy must be at least 0 and under 1 in every element, got (0.1, 1.5)."),
        ("sizes=a", "sizes of Toy must be tuple[int, ...], got ('a',)."),
        ("z=3", "unknown field of the config 'method.z'"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_one_sentence(flag, sentence, toy, tmp_path, capsys):
    assert toy("", f"--config.method.{flag}")[0] == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1 and not (tmp_path / "run").exists()


def test_optional_fields_of_methods_take_what_their_types_say(tmp_path, capsys):
    assert main(["distill", "--config=dd:smoke", "--config.method.clip=0.5", f"--workdir={tmp_path / 'run'}"]) == 2
    assert "clip of DD must be more than 1 or None, got 0.5" in capsys.readouterr().err
