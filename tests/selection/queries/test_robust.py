"""The game between who asks and who decides where the teacher is wrong."""

import itertools

import jax
import numpy as np
import pytest
from scipy.optimize import linprog

from jaxdd.errors import JaxddError
from jaxdd.selection import queries


def by_linear_programme(gains: np.ndarray, wrong: int, budget: int) -> float:
    """The value of the game, by all sets of wrong answers."""
    n = len(gains)
    sets = list(itertools.combinations(range(n), wrong))
    above = np.ones((len(sets), n + 1))
    for row, wrong_ones in zip(above, sets, strict=True):
        row[:n] = np.where(np.isin(np.arange(n), wrong_ones), 0, -gains)
    solved = linprog(
        np.append(np.zeros(n), -1),
        A_ub=above,
        b_ub=np.zeros(len(sets)),
        A_eq=np.append(np.ones(n), 0)[None],
        b_eq=[budget],
        bounds=[(0, 1)] * n + [(None, None)],
    )
    return -solved.fun


@pytest.mark.parametrize("wrong", range(6))
@pytest.mark.parametrize("budget", [1, 2, 4])
def test_its_value_is_a_linear_programmes_and_its_marginals_reach_it(wrong, budget, rng):
    for power in (0.3, 1, 3):
        gains = rng.exponential(size=6) ** power
        game = queries.robust_game(gains, wrong, budget)
        assert game.value == pytest.approx(by_linear_programme(gains, wrong, budget), rel=1e-7)
        assert game.marginals.sum() == pytest.approx(budget) and (game.marginals >= 0).all()
        assert (game.marginals <= 1 + 1e-9).all()
        left = np.sort(game.marginals * gains)[: 6 - wrong]
        assert left.sum() == pytest.approx(game.value, rel=1e-7)


def test_of_one_question_it_has_a_closed_form(rng):
    gains = np.sort(rng.exponential(size=50))[::-1]
    harmonic = np.cumsum(1 / gains)
    for wrong in (0, 3, 7.5, 30):
        values = (np.arange(1, 51) - wrong) / harmonic
        k = np.argmax(values) + 1
        game = queries.robust_game(gains, wrong)
        assert game.value == pytest.approx(values[k - 1])
        np.testing.assert_allclose(game.marginals[:k], 1 / gains[:k] / harmonic[k - 1])
        assert (game.marginals[k:] < 1e-12).all()


def test_equal_gains_are_asked_alike_and_where_nothing_is_wrong_the_largest_are(rng):
    for wrong, budget in ((0, 1), (0, 3), (2, 3), (4, 1)):
        np.testing.assert_allclose(queries.robust_game(np.full(7, 0.4), wrong, budget).marginals, budget / 7)
    gains = rng.uniform(size=30)
    assert set(np.flatnonzero(queries.robust_game(gains, 0, 4).marginals > 1 - 1e-9)) == set(np.argsort(-gains)[:4])


def test_points_that_are_worth_nothing_are_the_last_to_be_asked():
    game = queries.robust_game([0, 1, 0, 1], 1, 2)
    np.testing.assert_allclose(game.marginals, [0, 1, 0, 1])
    assert game.value == pytest.approx(1)
    spare = queries.robust_game([0, 1, 0, 100], 1, 2)  # the value is 1 however often the last one is asked
    np.testing.assert_allclose(spare.marginals, [0, 1, 0, 1])
    assert queries.robust_game([0, 1, 0, 1], 3, 3).value == queries.robust_game(np.zeros(3), 1).value == 0
    assert queries.robust_game(np.zeros(3), 1, 2).marginals.sum() == pytest.approx(2)


def test_points_are_drawn_with_these_marginals_and_are_different(rng):
    gains, mask = rng.exponential(size=12), np.arange(12) != 5
    expected = np.zeros(12)
    expected[mask] = queries.robust_game(gains[mask].astype(np.float32), 2.5, 4).marginals
    draws, counts = 300, np.zeros(12)
    for seed in range(draws):
        rows = np.asarray(queries.robust(gains, 4, jax.random.key(seed), wrong=2.5, mask=mask))
        assert rows.dtype == np.int32 and len(set(rows.tolist())) == 4
        counts[rows] += 1
    error = np.sqrt(expected * (1 - expected) / draws)
    assert (np.abs(counts / draws - expected) <= 5 * error + 1e-9).all()
    assert expected.max() > 0.1 and counts[5] == 0


@pytest.mark.parametrize(
    ("gains", "wrong", "budget", "says"),
    [
        ([1, 2], 2, 1, "from 0 to below 2"),
        ([1, 2], True, 1, "from 0 to below 2"),
        ([1, 2], 0, 3, "only 2 points"),
        ([1, 2], 0, 0, "at least 1"),
        ([1, -2], 0, 1, "at least 0"),
        ([1, np.nan], 0, 1, "finite"),
        ([[1, 2]], 0, 1, r"shape \(n,\)"),
    ],
)
def test_what_is_no_game_is_refused(gains, wrong, budget, says):
    with pytest.raises(JaxddError, match=says):
        queries.robust_game(gains, wrong, budget)


def test_more_points_than_may_be_asked_are_refused(key):
    with pytest.raises(JaxddError, match="only 1 points"):
        queries.robust([1.0, 2.0], 2, key, mask=[True, False])
