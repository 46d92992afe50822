"""Experts' rows: which epochs are kept, and in how many bits."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdd import engine, models, training
from jaxdd.errors import JaxddError
from jaxdd.training import Compact, Trajectories
from jaxdd.types import NetworkState, Spec

NETWORK = models.build("mlp(width=8, depth=1)", (14, 14, 1), 4)
BATCH = 120
WHERE = Trajectories("experts", count=2, epochs=3)


def made(where, digits):
    recipe = training.supervised(NETWORK, optax.sgd(0.3), batch_size=BATCH)
    stage = training.experts(where, recipe, Spec.of(digits), batch_size=BATCH, config={"of": "this file"})
    return engine.provide(stage, digits)


def read(where, real, expert, epoch):
    rows = where.rows(expert, epoch)
    return where.read(jax.tree.map(lambda leaf: leaf[rows], real.tables["experts"]), rows, real.assets)


@pytest.fixture(scope="module")
def whole(digits):
    return made(WHERE, digits)


EXPERT, EPOCH = np.array([[0, 0], [1, 1]]), np.array([[0, 3], [1, 3]])


@pytest.mark.endurance
def test_rows_of_some_epochs_are_those_of_all(whole, digits):
    """And numbers of rows say which ones they are."""
    some = dataclasses.replace(WHERE, kept=(0, 1, 3))
    real = made(some, digits)
    assert {len(leaf) for leaf in jax.tree.leaves(real.tables["experts"])} == {6}
    found, expected = (jax.tree.leaves(read(*each, EXPERT, EPOCH)) for each in ((some, real), (WHERE, whole)))
    for leaf, same in zip(found, expected, strict=True):
        np.testing.assert_array_equal(leaf, same)
    for back, given in zip(some.of(some.rows(EXPERT, EPOCH)), (EXPERT, EPOCH), strict=True):
        np.testing.assert_array_equal(back, given)


@pytest.mark.parametrize(("store", "steps"), [("int8", 127), ("int16", 32_767)])
def test_compact_rows_are_near_by_half_a_step(whole, digits, store, steps):
    """Of the largest difference of an output channel from the first network."""
    where = dataclasses.replace(WHERE, store=store)
    real = made(where, digits)
    assert {leaf.dtype for leaf in jax.tree.leaves(real.tables["experts"].steps)} == {np.dtype(store)}
    found, exact = read(where, real, EXPERT, EPOCH), read(WHERE, whole, EXPERT, EPOCH)
    first = read(WHERE, whole, EXPERT, np.zeros_like(EPOCH))
    for near, leaf, start in zip(*map(jax.tree.leaves, (found, exact, first)), strict=True):
        axes = tuple(range(2, leaf.ndim - 1)) if leaf.ndim > 3 else (2,)
        half = np.max(np.abs(leaf - start), axis=axes, keepdims=True) / steps / 2
        assert (np.abs(near - leaf) <= half * 1.01 + 1e-7).all()
        np.testing.assert_array_equal(near[0, 0], leaf[0, 0])  # the first network itself


def test_what_has_not_moved_and_what_is_not_finite():
    """Nothing becomes NaN where a channel is as it was; all that is read of a channel that is not finite is NaN."""
    first = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
    network = NetworkState({"w": first["w"].at[:, 0].add(jnp.array([1.0, -0.5, 0])), "b": first["b"]}, {})
    small = training.compact(network, first, "int8")
    assert isinstance(small, Compact) and small.scales["w"].shape == (1, 2) and small.scales["b"].shape == (1,)
    np.testing.assert_array_equal(small.steps["w"], [[127, 0], [-64, 0], [0, 0]])
    np.testing.assert_array_equal(small.steps["b"], [0, 0])

    for lost in (jnp.nan, jnp.inf):
        small = training.compact(NetworkState({"w": first["w"].at[1, 0].set(lost)}, {}), {"w": first["w"]}, "int8")
        assert np.isnan(small.scales["w"] * small.steps["w"]).tolist() == [[True, False]] * 3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"store": "int4"}, "int4"),
        ({"kept": (0, 4)}, "go up to 3, got 4"),
        ({"kept": (1, 1)}, "numbers that rise"),
        ({"kept": ()}, "numbers that rise"),
        ({"kept": (0, 1.5)}, "the epochs that are kept must be an integer of at least 0"),
        ({"count": 0}, "count must be an integer of at least 1"),
    ],
)
def test_bad_ones_are_one_sentence(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        dataclasses.replace(WHERE, **options)
