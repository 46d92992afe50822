"""DWA: updates by hand, and how far its teachers go."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from recovering_by_hand import TINY, assert_updates, plain_inversion, plain_teacher, rolled, taught
from toys import updates

from jaxdd import methods
from jaxdd.types import NetworkState

OPTIONS = {**TINY, "adjustment_steps": 2, "adjustment": 0.3}


@pytest.fixture(scope="module")
def teacher(digits):
    return taught(methods.dwa(**OPTIONS), digits).assets["teacher"]


def test_two_updates_by_hand(digits, teacher):
    labels = jnp.arange(4)

    def ascended(theta, images, key):
        for step_key in jax.random.split(jax.random.fold_in(key, 1), 2):

            def loss(theta, step_key=step_key):
                logits, _ = plain_teacher(NetworkState(theta, teacher.stats), rolled(images, step_key))
                return -jax.nn.log_softmax(logits)[labels, labels].mean()

            slope = jax.grad(loss)(theta)
            norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(slope)))
            theta = jax.tree.map(lambda leaf, along, norm=norm: leaf + 0.15 * along / norm, theta, slope)
        return theta

    def loss(images, state, key):
        fixed = jax.lax.stop_gradient(images)
        theta = state.given["theta"]
        theta = jax.lax.cond(state.step == 0, lambda theta: ascended(theta, fixed, key), lambda theta: theta, theta)
        moved = NetworkState(jax.lax.stop_gradient(theta), teacher.stats)
        return plain_inversion(moved, rolled(images, key), labels, variance=11.0)

    found = assert_updates(methods.dwa(**OPTIONS), digits, loss)
    begun = np.asarray(digits.images)[[np.flatnonzero(np.asarray(digits.labels.values) == k)[0] for k in range(4)]]
    np.testing.assert_array_equal(found[0].before.images, begun)  # the first image of each class
    theta = ascended(teacher.theta, found[0].before.images, found[0].key)
    for ours, plain in zip(jax.tree.leaves(found[1].after.given["theta"]), jax.tree.leaves(theta), strict=True):
        np.testing.assert_allclose(ours, plain, atol=2e-5)  # once, before the first update


@pytest.mark.endurance
def test_a_random_direction_is_as_far(digits, teacher):
    def way(**options):
        (update,) = updates(methods.dwa(**OPTIONS | options), digits, count=1)
        return optax.tree.sub(update.after.given["theta"], teacher.theta)

    assert 0.2 < optax.tree.norm(way()) < 0.3  # not quite straight
    assert optax.tree.norm(way(direction="random", adjustment_steps=1)) == pytest.approx(0.3, rel=1e-3)
    assert optax.tree.norm(way(adjustment_steps=0)) == 0
