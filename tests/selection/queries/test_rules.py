"""Rules of queries beside plain loops."""

import jax
import numpy as np
import pytest

from jaxdd.errors import JaxddError
from jaxdd.selection import queries, scores


@pytest.fixture
def pool(rng):
    """Features `(40, 6)`, logits `(40, 3)` and their probabilities, of which the first is sure."""
    logits = 2 * rng.normal(size=(40, 3))
    logits[0] = [200, 0, -200]
    return rng.normal(size=(40, 6)), logits, np.asarray(jax.nn.softmax(logits))


@pytest.fixture
def mask(rng):
    return rng.uniform(size=40) < 0.7


def test_unsure_ones_are_those_of_numpy(pool, mask):
    _, _, p = pool
    entropies = -np.sum(np.where(p > 0, p * np.log(np.maximum(p, 1e-30)), 0), 1)
    two = np.sort(p, 1)
    for rule, unsure in ((queries.entropy, entropies), (queries.margin, two[:, -2] - two[:, -1])):
        assert list(rule(p, 5)) == list(np.argsort(-unsure)[:5])
        assert list(rule(p, 5, mask=mask)) == list(np.argsort(np.where(mask, -unsure, np.inf))[:5])


def test_random_ones_are_different_and_may_be_asked(mask, key):
    rows = np.asarray(queries.random(40, 20, key, mask=mask))
    assert len(set(rows.tolist())) == 20 and mask[rows].all()
    assert list(queries.random(40, 20, jax.random.key(1), mask=mask)) != list(rows)


def farthest(points: np.ndarray, labelled: np.ndarray, k: int, mask: np.ndarray) -> list[int]:
    """A plain loop."""
    known, rows = list(labelled), []
    for _ in range(k):
        nearest = [
            min(np.linalg.norm(point - each) for each in known) if free else -1
            for point, free in zip(points, mask, strict=True)
        ]
        rows.append(int(np.argmax(nearest)))
        known.append(points[rows[-1]])
    return rows


def test_centres_are_those_of_a_loop_in_features_and_in_the_simplex(pool, mask):
    features, _, p = pool
    for rule, points in ((queries.k_center, features[:, :3]), (queries.pcoreset, p)):
        labelled = points[~mask]
        rows = list(rule(points, labelled, 6, mask=mask))
        assert rows == farthest(points, labelled, 6, mask)
        padded = np.concatenate([labelled, labelled[[0, 0, 0]]])
        assert list(rule(points, padded, 6, mask=mask)) == rows
        assert len(set(np.asarray(rule(points, None, 6)).tolist())) == 6


def test_badge_draws_by_squared_distances_of_gradients(pool, mask):
    """The first is the longest; frequencies of the second are within five standard errors of the squared distances."""
    features, logits, p = pool
    bias = scores.last_layer_gradients(features, logits, p.argmax(1)).reshape(40, 3, 7)
    gradients = np.asarray(bias)[:, :, :6].reshape(40, -1)
    draws = 4000
    keys = jax.random.split(jax.random.key(0), draws)
    rows = np.asarray(jax.vmap(lambda key: queries.badge(features, p, 2, key, mask=mask))(keys))
    longest = np.argmax(np.where(mask, np.linalg.norm(gradients, axis=1), 0))
    assert (rows[:, 0] == longest).all()
    expected = np.where(mask, np.square(gradients - gradients[longest]).sum(1), 0)
    expected /= expected.sum()
    found = np.bincount(rows[:, 1], minlength=40) / draws
    assert (np.abs(found - expected) <= 5 * np.sqrt(expected * (1 - expected) / draws) + 1e-6).all()
    assert expected.max() > 0.05


def test_badge_gives_different_rows_where_all_gradients_are_alike(key):
    rows = queries.badge(np.ones((8, 2)), np.full((8, 2), 0.5), 5, key)
    assert len(set(np.asarray(rows).tolist())) == 5


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda p: queries.entropy(2 * p, 3), "the sum 1"),
        (lambda p: queries.margin(p[:, :1] / p[:, :1], 3), "two classes"),
        (lambda p: queries.margin(p, 41), "only 40 points"),
        (lambda p: queries.pcoreset(p, p[:, :2], 3), "the sum 1"),
        (lambda p: queries.k_center(p, p[:, :2], 3), "features each"),
        (lambda p: queries.badge(p[:5], p, 3, jax.random.key(0)), "mask must say of each of 5 points|of 5 points"),
    ],
)
def test_what_cannot_be_asked_is_refused(pool, ask, says):
    with pytest.raises(JaxddError, match=says):
        ask(pool[2])
