"""InfoBatch beside a plain loop, and the gradient that it has on the average."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from jaxdd import engine, losses, models, training
from jaxdd.errors import JaxddError
from jaxdd.training.infobatch import kept
from jaxdd.types import Labels, RealData, bound

NETWORK = models.build("mlp(width=4, depth=1)", (14, 14, 1), 4)
COUNT, BATCH, EPOCHS, RATE = 120, 40, 4, 0.2
RECIPE = training.infobatch(NETWORK, optax.sgd(RATE), batch_size=BATCH, epochs=EPOCHS, prune=0.6, whole_share=0.25)


@pytest.fixture(scope="module")
def few(digits):
    return RealData.of(digits.images[::4], Labels.index(np.asarray(digits.labels.values)[::4], 4))


@pytest.fixture(scope="module")
def done(few):
    method, key = bound(RECIPE, few), jax.random.key(1)
    state, update = jax.jit(method.init)(key, few), jax.jit(method.update)
    draw = jax.jit(lambda step: engine.draw(method, few, key, step))
    found = []
    for step in range(3 * EPOCHS):
        key_step, batch = jax.random.fold_in(key, step), draw(np.int32(step))
        after, metrics = update(key_step, state, batch)
        found.append(toys.Update(key_step, batch, state, after, metrics))
        state = after
    return found


@jax.jit
def slope(theta, images, labels, weights):
    def loss(theta):
        each = losses.cross_entropy(NETWORK.apply(theta, images, {})[0], labels)
        return (weights * each).mean(), each

    return jax.grad(loss, has_aux=True)(theta)


def test_updates_are_those_of_a_loop_that_keeps_the_last_losses(done):
    """Everything counts in the first epoch and in the last; between them what is below the mean stays by lot."""
    known, threshold, visits, left_out = np.zeros(COUNT), 0.0, 0, np.zeros(EPOCHS)
    for step, update in enumerate(done):
        if step % 3 == 0:
            threshold = known.mean()
        rows, theta = np.asarray(update.batch.rows["examples"]), update.before.training.network.theta
        weights = np.ones(BATCH)
        if step // 3 < 3:
            stays = np.asarray(jax.random.uniform(jax.random.fold_in(update.key, 2), (BATCH,))) >= 0.6
            weights[known[rows] < threshold] = (stays / 0.4)[known[rows] < threshold]
        grads, each = slope(theta, update.batch.images, update.batch.labels, jnp.asarray(weights, jnp.float32))
        expected = jax.tree.map(lambda leaf, g: leaf - RATE * g, theta, grads)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), update.after.training.network.theta, expected
        )
        counts = weights > 0
        known[rows[counts]] = np.asarray(each)[counts]
        visits, left_out[step // 3] = visits + counts.sum(), left_out[step // 3] + (~counts).sum()
        np.testing.assert_allclose(update.after.losses, known, rtol=1e-4, atol=1e-5)
        assert int(update.after.visits) == visits
        assert float(update.metrics["kept"]) == pytest.approx(counts.mean())
    assert left_out[0] == left_out[3] == 0 and (left_out[1:3] > 15).all()


def test_its_expectation_is_the_gradient_of_all_examples(done, few):
    """Over 400 draws of what stays, to five standard errors of each weight of the network."""
    update, method = done[4], bound(RECIPE, few)
    keys = jax.random.split(jax.random.key(7), 400)
    one = jax.jit(
        lambda keys: jax.lax.map(
            lambda key: method.update(key, update.before, update.batch)[0].training.network.theta, keys, batch_size=400
        )
    )
    theta = update.before.training.network.theta
    whole, _ = slope(theta, update.batch.images, update.batch.labels, jnp.ones(BATCH))

    def close(after, before, grad):
        steps = (np.asarray(before) - np.asarray(after, np.float64)) / RATE
        error = steps.std(0) / np.sqrt(len(keys))
        assert error.max() > 1e-4
        assert np.all(np.abs(steps.mean(0) - grad) < 5 * error + 1e-6)

    jax.tree.map(close, one(keys), theta, whole)


def test_devices_of_a_named_axis_learn_from_all_their_examples(done, few):
    """What two see of a batch is what one would, where everything counts, as an epoch begins, and within it."""
    of_devices = functools.partial(bound(RECIPE, few).update, axis_name="i")
    mapped = jax.jit(jax.vmap(of_devices, (None, None, 0), axis_name="i", out_axes=None))
    for update in (done[2], done[3], done[4]):
        halves = jax.tree.map(lambda leaf: leaf.reshape(2, BATCH // 2, *leaf.shape[1:]), update.batch)
        state, metrics = mapped(update.key, update.before, halves)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), state, update.after)
        assert float(metrics["kept"]) == pytest.approx(float(update.metrics["kept"]))
    assert float(metrics["kept"]) < 1


def test_what_is_below_the_threshold_counts_once_on_the_average():
    values = jnp.array([0.1, 0.5, 0.2, 0.9])
    drawn = np.asarray(jax.vmap(lambda key: kept(key, values, 0.5, 0.75))(jax.random.split(jax.random.key(0), 2000)))
    assert set(np.unique(drawn[:, ::2])) == {0.0, 4.0} and set(np.unique(drawn[:, 1::2])) == {1.0}
    assert np.all(np.abs(drawn.mean(0) - 1) < 5 * np.sqrt(3 / 2000))


@pytest.mark.parametrize("change", [{"prune": 1.0}, {"prune": -0.1}, {"whole_share": 1.5}, {"epochs": 0}])
def test_impossible_numbers_are_refused(change):
    with pytest.raises(JaxddError, match=r"prunes with a probability of 0 to below 1|epochs must be an integer"):
        training.infobatch(NETWORK, optax.sgd(0.1), **{"batch_size": 4, "epochs": 3, **change})
