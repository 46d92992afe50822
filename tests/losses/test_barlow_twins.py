import functools

import jax
import numpy as np
import pytest

from jaxdd.errors import JaxddError
from jaxdd.losses import barlow_twins, mean_squared_error

compiled = jax.jit(barlow_twins)


def plainly(z1, z2, off_diagonal):
    """Zbontar et al. 2021, algorithm 1, entry by entry in float64, with the authors' epsilon."""
    (n, d), total = z1.shape, 0.0
    z1, z2 = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (np.float64(z1), np.float64(z2)))
    for i in range(d):
        for j in range(d):
            correlation = sum(z1[b, i] * z2[b, j] for b in range(n)) / n
            total += (1 - correlation) ** 2 if i == j else off_diagonal * correlation**2
    return total


@pytest.mark.parametrize("off_diagonal", [5e-3, 0.7])
def test_it_is_the_formula(rng, off_diagonal):
    z1, z2 = np.float32(3 * rng.normal(size=(6, 4)) + 1), np.float32(rng.normal(size=(6, 4)))
    found = compiled(z1, z2, off_diagonal=off_diagonal)
    np.testing.assert_allclose(found, plainly(z1, z2, off_diagonal), rtol=1e-5)


def test_its_gradient_is_that_of_differences_in_both_views(rng, x64):
    with x64():
        loss = jax.jit(jax.value_and_grad(functools.partial(barlow_twins, off_diagonal=0.3), argnums=(0, 1)))
        views, along = rng.normal(size=(2, 2, 5, 3))
        slopes = np.stack(loss(*views)[1])
        for view in range(2):
            moved = np.eye(2)[view][:, None, None] * along
            up, down = (float(loss(*(views + h * moved))[0]) for h in (1e-6, -1e-6))
            np.testing.assert_allclose((slopes * moved).sum(), (up - down) / 2e-6, rtol=1e-5)


def test_scale_and_shift_of_an_entry_play_no_part_and_equal_views_cost_what_is_redundant(rng):
    z = rng.normal(size=(50, 3)).astype(np.float32)
    moved = 10 * z + np.array([[1.0, -2.0, 3.0]], np.float32)
    np.testing.assert_allclose(compiled(z, moved), compiled(z, z), rtol=1e-3)
    c = np.corrcoef(z.T)
    expected = 0.5 * ((c**2).sum() - 3)
    np.testing.assert_allclose(compiled(z, z, off_diagonal=0.5), expected, rtol=1e-3)


def test_a_constant_embedding_costs_its_entries_and_has_a_finite_slope():
    value, slope = jax.jit(jax.value_and_grad(barlow_twins))(*np.ones((2, 4, 3), np.float32))
    assert float(value) == 3 and np.isfinite(slope).all()


@pytest.mark.parametrize("shapes", [((4, 3), (4, 2)), ((4, 3), (3, 3)), ((1, 3), (1, 3)), ((4,), (4,))])
def test_other_than_two_equal_matrices_is_refused(shapes):
    with pytest.raises(JaxddError, match="must be matrices"):
        barlow_twins(*(np.ones(shape, np.float32) for shape in shapes))


def test_mean_squared_error_is_the_mean_of_the_entries(rng):
    p, t = rng.normal(size=(2, 5, 7)).astype(np.float32)
    np.testing.assert_allclose(jax.jit(mean_squared_error)(p, t), ((p - t) ** 2).mean(1), rtol=1e-5)
    with pytest.raises(JaxddError, match="targets"):
        mean_squared_error(p, t[:, :3])
