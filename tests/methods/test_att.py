"""ATT: the step that counts, and updates by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from walking_by_hand import OPTIONS, assert_updates, flat, left, walks

from jaxdd import methods


@pytest.fixture(scope="module")
def done(digits):
    return toys.updates(methods.att(**OPTIONS | {"inner_learning_rate": 0.12}), digits, 8)


@jax.jit
def nearest(learned, update):
    """Of each expert, by absolute differences, the last of equal ones."""
    steps = []
    for thetas, _, goal in walks(learned, update):
        apart = jnp.stack([jnp.abs(flat(theta) - flat(goal)).sum() for theta in thetas])
        steps.append(2 - jnp.argmin(apart[::-1]))
    return jnp.stack(steps)


@jax.jit
def plainly(learned, update, steps):
    def loss(learned):
        each = []
        for (thetas, start, goal), step in zip(walks(learned, update), steps, strict=True):
            each.append(jnp.stack([left([theta], start, goal) for theta in thetas])[step])
        return jnp.stack(each).mean()

    return jax.value_and_grad(loss)(learned)


def test_updates_are_those_of_the_nearest_step(done):
    """Which is not always the last one, at a step size that is too large."""
    rates, chosen = {"images": 5.0, "learning_rates": 1e-3}, []

    def by_hand(learned, update):
        steps = nearest(learned, update)
        chosen.append(np.asarray(steps))
        np.testing.assert_allclose(update.metrics["nearest_step"], np.mean(steps) + 1)
        return plainly(learned, update, steps)

    assert_updates(done, by_hand, rates)
    assert len(np.unique(chosen)) > 1
