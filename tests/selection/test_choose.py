"""Rules of choice beside plain loops, exhaustive search and SciPy; masked as bare; what they refuse."""

import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxdd.errors import JaxddError
from jaxdd.selection import LastLayer, choose
from jaxdd.selection.choose import _columns, _lazy, covering, means, submodular

N, D, K = 200, 12, 20
ALL = np.ones(N, bool)
SOME = np.arange(N) < 150


def clustered(seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    points = draw.normal(size=(N, D)) + 3 * draw.normal(size=(8, D))[draw.integers(0, 8, N)]
    points[[150, 160]] = points[[3, 4]]  # equal points: the lower row comes first
    return points.astype(np.float32)


POINTS = clustered()


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    """So that columns run out and blocks are replaced with 200 points.

    Sizes are read where a rule is traced: programs of other files' sizes must not serve here, nor these there.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (covering, means, submodular):
            patch.setattr(module, "_AHEAD", 4)
        patch.setattr(_columns, "_PROMISING", 16)
        patch.setattr(_columns, "_CHUNK", 48)
        patch.setattr(submodular, "_BLOCK", 16)
        patch.setattr(submodular, "_KEPT", 3)
        traced_anew()
        yield
    traced_anew()


def traced_anew():
    for module in (covering, means, submodular):
        for each in vars(module).values():
            if hasattr(each, "clear_cache"):
                each.clear_cache()


def similarities(points: np.ndarray, similarity: str) -> np.ndarray:
    points = points.astype(float)
    if similarity == "cosine":
        units = points / np.linalg.norm(points, axis=1, keepdims=True)
        return 0.5 + 0.5 * units @ units.T
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    return distances.max() - distances


def loop(score, k: int, n: int = N) -> list[int]:
    """The plain greedy loop for the largest `score(chosen)`, `(n,)`."""
    chosen: list[int] = []
    for _ in range(k):
        values = np.array(score(chosen), float)
        values[chosen] = -np.inf
        chosen.append(int(np.argmax(values)))
    return chosen


def covered(s: np.ndarray, chosen: list[int]) -> np.ndarray:
    return s[:, chosen].max(1) if chosen else np.zeros(len(s))


# Scores of the plain loops.


def of_herding(points, chosen):
    points = points.astype(float)
    wanted = (len(chosen) + 1) * points.mean(0) - points[chosen].sum(0)
    return -((wanted - points) ** 2).sum(1)


def of_k_center(points, chosen, first=5):
    distances = -similarities(points, "euclidean")
    return distances[chosen].min(0) if chosen else np.arange(len(points)) == first


def of_facility(points, chosen, similarity="euclidean"):
    s = similarities(points, similarity)
    return np.maximum(0, s - covered(s, chosen)[:, None]).sum(0)


def of_graph_cut(points, chosen, similarity="cosine"):
    s = similarities(points, similarity)
    return s.sum(0) - 2 * 0.7 * s[chosen].sum(0)


RULES = {
    "herding": (choose.herding, of_herding),
    "k_center": (functools.partial(choose.k_center, first=5), of_k_center),
    "facility_location": (choose.facility_location, of_facility),
    "facility_location, cosine": (
        functools.partial(choose.facility_location, similarity="cosine"),
        functools.partial(of_facility, similarity="cosine"),
    ),
    "graph_cut": (functools.partial(choose.graph_cut, penalty=0.7), of_graph_cut),
    "graph_cut, euclidean": (
        functools.partial(choose.graph_cut, penalty=0.7, similarity="euclidean"),
        functools.partial(of_graph_cut, similarity="euclidean"),
    ),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("mask", [ALL, SOME], ids=["bare", "masked"])
def test_greedy_rules_choose_what_the_plain_loop_does(name, mask):
    rule, score = RULES[name]
    of_those = POINTS[mask]
    rows = rule(POINTS, K, mask=mask)
    assert rows.dtype == jnp.int32 and rows.shape == (K,)
    assert rows.tolist() == loop(functools.partial(score, of_those), K, len(of_those))


def test_all_that_is_there_are_rules():
    """Of something with rows, a number and a mask, so that one who goes over all of them can call each."""
    for name in choose.__all__:
        first, second, *others = inspect.signature(getattr(choose, name)).parameters.values()
        assert second.name == "k" and "mask" in {each.name for each in others}, name
        needed = {each.name for each in others if each.default is each.empty}
        assert needed <= {"key", "validation", "cutoff"} and first.default is first.empty, name


def test_ties_go_to_the_lowest_row():
    """On whole numbers, whose distances are exact."""
    line = np.zeros((N, D), np.float32)
    line[:, 0] = np.arange(N) % 10
    for name in ("k_center", "facility_location"):
        rule, score = RULES[name]
        assert rule(line, 8).tolist() == loop(functools.partial(score, line), 8), name


def test_more_points_than_the_sample_are_foretold(monkeypatch):
    monkeypatch.setattr(submodular, "_SAMPLE", 32)
    monkeypatch.setattr(submodular, "_FORETOLD", 4)
    foretold, looked = submodular._foretold, []
    monkeypatch.setattr(submodular, "_foretold", lambda *given: looked.append(1) or foretold(*given))
    points = POINTS[:-1]  # another shape, hence a program of its own
    rows = choose.facility_location(points, 3, mask=SOME[:-1])
    assert looked and rows.tolist() == loop(functools.partial(of_facility, POINTS[SOME]), 3, 150)


def test_guarantees_by_exhaustive_search(rng):
    sets = list(itertools.combinations(range(8), 3))
    for _ in range(20):
        points = rng.normal(size=(8, 2)).astype(np.float32)
        s = similarities(points, "euclidean")
        best = max(s[:, subset].max(1).sum() for subset in sets)
        rows = np.asarray(choose.facility_location(points, 3))
        assert s[:, rows].max(1).sum() >= (1 - 1 / np.e) * best
        distances = s.max() - s
        smallest = min(distances[:, subset].min(1).max() for subset in sets)
        rows = np.asarray(choose.k_center(points, 3, first=0))
        assert distances[:, rows].min(1).max() <= 2 * smallest + 1e-5


def test_k_center_starts_near_the_mean_by_a_key_or_from_centres(key):
    mean = POINTS.mean(0)
    assert choose.k_center(POINTS, 3)[0] == np.linalg.norm(POINTS - mean, axis=1).argmin()
    firsts = {int(choose.k_center(POINTS, 3, key=one)[0]) for one in jax.random.split(key, 3)}
    assert len(firsts) > 1
    started = choose.k_center(POINTS, 5, first=7)
    assert choose.k_center(POINTS, 4, centres=POINTS[[7]]).tolist() == started[1:].tolist()


def test_craigs_weights_count_the_nearest():
    distances = -similarities(POINTS, "euclidean")
    for mask in (ALL, SOME):
        rows, weights = choose.craig(POINTS, K, mask=mask)
        assert rows.tolist() == choose.facility_location(POINTS, K, mask=mask).tolist()
        nearest = distances[mask][:, np.asarray(rows)].argmin(1)
        np.testing.assert_array_equal(weights, np.bincount(nearest, minlength=K))
        assert weights.sum() == mask.sum()


@pytest.mark.parametrize("mask", [ALL, SOME], ids=["bare", "masked"])
def test_grad_match_is_orthogonal_matching_pursuit_with_non_negative_weights(mask):
    """Every step by SciPy; some weights are pushed to zero on the way."""
    gradients = np.random.default_rng(3).normal(size=(N, 6)).astype(np.float32) + 0.3
    there, chosen, weights = gradients[mask].astype(float), [], np.zeros(0)
    target = there.sum(0)
    for _ in range(10):
        missing = target - weights @ there[chosen] if chosen else target
        products = there @ missing
        products[chosen] = -np.inf
        chosen.append(int(products.argmax()))
        system = np.vstack([there[chosen].T, np.sqrt(0.5) * np.eye(len(chosen))])
        weights = scipy.optimize.nnls(system, np.concatenate([target, np.zeros(len(chosen))]))[0]
    rows, found = choose.grad_match(gradients, 10, ridge=0.5, mask=mask)
    assert rows.tolist() == chosen
    np.testing.assert_allclose(found, weights, atol=1e-3 * weights.max())
    assert np.all(np.asarray(found) >= 0)


def glister_by_hand(part, validation, k, step, update=True):
    """The greedy loop with gradients written out."""

    def gradients(features, logits, targets):
        p = np.exp(logits - logits.max(1, keepdims=True))
        errors = p / p.sum(1, keepdims=True) - targets
        inputs = np.concatenate([features, np.ones((len(features), 1))], 1)
        return inputs[:, :, None] * errors[:, None]

    part, validation = ([np.asarray(field, float) for field in each] for each in (part, validation))
    own = gradients(*part)

    def score(chosen):
        moved = step * own[chosen].sum(0) if chosen and update else np.zeros_like(own[0])
        inputs = np.concatenate([validation[0], np.ones((len(validation[0]), 1))], 1)
        slope = gradients(validation[0], validation[1] - inputs @ moved, validation[2]).mean(0)
        return (own * slope).sum((1, 2))

    return loop(score, k, len(own))


def test_glister_takes_the_validation_gradient_anew(rng):
    features, labels = rng.normal(size=(N, 5)), rng.integers(0, 3, N)
    logits = rng.normal(size=(N, 3))
    part = LastLayer.of(features, logits, labels)
    validation = LastLayer.of(features[:40] + 0.1, logits[:40], labels[:40])
    rows = choose.glister(part, 10, validation=validation, step=0.5)
    assert rows.tolist() == glister_by_hand(part, validation, 10, 0.5)
    assert rows.tolist() != glister_by_hand(part, validation, 10, 0.5, update=False)


def test_moderate_points_are_near_the_median_distance():
    for mask in (ALL, SOME):
        distance = np.linalg.norm(POINTS[mask] - POINTS[mask].mean(0), axis=1)
        apart = np.abs(distance - np.median(distance))
        rows = np.asarray(choose.moderate(POINTS, K, mask=mask))
        assert len(set(rows.tolist())) == K
        np.testing.assert_allclose(apart[rows], np.sort(apart)[:K], atol=1e-5)


def test_ends_of_scores():
    scores = np.array([3.0, 1.0, 2.0, 3.0, 0.0])
    assert choose.hardest(scores, 3).tolist() == [0, 3, 2]
    assert choose.easiest(scores, 3).tolist() == [4, 1, 2]
    assert choose.hardest(scores, 2, mask=scores < 3).tolist() == [2, 1]


def test_uniform_is_fair_and_does_not_see_what_follows(key):
    keys = list(jax.random.split(key, 300))
    counts = sum(np.bincount(choose.uniform(10, 3, one), minlength=10) for one in keys)
    assert counts.min() > 55 and counts.sum() == 900  # 90 each, deviation 8
    mask = np.arange(16) < 10
    assert choose.uniform(16, 3, keys[0], mask=mask).tolist() == choose.uniform(10, 3, keys[0]).tolist()


def test_stratified_gives_every_stratum_as_many(key):
    strata = np.repeat([7, -2, 3, 100], [2, 30, 30, 38])
    rows = np.asarray(choose.stratified(strata, 30, key))
    assert len(set(rows.tolist())) == 30
    counts = [(strata[rows] == stratum).sum() for stratum in (7, -2, 3, 100)]
    assert counts[0] == 2 and sorted(counts[1:]) == [9, 9, 10]
    mask = strata != 100
    rows = np.asarray(choose.stratified(strata, 22, key, mask=mask))
    assert [(strata[rows] == stratum).sum() for stratum in (7, -2, 3, 100)] == [2, 10, 10, 0]


def test_ccs_leaves_out_the_hardest_and_covers_the_rest(key):
    scores = np.concatenate([np.linspace(0, 1, 80), np.linspace(5, 9, 20)])
    rows = np.asarray(choose.ccs(scores, 16, key, cutoff=0.2, strata=8))
    assert scores[rows].max() <= 1 and len(set(rows.tolist())) == 16
    assert np.bincount(np.minimum(scores[rows] * 8, 7).astype(int), minlength=8).tolist() == [2] * 8
    assert sorted(choose.ccs(scores, 95, key, cutoff=0.2, strata=8).tolist()) == list(range(95))


def test_k_means_gives_distinct_points_near_its_centres(key):
    rows = np.asarray(choose.k_means(POINTS, 8, key, mask=SOME))
    assert len(set(rows.tolist())) == 8 and rows.max() < 150
    distances = -similarities(POINTS, "euclidean")
    spread = distances[SOME][:, rows].min(1).mean()
    random = [
        distances[SOME][:, np.asarray(choose.uniform(150, 8, one))].min(1).mean() for one in jax.random.split(key)
    ]
    assert spread < min(random)
    assert rows.tolist() == choose.k_means(POINTS, 8, key, mask=SOME).tolist()


@pytest.mark.parametrize("k", [0, N + 1, 1.5, True, None])
def test_another_number_is_one_sentence(k):
    with pytest.raises(JaxddError, match="number of points to choose"):
        choose.herding(POINTS, k)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: choose.herding(POINTS[0], 1), r"shape \(n, d\)"),
        (lambda: choose.facility_location(np.where(POINTS > 4, np.nan, POINTS), 1), "finite"),
        (lambda: choose.k_center(POINTS * np.float32(1e15), 1), "1e\\+15"),
        (lambda: choose.hardest(POINTS, 1), r"shape \(n,\)"),
        (lambda: choose.graph_cut(POINTS, 1, similarity="dot"), "similarity"),
        (lambda: choose.graph_cut(POINTS, 1, penalty=0), "penalty"),
        (lambda: choose.graph_cut(POINTS, 1, penalty=1e39), "penalty"),  # infinite in float32
        (lambda: choose.grad_match(POINTS, 1, ridge=0), "ridge"),
        (lambda: choose.k_center(POINTS, 1, first=N), "none of the points"),
        (lambda: choose.k_center(POINTS, 1, centres=POINTS[:, :3]), "3 features"),
        (lambda: choose.ccs(POINTS[:, 0], 1, jax.random.key(0), cutoff=1.0), "cutoff"),
        (lambda: choose.stratified(POINTS[:, 0], 1, jax.random.key(0)), "integers"),
        (lambda: choose.herding(POINTS, 1, mask=SOME[1:]), "mask"),
        (lambda: choose.herding(POINTS, 1, mask=np.arange(N)), "mask must say .* int32"),
        (lambda: choose.uniform(N, 1, jax.random.key(0), mask=SOME[1:]), "mask"),
        (lambda: choose.uniform(POINTS, 151, jax.random.key(0), mask=SOME), "only 150"),
        (lambda: choose.uniform((POINTS, POINTS[1:]), 1, jax.random.key(0)), "199 rows, 200 rows"),
        (lambda: choose.uniform([[1, 2], [3, 4]], 1, jax.random.key(0)), "a number"),
        (lambda: choose.stratified(np.arange(N), 1, jax.random.key(0), mask=SOME[1:]), "mask"),
        (lambda: choose.stratified(np.arange(N), 151, jax.random.key(0), mask=SOME), "only 150"),
        (lambda: choose.herding([[1, 2], [3]], 1), "array of real numbers"),
        (lambda: choose.herding(POINTS, 151, mask=SOME), "only 150"),
        (lambda: choose.glister(POINTS, 1, validation=POINTS), "must be a LastLayer"),
        (lambda: choose.glister(LastLayer(POINTS, POINTS, POINTS[1:]), 1, validation=None), "199 rows, 200 rows"),
    ],
)
def test_what_cannot_be_chosen_from_is_one_sentence(call, said):
    with pytest.raises(JaxddError, match=said):
        call()


def test_points_as_large_as_may_be_are_chosen_from_as_small_ones():
    """Whatever overflows on the way, a rule would choose a row twice, or never end."""
    gradients = np.random.default_rng(3).normal(size=(N, D)).astype(np.float32)
    large = 2.0 ** np.floor(np.log2(1e15 / np.linalg.norm(np.concatenate([POINTS, gradients]), axis=1).max()))
    for name in RULES:
        rule, _ = RULES[name]
        assert rule(POINTS * np.float32(large), K).tolist() == rule(POINTS, K).tolist(), name
    rows, _ = choose.grad_match(gradients * np.float32(large), 10)
    assert len(set(rows.tolist())) == 10


def test_a_gain_that_is_no_number_ends_the_choice():
    """In a program nothing is refused, and the loop must end by itself."""
    spoiled = np.where(SOME[:, None], POINTS, np.nan)
    assert jax.jit(lambda points: choose.facility_location(points, K))(spoiled).shape == (K,)


def test_what_is_masked_may_hold_anything():
    spoiled = np.where(SOME[:, None], POINTS, np.nan)
    assert choose.herding(spoiled, K, mask=SOME).tolist() == choose.herding(POINTS, K, mask=SOME).tolist()


def test_blocks_cover_all_rows():
    assert _lazy.in_blocks(lambda rows: rows * 2, 10, 4).tolist() == list(range(0, 20, 2))
