"""Curricula: who counts in an epoch, and updates by hand."""

import dataclasses

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdd import engine, models, training
from jaxdd.training.curriculum import places
from jaxdd.types import Labels, NetworkState, bound

NETWORK = models.build("mlp(width=8, depth=1)", (14, 14, 1), 4)
COUNT, BATCH = 480, 120


def window(epoch):
    """The easy half at first, then all but the easiest fifth."""
    return jnp.where(epoch < 1, 0.0, 0.2), jnp.where(epoch < 1, 0.5, 1.0)


RECIPE = training.curriculum(NETWORK, optax.sgd(0.3), window, batch_size=BATCH, scores="hard")


@pytest.fixture(scope="module")
def scored(digits):
    errors = jnp.asarray(np.random.default_rng(0).random(COUNT), jnp.float32)
    zeros = jnp.zeros(COUNT)
    said = training.Dynamics(zeros, zeros, errors, NetworkState({}, {}))
    return dataclasses.replace(digits, assets={"hard": said})


def test_places_are_shares_of_the_class_that_are_easier():
    labels = Labels.index(np.array([1, 0, 1, 0, 1, 1]), 2)
    np.testing.assert_allclose(places(jnp.array([3.0, 2, 1, 2, 4, 2]), labels), [0.5, 0, 0, 0.5, 0.75, 0.25])


@pytest.fixture(scope="module")
def run(scored):
    method, key = bound(RECIPE, scored), jax.random.key(0)
    draw = jax.jit(lambda step: engine.draw(method, scored, key, step))
    return method, jax.jit(method.init)(key, scored), jax.jit(method.update), draw


@jax.jit
@jax.value_and_grad
def of_some(theta, images, labels, rows):
    """Of those rows alone, the others once more in place of them."""
    logits = NETWORK.apply(theta, images, {})[0]
    each = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)[:, 0]
    return jnp.sum(rows * each) / jnp.sum(rows)


def test_updates_descend_on_those_within_the_window(run, scored):
    """The last step of an epoch, and the first of the next."""
    _, state, update, draw = run
    errors, labels = np.asarray(scored.assets["hard"].errors), np.asarray(scored.labels.values)
    easier = np.array([(errors[labels == label] < error).mean() for error, label in zip(errors, labels, strict=True)])
    for step in range(5):
        batch = draw(np.int32(step))
        low, high = (0, 0.5) if step < 4 else (0.2, 1)
        place = easier[np.asarray(batch.rows["examples"])]
        counts = (place >= low) & (place < high)
        assert 0 < counts.sum() < BATCH
        theta = state.network.theta
        loss, slope = of_some(theta, batch.images, batch.labels, counts.astype("f"))
        state, metrics = update(jax.random.key(step), state, batch)
        assert float(metrics["share"]) == pytest.approx(counts.mean())
        assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-4)
        expected = jax.tree.map(lambda p, g: p - 0.3 * g, theta, slope)
        for found, right in zip(*map(jax.tree.leaves, (state.network.theta, expected)), strict=True):
            by_hand.assert_near(found, right, 1e-4)


def test_devices_that_see_parts_weigh_them_by_the_whole(run):
    """A part may have more within the window than another."""
    method, state, update, draw = run
    batch = draw(np.int32(0))
    dealt = jax.tree.map(lambda leaf: leaf.reshape(2, -1, *leaf.shape[1:]), batch._replace(assets={}))
    part = jax.vmap(lambda batch: method.update(jax.random.key(0), state, batch, axis_name="i")[0], axis_name="i")
    expected = update(jax.random.key(0), state, batch)[0].network.theta
    for found, right in zip(*map(jax.tree.leaves, (jax.jit(part)(dealt).network.theta, expected)), strict=True):
        np.testing.assert_allclose(found, np.stack([right] * 2), rtol=1e-4, atol=1e-5)
