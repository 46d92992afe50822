"""Configs: their defaults, and the sentence for what is wrong with them."""

import dataclasses

import pytest

from jaxdd import workflows
from jaxdd.errors import JaxddError
from jaxdd.types import Execution


def test_defaults_are_filled_in_and_what_is_given_stays():
    given = {"method": {"name": "kip", "ipc": 3}, "run": {"steps": 7}, "seed": 2}
    full = workflows.complete(given)
    assert full["method"] == {"name": "kip", "ipc": 3} and full["seed"] == 2
    assert full["run"]["steps"] == 7 and full["run"]["validate"] == "auto"
    assert full["data"]["name"] == "mnist_5k" and full["data"]["validation"] == 0.1
    full["run"]["steps"] = 0
    assert given["run"] == {"steps": 7}


def test_how_a_machine_goes_about_it_has_a_section_of_its_own():
    auto = dataclasses.asdict(Execution())
    assert workflows.complete({"method": {"name": "dm"}})["execution"] == auto
    old = {"method": {"name": "dm", "target_block": 8, "precision": "bfloat16"}, "run": {"precision": "float32"}}
    said = r"^method.target_block, method.precision, run.precision of the config is now execution.block=8, "
    with pytest.warns(DeprecationWarning, match=said):
        full = workflows.complete({**old, "execution": {"block": 4, "remat": "auto"}})
    expected = {"block": 4, "precision": "float32", "target_precision": "bfloat16"}  # the newer name stands
    assert full["execution"] == {**auto, **expected}
    assert full["method"] == {"name": "dm"} and "precision" not in full["run"]


def test_hyper_parameters_of_a_method_of_ones_own_are_left_alone(tmp_path, monkeypatch):
    (tmp_path / "own_remat.py").write_text("def mine(remat=1): pass")
    monkeypatch.syspath_prepend(tmp_path)
    assert workflows.complete({"method": {"name": "own_remat:mine", "remat": 2}})["method"]["remat"] == 2


def test_where_the_data_lie_is_not_told():
    section = workflows.complete({"method": {"name": "kip"}})["data"]
    assert set(section) - set(workflows.told(section)) == {"name", "stream", "cache", "keep"}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"metod": {}}, "unknown section of the config 'metod'; did you mean 'method'"),
        ({"method": {}}, "config.method.name is missing; known: "),
        ({"method": {"name": "kip"}, "data": 5}, "config.data must hold fields, got 5."),
        ({"method": {"name": "kip"}, "data": {"nam": "x"}}, "unknown field of config.data 'nam'; did you mean 'name'"),
        ({"method": {"name": "kip"}, "data": {"stream": 1}}, "config.data.stream must be True or False, got 1."),
        ({"method": {"name": "kip"}, "data": {"cache": "yes"}}, "config.data.cache must be True or False, got 'yes'."),
        ({"method": {"name": "kip"}, "data": {"split_seed": -1}}, "config.data.split_seed must be an integer from 0"),
        ({"method": {"name": "kip"}, "seed": "a"}, "seed must be an integer from 0"),
        ({"method": {"name": "kip"}, "execution": {"blok": 1}}, "config.execution 'blok'; did you mean 'block'"),
        ({"method": {"name": "kip"}, "execution": {"block": 0}}, "block of Execution must be at least 1, None or auto"),
        (
            {"method": {"name": "kip"}, "run": {"validate": "networks"}},
            "run.validate 'networks'; did you mean 'network'",
        ),
    ],
)
def test_what_is_wrong_is_named(config, sentence):
    with pytest.raises(JaxddError) as caught:
        workflows.complete(config)
    assert sentence in str(caught.value)
