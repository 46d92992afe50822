import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxdd.errors import JaxddError
from jaxdd.losses import statistics_matching


def statistics(rng, *channels):
    return [(jnp.asarray(rng.normal(size=c)), jnp.asarray(rng.uniform(0.5, 2, size=c))) for c in channels]


def test_it_is_the_formula(rng):
    found, running = statistics(rng, 3, 5, 4), statistics(rng, 3, 5, 4)
    norms = [
        np.linalg.norm(np.asarray(m) - n) + np.linalg.norm(np.asarray(v) - w)
        for (m, v), (n, w) in zip(found, running, strict=True)
    ]
    np.testing.assert_allclose(statistics_matching(found, running), 10 * norms[0] + norms[1] + norms[2], rtol=1e-5)
    flat = statistics_matching(found, running, first_weight=1.0)
    np.testing.assert_allclose(flat, sum(norms), rtol=1e-5)


def test_its_gradient_is_that_of_differences_and_zero_where_nothing_differs(rng):
    found, running = statistics(rng, 3, 5), statistics(rng, 3, 5)
    check_grads(lambda found: statistics_matching(found, running), (found,), order=1, modes=["rev"], rtol=1e-2)
    slopes = jax.grad(lambda found: statistics_matching(found, running))(running)
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(slopes))


def test_others_than_the_network_remembers_are_refused(rng):
    with pytest.raises(JaxddError, match="must be some, of equal shapes"):
        statistics_matching(statistics(rng, 3), statistics(rng, 3, 5))
    with pytest.raises(JaxddError, match="must be some"):
        statistics_matching([], [])
