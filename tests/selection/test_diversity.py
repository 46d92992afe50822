"""Diversity where it is known: equal and orthogonal points, points that are all chosen."""

import numpy as np
import pytest
import scipy.spatial

from jaxdd.errors import JaxddError
from jaxdd.selection import diversity


def test_vendi_of_equal_and_of_orthogonal_points(rng, key):
    equal, orthogonal = np.tile(rng.normal(size=6), (5, 1)), 3 * np.linalg.qr(rng.normal(size=(5, 5)))[0]
    for score in (diversity.vendi, lambda points: diversity.g_vendi(points, key, dimensions=8)):
        np.testing.assert_allclose([score(equal), score(orthogonal)], [1, 5], rtol=1e-4)
    np.testing.assert_allclose(diversity.vendi_of_kernel(np.eye(5)), 5, rtol=1e-5)


def test_vendi_is_the_same_from_either_side(rng):
    points = rng.normal(size=(9, 4))
    units = points / np.linalg.norm(points, axis=1, keepdims=True)
    eigenvalues = np.linalg.eigvalsh(units @ units.T / 9)
    eigenvalues = eigenvalues[eigenvalues > 1e-9]
    expected = np.exp(-np.sum(eigenvalues * np.log(eigenvalues)))
    np.testing.assert_allclose(diversity.vendi(points), expected, rtol=1e-4)
    np.testing.assert_allclose(diversity.vendi_of_kernel(units @ units.T), expected, rtol=1e-4)
    np.testing.assert_allclose(diversity.vendi(np.concatenate([points, np.zeros((2, 4))])), expected, rtol=1e-4)


def test_projected_gradients_keep_their_diversity(rng, key):
    """Eight directions in 2,000 dimensions, several gradients along each."""
    gradients = rng.normal(size=(8, 2000))[rng.integers(0, 8, 64)] * rng.uniform(1, 2, (64, 1))
    exact, projected = diversity.vendi(gradients), diversity.g_vendi(gradients, key, dimensions=512)
    np.testing.assert_allclose(projected, exact, rtol=0.05)


def test_coverage_and_representativeness(rng):
    points = np.concatenate([rng.normal(size=(30, 3)), 50 + rng.normal(size=(30, 3))])
    assert diversity.coverage(points, points) == 1
    np.testing.assert_allclose(diversity.representativeness(points, points), 1, rtol=1e-5)
    one_side = diversity.coverage(points, points[:30]), diversity.representativeness(points, points[:30])
    assert one_side[0] == 0.5 and one_side[1] < 0
    np.testing.assert_allclose(diversity.representativeness(points, points.mean(0, keepdims=True)), 0, atol=1e-5)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    radius = np.sort(distances, axis=1)[:, 2]
    made = rng.normal(size=(4, 3))
    near = np.linalg.norm(points[:, None] - made[None], axis=2).min(1) <= radius
    np.testing.assert_allclose(diversity.coverage(points, made, neighbours=3), near.mean())


def test_coverage_by_real_digits_is_that_of_a_plain_loop(mnist):
    """Where a chosen point is one of the real ones, itself or exactly a neighbour, rounding must not decide."""
    real = mnist.dataset.train.pixels()[:600].reshape(600, -1)
    apart = scipy.spatial.distance.cdist(real, real)
    radius = np.sort(apart + np.diag(np.full(600, np.inf)), axis=1)[:, 0]
    for seed in range(4):
        rows = np.random.default_rng(seed).choice(600, 200, replace=False)
        covered = apart[:, rows].min(1) <= radius
        assert covered[rows].all() and not covered.all()
        assert round(600 * float(diversity.coverage(real, real[rows], neighbours=1))) == covered.sum(), seed


@pytest.mark.parametrize(
    "call",
    [
        lambda: diversity.vendi(np.zeros((3, 2))),
        lambda: diversity.vendi(np.full((3, 2), 1e-30)),
        lambda: diversity.vendi_of_kernel(np.ones((3, 2))),
        lambda: diversity.coverage(np.ones((3, 2)), np.ones((3, 2)), neighbours=3),
        lambda: diversity.coverage(np.ones((3, 2)), np.ones((3, 1))),
        lambda: diversity.representativeness(np.ones((3, 2)), np.ones((1, 2))),
        lambda: diversity.representativeness(1e-30 * np.arange(6.0).reshape(3, 2), np.ones((1, 2))),
    ],
)
def test_what_has_no_diversity_is_one_sentence(call):
    with pytest.raises(JaxddError):
        call()
