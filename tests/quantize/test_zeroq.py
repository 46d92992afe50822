"""ZeroQ: two updates by hand, and its rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import Adam

from jaxdd import models, quantize
from jaxdd.errors import JaxddError
from jaxdd.quantize import ZeroQState, zeroq_step
from jaxdd.types import NetworkState

MODEL, SHAPE = "convnet(width=3, depth=2, norm='batch')", (6, 6, 2)


@pytest.fixture(scope="module")
def network():
    return models.build(MODEL, SHAPE, 3)


@pytest.fixture(scope="module")
def teacher(network):
    theta, stats = jax.jit(network.init)(jax.random.key(0))
    return NetworkState(theta, jax.tree.map(lambda leaf: leaf + 0.3, stats))


@jax.numpy_rank_promotion("allow")
def plain_loss(teacher, images):
    """In plain operations: unbiased deviations of each example, squares, means over examples."""
    theta, running = teacher.theta, teacher.stats["batch_stats"]

    def apart(x, mean, deviation):
        found = x.mean((1, 2)), jnp.sqrt(x.var((1, 2), ddof=1) + 1e-6)
        return (((found[0] - mean) ** 2).sum() + ((found[1] - deviation) ** 2).sum()) / len(x)

    total, x = apart(images, 0.0, 1.0), images
    for k in range(2):
        kernel, bias, kept = theta[f"conv_{k}"]["kernel"], theta[f"conv_{k}"]["bias"], running[f"norm_{k}"]
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias
        total += apart(x, kept["mean"], jnp.sqrt(kept["var"] + 1e-6))
        norm = theta[f"norm_{k}"]
        x = (x - kept["mean"]) / jnp.sqrt(kept["var"] + 1e-5) * norm["scale"] + norm["bias"]
        n, h, w, c = x.shape
        x = jnp.maximum(x, 0)[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
    return total


def test_two_updates_by_hand(network, teacher):
    state, adam = ZeroQState.first(jax.random.key(1), (4, *SHAPE)), Adam()
    step, slope_of = (
        jax.jit(lambda state: zeroq_step(network, teacher, state)),
        jax.jit(jax.value_and_grad(plain_loss, 1)),
    )
    for _ in range(2):
        value, slope = slope_of(teacher, state.images)
        after, found = step(state)
        np.testing.assert_allclose(found, value, rtol=1e-4)
        expected = np.asarray(state.images) - 0.5 * adam.step(slope)
        assert (np.abs(np.asarray(after.images) - expected) > 1e-3).mean() < 2e-3
        state = after


def test_the_rate_falls_where_nothing_gets_better(network, teacher):
    state = ZeroQState.first(jax.random.key(1), (2, *SHAPE))._replace(best=jnp.float32(0.0))
    step = jax.jit(lambda state: zeroq_step(network, teacher, state)[0])
    rates = [float(step(state._replace(waited=jnp.int32(waited))).rate) for waited in (99, 100)]
    np.testing.assert_allclose(rates, [0.5, 0.05])
    low = step(state._replace(waited=jnp.int32(100), rate=jnp.float32(2e-4)))
    assert float(low.rate) == pytest.approx(1e-4) and int(low.waited) == 0


def test_what_is_remembered_is_found(network, teacher):
    shape = (4, *SHAPE)
    images = quantize.zeroq(jax.random.key(1), network, teacher, SHAPE, count=4, steps=60, learning_rate=0.1)
    before = plain_loss(teacher, ZeroQState.first(jax.random.key(1), shape).images)
    assert images.shape == shape and plain_loss(teacher, images) < 0.7 * before
    with pytest.raises(JaxddError, match="images of a calibration set must be an integer of at least 1"):
        quantize.zeroq(jax.random.key(0), network, teacher, SHAPE, count=0)
