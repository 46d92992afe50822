"""Bins of graph cut beside a plain loop, samples of them, and how important they are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.errors import JaxddError
from jaxdd.selection import bins, by_class, choose
from jaxdd.selection.choose import drawn
from jaxdd.types import Labels

N, D, BINS = 200, 12, 9
SOME = np.arange(N) < 150


def clustered() -> np.ndarray:
    draw = np.random.default_rng(0)
    return (draw.normal(size=(N, D)) + 2 * draw.normal(size=(5, D))[draw.integers(0, 5, N)]).astype(np.float32)


POINTS = clustered()


def similarities(points: np.ndarray, similarity: str) -> np.ndarray:
    points = points.astype(float)
    if similarity == "cosine":
        units = points / np.linalg.norm(points, axis=1, keepdims=True)
        return 0.5 + 0.5 * units @ units.T
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    return distances.max() - distances


def plain(points: np.ndarray, bins: int, penalty: float, similarity: str) -> np.ndarray:
    s, n = similarities(points, similarity), len(points)
    numbers, left = np.full(n, bins - 1), np.ones(n, bool)
    for b in range(bins - 1):
        gain, chosen = s[:, left].sum(1), []
        gain[~left] = -np.inf
        for _ in range(n // bins):
            chosen.append(int(np.argmax(gain)))
            gain = gain - 2 * penalty * s[:, chosen[-1]]
            gain[chosen[-1]] = -np.inf
        numbers[chosen], left[chosen] = b, False
    return numbers


@pytest.mark.parametrize(("similarity", "penalty"), [("cosine", 1.0), ("cosine", 0.3), ("euclidean", 1.0)])
def test_bins_are_those_of_a_plain_loop(similarity, penalty):
    found = bins.graph_cut_bins(POINTS, BINS, penalty=penalty, similarity=similarity)
    np.testing.assert_array_equal(found, plain(POINTS, BINS, penalty, similarity))
    assert found.dtype == jnp.int32 and np.bincount(found).tolist() == [N // BINS] * (BINS - 1) + [N - 8 * (N // BINS)]


def test_the_first_bin_is_graph_cut_and_masked_points_are_in_none():
    found = np.asarray(bins.graph_cut_bins(POINTS, BINS))
    assert set(np.flatnonzero(found == 0)) == set(np.asarray(choose.graph_cut(POINTS, N // BINS)).tolist())
    masked = np.asarray(bins.graph_cut_bins(POINTS, BINS, mask=SOME))
    np.testing.assert_array_equal(masked[SOME], plain(POINTS[SOME], BINS, 1.0, "cosine"))
    assert (masked[~SOME] == -1).all()


NUMBERS = np.concatenate([np.arange(N - 4) % 7, [7, 7, 7, 8]])  # 28 in each, three and one in the last two


@pytest.mark.parametrize("k", [1, 9, 40, N - 1])
def test_even_samples_differ_by_one_until_bins_are_empty(k, key):
    rows = np.asarray(bins.from_bins(NUMBERS, k, key))
    taken, there = np.bincount(NUMBERS[rows], minlength=9), np.bincount(NUMBERS)
    assert len(set(rows.tolist())) == k == len(rows)
    assert (taken <= there).all() and taken.max() - taken[taken < there].min(initial=N) <= 1


@pytest.mark.parametrize("k", [9, 40, N - 1])
def test_samples_by_importance_are_in_its_proportion_and_never_more_than_there_are(k, key):
    importance, there = np.arange(9.0), np.bincount(NUMBERS)
    rows = np.asarray(bins.from_bins(NUMBERS, k, key, importance=importance))
    taken, weights = np.bincount(NUMBERS[rows], minlength=9), importance * there
    assert len(set(rows.tolist())) == k == len(rows) and (taken <= there).all()
    if k < 100:  # no bin is exhausted, but for the last
        assert np.abs(taken - k * weights / weights.sum())[:7].max() <= 1.5 and taken[0] == 0
    else:
        assert (taken[1:] == there[1:]).all()  # what counts for nothing gives the rest


def test_quotas_by_weight_are_those_of_a_plain_loop(key):
    """Shares capped by what there is, the largest remainders, and the rest of what weighs nothing."""
    quotas, draw = jax.jit(drawn.weighted_quotas), np.random.default_rng(0)
    for turn in range(300):
        counts, weights = (
            draw.integers(0, 40, 6),
            draw.choice([0, 1e-3, 0.5, 1, 2, 30], 6) * 10.0 ** (draw.integers(-9, 9, 6) if turn % 3 == 0 else 0),
        )
        weights, k = counts * weights, draw.integers(0, counts.sum() + 1)
        shares, full = np.zeros(6), weights == 0
        while not full.all():
            shares[~full] = (k - shares[full].sum()) / weights[~full].sum() * weights[~full]
            over = ~full & (shares >= counts)
            shares = np.minimum(shares, counts)
            if not over.any():
                break
            full |= over
        found = np.asarray(quotas(key, counts, weights.astype(np.float32), k))
        assert found.sum() == k and (found <= counts).all()
        whole = np.floor(shares + 1e-3).astype(int)
        more, left = found - whole, k - whole.sum()
        room = (weights > 0) & (whole < counts)
        if left <= room.sum():
            assert set(more) <= {0, 1} and not more[~room].any()
            lost = shares - whole
            assert lost[more == 1].min(initial=1) >= lost[room & (more == 0)].max(initial=-1) - 1e-3
        else:
            rest = (weights == 0) & (found < counts)  # all alike, but for those that are exhausted
            assert (found == counts)[weights > 0].all()
            assert found[weights == 0].max() - found[rest].min(initial=40) <= 1


def test_importance_alike_is_in_proportion_to_sizes(key):
    rows = bins.from_bins(NUMBERS, 100, key, importance=np.ones(9))
    shares = 100 * np.bincount(NUMBERS) / N
    assert np.abs(np.bincount(NUMBERS[np.asarray(rows)], minlength=9) - shares).max() <= 1


def test_importance_is_texture_and_diversity_over_their_means():
    numbers = np.asarray(bins.graph_cut_bins(POINTS, BINS, mask=SOME))
    texture = np.random.default_rng(1).uniform(1, 2, N)
    cosines = 2 * similarities(POINTS, "cosine") - 1
    diverse, textured = np.zeros(BINS), np.zeros(BINS)
    for b in range(BINS):
        rows = np.flatnonzero(numbers == b)
        pairs = cosines[np.ix_(rows, rows)][~np.eye(len(rows), dtype=bool)]
        diverse[b], textured[b] = 1 - pairs.mean(), texture[rows].mean()
    expected = (diverse / diverse.mean() + textured / textured.mean()) / 2
    np.testing.assert_allclose(bins.bin_importance(POINTS, texture, numbers, BINS), expected, rtol=1e-4)


def test_the_rule_takes_classes_and_is_the_same_inside_of_a_program(key):
    labels = Labels.index((np.arange(N) >= 100).astype(int))
    rule = functools.partial(choose.dataset_quantization, bins=5)
    rows = np.asarray(by_class(rule)(key, POINTS, labels, 10).rows)
    numbers = bins.graph_cut_bins(POINTS[:100], 5)
    assert np.bincount(np.asarray(numbers)[rows[:10]]).tolist() == [2] * 5 and (rows[10:] >= 100).all()
    inside = jax.jit(lambda points, key: rule(points, 10, key))(POINTS[:100], jax.random.fold_in(key, 0))
    assert set(inside.tolist()) == set(rows[:10].tolist())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda key: bins.graph_cut_bins(POINTS, 0), "bins"),
        (lambda key: bins.graph_cut_bins(POINTS, 151, mask=SOME), "150 points cannot be divided into 151 bins"),
        (lambda key: bins.graph_cut_bins(POINTS, 5, penalty=0), "penalty"),
        (lambda key: bins.from_bins(POINTS, 5, key), "integers"),
        (lambda key: bins.from_bins(NUMBERS, 201, key), "only 200"),
        (lambda key: bins.from_bins(NUMBERS, 5, key, bins=8), "bin 8"),
        (lambda key: bins.from_bins(NUMBERS, 5, key, importance=np.ones(3)), "each of 9 bins"),
        (lambda key: bins.from_bins(NUMBERS, 5, key, importance=-np.ones(9)), "negative"),
        (lambda key: bins.from_bins(NUMBERS, 5, key, importance=np.full(9, np.inf)), "finite"),
        (lambda key: bins.bin_importance(POINTS, np.ones(3), NUMBERS, 9), "texture .* 200 points"),
        (lambda key: bins.bin_importance(POINTS, np.ones(N), NUMBERS, 8), "bin 8"),
    ],
)
def test_what_cannot_be_is_refused(call, words, key):
    with pytest.raises(JaxddError, match=words):
        call(key)
