import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxdd import losses
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
    squares = [
        sum(np.sum((np.asarray(a) - b) ** 2) for a, b in zip(*pair, strict=True))
        for pair in zip(found, running, strict=True)
    ]
    squared = statistics_matching(found, running, first_weight=1.0, squared=True)
    np.testing.assert_allclose(squared, sum(squares), rtol=1e-5)


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


def test_examples_by_themselves_are_numpys(rng):
    maps = [rng.normal(size=(3, 4, 5, c)) * 2 + 1 for c in (2, 3)]
    running = [(rng.normal(size=c), rng.uniform(0.5, 2, size=c)) for c in (2, 3)]
    images = rng.normal(size=(3, 4, 5, 2))
    expected = 0.0
    for x, mean, deviation in [
        *[(x, mean, np.sqrt(variance + 1e-6)) for x, (mean, variance) in zip(maps, running, strict=True)],
        (images, 0.0, 1.0),
    ]:
        apart = (x.mean((1, 2)) - mean) ** 2 + (np.sqrt(x.var((1, 2), ddof=1) + 1e-6) - deviation) ** 2
        expected += apart.sum() / 3
    found = [(x.mean((1, 2)), x.var((1, 2))) for x in maps]
    value = losses.example_statistics_matching(found, running, (20, 20), jnp.asarray(images))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    flat = jax.grad(lambda x: losses.example_statistics_matching([(x.mean((1, 2)), x.var((1, 2)))], running[:1], (1,)))
    assert np.isfinite(flat(jnp.zeros((2, 1, 1, 2)))).all()  # of constant examples
    with pytest.raises(JaxddError, match="statistics by example must be some"):
        losses.example_statistics_matching(found, running, (20,))


def test_variances_may_weigh_more(rng):
    (found, running) = ([(rng.normal(size=4), rng.uniform(size=4))] for _ in range(2))
    apart = [np.linalg.norm(a - b) for a, b in zip(found[0], running[0], strict=True)]
    value = losses.statistics_matching(found, running, first_weight=2.0, variance_weight=11.0)
    np.testing.assert_allclose(value, 2 * (apart[0] + 11 * apart[1]), rtol=1e-5)


def test_a_batch_of_labels_is_to_have_the_moments_of_its_classes(rng):
    """With the variance between them the very moments of their examples, as many of each as labels are."""
    examples = rng.normal(size=(3, 50, 4)) * rng.uniform(0.5, 2, size=(3, 1, 4)) + rng.normal(size=(3, 1, 4))
    by_class = [(jnp.asarray(examples.mean(1)), jnp.asarray(examples.var(1)))]
    labels = jnp.asarray([2, 0, 2, 2])
    drawn = np.concatenate([examples[label] for label in (2, 0, 2, 2)])
    (mean, variance), (plain_mean, plain_variance) = (
        losses.statistics_of_labels(by_class, labels, between=between)[0] for between in (True, False)
    )
    np.testing.assert_allclose(mean, drawn.mean(0), atol=1e-5)
    np.testing.assert_allclose(variance, drawn.var(0), rtol=1e-4)
    np.testing.assert_array_equal(plain_mean, mean)
    np.testing.assert_allclose(plain_variance, examples.var(1)[[2, 0, 2, 2]].mean(0), rtol=1e-5)
    weights = losses.statistics_of_labels(by_class, jax.nn.one_hot(labels, 3))
    np.testing.assert_array_equal(weights[0][1], plain_variance)
    with pytest.raises(JaxddError, match="of the 3 classes"):
        losses.statistics_of_labels(by_class, jnp.zeros((4, 2)))


def test_moving_averages_have_the_gradient_of_the_last_batch(rng):
    running, batches = statistics(rng, 3, 2), [statistics(rng, 3, 2) for _ in range(2)]
    moving = jax.tree.map(jnp.zeros_like, tuple(batches[0]))
    for found in batches:
        moving, estimate = losses.moving_statistics(moving, found, decay=0.8)
    expected = jax.tree.map(lambda first, last: 0.8 * 0.2 * first + 0.2 * last, *(tuple(each) for each in batches))
    for ours in (moving, estimate):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), ours, expected)

    def loss(found, moving):
        return statistics_matching(losses.moving_statistics(moving, found)[1], running)

    ours, of_averages = jax.grad(loss, argnums=(0, 1))(tuple(batches[1]), moving)
    averages = losses.moving_statistics(moving, batches[1])[0]
    theirs = jax.grad(lambda found: statistics_matching(found, running))(averages)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), ours, theirs)
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(of_averages))
    with pytest.raises(JaxddError, match="must have equal shapes"):
        losses.moving_statistics(moving[:1], batches[1])
