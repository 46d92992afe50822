"""The script that breaks runs, in small."""

import random

import jax
import pytest
from reliability import faults
from reliability.bench import Bench, few_digits, require, smoke
from reliability.changes import mutate_distilled, mutations
from reliability.command import markdown
from reliability.kills import kill_method

from jaxdd import data, engine, methods
from jaxdd.types import bound


@pytest.fixture
def bench(tmp_path):
    few_digits(tmp_path / "digits.npz")
    return Bench(tmp_path / "digits.npz", tmp_path, 0)


@pytest.mark.parametrize("name", methods.available())
def test_every_method_can_be_killed(tmp_path_factory, name):
    """Its smallest example fits the digits there."""
    path = tmp_path_factory.getbasetemp() / "digits.npz"
    if not path.exists():
        few_digits(path)
    digits = data.load(str(path))
    recipe = methods.build(**smoke(name))
    real = engine.foretold(recipe, data.real_data(digits.train, data.Identity(), digits.num_classes))
    method = bound(recipe, real)
    state, batch = jax.eval_shape(
        lambda key: (engine.first_state(method, real, key), engine.draw(method, real, key)), jax.random.key(0)
    )
    assert jax.tree.leaves(state) and (batch.rows or batch.assets)


def test_mutations_change_something_and_repeat_themselves():
    content = bytes(range(256)) * 20
    first, again = (list(mutations(content, 60, random.Random(1))) for _ in range(2))
    assert first == again
    assert sum(changed != content for changed in first) > 50


def test_a_fault_that_costs_something_fails(bench, monkeypatch):
    def costly(bench):
        """nothing at all"""
        require(False, "it is gone")

    monkeypatch.setitem(faults.FAULTS, "costly", costly)
    broken = faults.inject(bench, "costly")
    assert not broken.passed and broken.happened == "it is gone"
    assert markdown([broken]).splitlines()[2].startswith("| nothing at all | it is gone |")


@pytest.mark.endurance
def test_a_changed_distilled_file_is_read_right_or_refused(bench):
    with faults.quiet():
        assert "0 wrong" in mutate_distilled(bench, 50)


@pytest.mark.endurance
def test_a_killed_run_ends_in_the_same_bytes(bench, monkeypatch):
    cache = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(cache))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    row = kill_method(bench, "kip", 2)
    assert row.kills == 2 and row.identical, row.problem
