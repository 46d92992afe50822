"""Gradients towards flat minima, beside a transcription in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.errors import JaxddError
from jaxdd.training import sharpness_aware

CURVATURE = np.array([[3.0, 0.5, 0.0], [0.5, 1.0, -0.2], [0.0, -0.2, 0.3]])


def loss(theta, stats):
    vector = jnp.concatenate([theta["a"], theta["b"]])
    return 0.5 * vector @ jnp.asarray(CURVATURE, vector.dtype) @ vector, (stats, {"sum": vector.sum()})


@pytest.mark.parametrize("adaptive", [True, False])
def test_equals_the_algorithm(adaptive):
    """GSAM's decomposition; the perturbation is FTD's where it is adaptive."""
    theta, radius, surrogate = np.array([0.4, -0.7, 1.3]), 0.2, 0.3
    here = CURVATURE @ theta
    weight = np.abs(theta) if adaptive else np.ones(3)
    there = CURVATURE @ (theta + radius * weight**2 * here / np.linalg.norm(weight * here))
    cosine = here @ there / np.linalg.norm(here) / np.linalg.norm(there)
    across = here - cosine * np.linalg.norm(here) * there / np.linalg.norm(there)
    tree = {"a": jnp.array(theta[:2], "f"), "b": jnp.array(theta[2:], "f")}
    (value, (stats, metrics)), found = jax.jit(sharpness_aware(radius, surrogate, adaptive=adaptive)(loss))(tree, {})
    np.testing.assert_allclose(np.concatenate([found["a"], found["b"]]), there - surrogate * across, rtol=1e-5)
    np.testing.assert_allclose([value, metrics["sum"]], [0.5 * theta @ here, theta.sum()], rtol=1e-5)
    assert stats == {}


def test_devices_that_see_parts_climb_the_same_way():
    """The perturbation is of the gradient of the whole batch."""
    theta, images = jnp.array([0.4, -0.7, 1.3]), jnp.array(np.random.default_rng(0).normal(size=(4, 3)), "f")

    def of(images):
        return lambda theta, stats: (jnp.mean(jnp.cosh(images @ theta)), (stats, {}))

    slope = sharpness_aware(0.3, 0.5)
    _, whole = jax.jit(slope(of(images)))(theta, {})
    part = jax.vmap(lambda some: slope(of(some), "i")(theta, {})[1], axis_name="i")
    np.testing.assert_allclose(jax.jit(part)(images.reshape(2, 2, 3)), np.stack([whole] * 2), rtol=1e-5)


def test_a_stationary_place_stays():
    _, found = sharpness_aware()(loss)({"a": jnp.zeros(2), "b": jnp.zeros(1)}, {})
    np.testing.assert_array_equal(np.concatenate([found["a"], found["b"]]), 0)


def test_bad_numbers_are_refused():
    with pytest.raises(JaxddError, match="the radius of sharpness-aware training"):
        sharpness_aware(0.0)
    with pytest.raises(JaxddError, match="must be at least 0, got -1"):
        sharpness_aware(0.1, -1)
