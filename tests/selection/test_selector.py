"""Rules over classes: as over each class alone, in the numbering of the whole set, compiled once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.errors import JaxddError
from jaxdd.selection import Selector, by_class, choose, pixels
from jaxdd.selection.choose import means
from jaxdd.types import Labels, RealData

COUNTS = (32, 25, 20, 16)
VALUES = np.random.default_rng(1).permutation(np.repeat(np.arange(4), COUNTS))
LABELS = Labels.index(VALUES, 4)
POINTS = np.random.default_rng(2).normal(size=(len(VALUES), 3)).astype(np.float32)


@pytest.mark.parametrize("rule", [choose.herding, choose.k_center, choose.grad_match])
def test_each_class_is_chosen_from_as_if_it_were_alone(rule, key):
    chosen = by_class(rule)(key, POINTS, LABELS, [3, 0, 4, 4])
    start = 0
    for c, k in ((0, 3), (2, 4), (3, 4)):
        members = np.flatnonzero(np.asarray(LABELS.values) == c)
        given = {"key": jax.random.fold_in(key, c)} if rule is choose.k_center else {}
        result = rule(POINTS[members], k, **given)
        rows, weights = result if isinstance(result, tuple) else (result, np.ones(k))
        np.testing.assert_array_equal(chosen.rows[start : start + k], members[np.asarray(rows)])
        np.testing.assert_allclose(chosen.weights[start : start + k], weights, rtol=1e-3)
        start += k
    assert start == len(chosen.rows) and chosen.rows.dtype == jnp.int32 and chosen.weights.dtype == jnp.float32


def test_classes_of_a_size_share_a_program(key):
    before = means._herding._cache_size()
    by_class(choose.herding)(key, POINTS[:, :2], LABELS, 3)
    assert means._herding._cache_size() == before + 2  # one for those of more than half the largest, one for the last


def test_a_rule_of_ones_own_gets_bare_points(key):
    sizes = []

    def last(points, k):
        sizes.append(len(points))
        return np.arange(len(points))[-k:]

    chosen = by_class(last)(key, POINTS, LABELS, 2)
    assert sizes == list(COUNTS) and np.all(VALUES[chosen.rows] == np.repeat(np.arange(4), 2))


def test_a_bound_key_stays(key):
    fixed = by_class(functools.partial(choose.k_center, key=None))
    again = [fixed(one, POINTS, LABELS, 4).rows.tolist() for one in jax.random.split(key)]
    assert again[0] == again[1]


def test_a_selector_of_images(key):
    data = RealData.of(jnp.asarray(POINTS.reshape(-1, 1, 3, 1)), LABELS)
    selector = Selector(pixels, by_class(choose.herding))
    chosen = selector.choose(key, selector.describe(data, key), data.labels, 4)
    expected = by_class(choose.herding)(key, POINTS, LABELS, 4)
    assert chosen.rows.tolist() == expected.rows.tolist()


@pytest.mark.parametrize(
    ("k", "said"),
    [
        (17, "class 3 has 16"),
        ([1, 1], "given for 2 classes, but there are 4"),
        ([0] * 4, "at least one"),
        (0, "at least 1"),
        (True, "at least 1"),
        ("ab", "at least 1"),
        ([1, 1, 1.5, 1], "1.5"),
    ],
)
def test_other_numbers_are_one_sentence(k, said, key):
    with pytest.raises(JaxddError, match=said):
        by_class(choose.herding)(key, POINTS, LABELS, k)


@pytest.mark.parametrize(
    ("described", "labels", "said"),
    [
        (POINTS[1:], LABELS, "93 labels"),
        (POINTS.tolist(), LABELS, "row for each point"),
        ((POINTS, POINTS[1:]), LABELS, "92 rows, 93 rows"),
        (None, LABELS, "got nothing"),
        (POINTS, VALUES, "`Labels.index`"),
    ],
)
def test_as_many_descriptions_as_labels(described, labels, said, key):
    with pytest.raises(JaxddError, match=said):
        by_class(choose.herding)(key, described, labels, 1)


@pytest.mark.parametrize("rows", [[0], [0, 40], [0, -1], [0.0, 1.0], None])
def test_a_rule_must_give_rows_of_the_points_it_was_given(rows, key):
    with pytest.raises(JaxddError, match="a rule"):
        by_class(lambda points, k: rows)(key, POINTS, LABELS, 2)


def test_a_rule_is_a_function_and_its_weights_are_as_many_as_its_rows(key):
    with pytest.raises(JaxddError, match="a weight for each of 2 rows"):
        by_class(lambda points, k: (np.arange(k), np.ones(3)))(key, POINTS, LABELS, 2)
    with pytest.raises(JaxddError, match="a rule"):
        by_class(3)
