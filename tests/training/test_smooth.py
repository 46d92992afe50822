"""Smooth ways: the loss of a step by hand, in a clipped epoch and after it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from jaxdd import models, training

MODEL = "convnet(width=3, depth=1)"
NETWORK = models.build(MODEL, (14, 14, 1), 4)


@pytest.mark.parametrize(
    ("penalty", "target", "epochs"),
    [(2.0, 1.0, 2), *(pytest.param(*case, marks=pytest.mark.endurance) for case in ((2.0, 0.0, 0), (0.0, 0.0, 0)))],
)
def test_the_loss_is_clipped_cross_entropy_and_a_penalty_on_slopes(penalty, target, epochs, digits):
    options = {"batch_size": 240, "penalty": penalty, "target": target, "clipped_epochs": epochs}
    recipe = training.smooth(MODEL, optax.sgd(0.1), **options)
    done = toys.updates(recipe, digits, 5)  # two steps an epoch

    @jax.jit
    @jax.value_and_grad
    def plainly(theta, clip, images, labels):
        logits = NETWORK.apply(theta, images, {})[0]
        entropy = -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1))
        slope = jax.grad(lambda x: NETWORK.apply(theta, x, {})[0].sum())(images)
        return clip * entropy + penalty * jnp.mean((jnp.abs(slope[..., 0]) - target) ** 2)  # one channel

    for step, clip in enumerate([0.5, 0.5, 0.75, 0.75, 1.0] if epochs else [1.0] * 2):
        update = done[step]
        batch, theta = update.batch, update.before.network.theta

        value, slope = plainly(theta, clip, batch.images, batch.labels)
        assert float(update.metrics["loss"]) == pytest.approx(float(value), rel=1e-4)
        expected = jax.tree.map(lambda p, g: p - 0.1 * g, theta, slope)
        for found, right in zip(*map(jax.tree.leaves, (update.after.network.theta, expected)), strict=True):
            np.testing.assert_allclose(found, right, rtol=1e-3, atol=1e-5)
