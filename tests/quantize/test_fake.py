"""Fake quantisation beside its definition in NumPy, and which layers it touches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models, quantize
from jaxdd.errors import JaxddError
from jaxdd.types import NetworkState

MODEL, SHAPE = "convnet(width=4, depth=2, norm='batch')", (8, 8, 3)


@pytest.fixture(scope="module")
def network():
    return models.build(MODEL, SHAPE, 3)


@pytest.fixture(scope="module")
def state(network):
    return NetworkState(*jax.jit(network.init)(jax.random.key(0)))


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(1), (5, *SHAPE))


def plain(x, low, high, bits):
    """Levels by a table: the nearest of 2**bits equal steps, of which one is zero."""
    step = (high - low) / (2**bits - 1)
    levels = (np.arange(2**bits) + np.round(low / step)) * step
    return levels[np.abs(np.asarray(x, np.float64)[..., None] - levels).argmin(-1)]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_numbers_are_at_the_nearest_level(bits, rng):
    x = np.append(rng.uniform(-2, 3, size=400), 0).astype(np.float32)
    found = quantize.fake_quantize(x, jnp.float32(-1.3), jnp.float32(2.1), bits)
    np.testing.assert_allclose(found, plain(x, -1.3, 2.1, bits), atol=1e-5)
    assert len(np.unique(found)) <= 2**bits
    assert found[-1] == 0 or bits == 1  # nothing stays nothing


def test_kernels_are_quantised_by_output_channel(network, state):
    layers = quantize.layers_of(network, SHAPE)
    assert [layer[0] for layer in layers] == ["conv_0", "conv_1", "head"]
    assert [layer.weights for layer in layers] == [108, 144, 48]
    assert [layer.sees_images for layer in layers] == [True, False, False]
    assert [layer.last for layer in layers] == [False, False, True]
    theta = quantize.quantized_weights(state.theta, layers, {"conv_1": 3})
    for channel in range(4):
        kernel = np.asarray(state.theta["conv_1"]["kernel"])[..., channel]
        expected = plain(kernel, kernel.min(), kernel.max(), 3)
        np.testing.assert_allclose(theta["conv_1"]["kernel"][..., channel], expected, atol=1e-6)
    for name in ("conv_0", "head", "norm_0"):
        jax.tree.map(np.testing.assert_array_equal, theta[name], state.theta[name])


def test_activations_are_what_layers_take(network, state, images):
    ranges = quantize.activation_ranges(network, state, images)
    layers, _ = network.layers(state.theta, images, state.stats)
    pooled = np.asarray(layers[0]).reshape(5, 4, 2, 4, 2, 4).mean((2, 4))
    np.testing.assert_allclose(ranges["conv_1"], (0, pooled.max()), rtol=1e-6)
    np.testing.assert_allclose(ranges["conv_0"], (images.min(), images.max()), rtol=1e-6)

    few = quantize.quantized(network, SHAPE, weight_bits=None, activation_bits=3, ranges=ranges)
    by_hand = plain(pooled, 0.0, pooled.max(), 3)
    kernel, bias = state.theta["conv_1"]["kernel"], state.theta["conv_1"]["bias"]
    maps = jax.lax.conv_general_dilated(
        by_hand.astype(np.float32), kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ) + bias[None, None, None]  # fmt: skip
    kept, norm = state.stats["batch_stats"]["norm_1"], state.theta["norm_1"]
    spread = np.sqrt(np.asarray(kept["var"]) + 1e-5)
    scaled = (np.asarray(maps) - np.asarray(kept["mean"])) / spread * np.asarray(norm["scale"]) + np.asarray(
        norm["bias"]
    )
    found, _ = few.layers(state.theta, images, state.stats)
    np.testing.assert_allclose(found[1], np.maximum(scaled, 0), atol=1e-5)
    # The first layer sees images, and what the last one takes are means: neither is rounded unless it is named.
    head = found[-2] @ state.theta["head"]["kernel"] + state.theta["head"]["bias"][None]
    np.testing.assert_allclose(found[-1], head, atol=1e-5)
    named = quantize.quantized(network, SHAPE, weight_bits=None, activation_bits={"head": 1}, ranges=ranges)
    assert not np.allclose(named.apply(state.theta, images, state.stats)[0], head)


def test_many_bits_change_nothing(network, state, images):
    ranges = quantize.activation_ranges(network, state, images)
    few = quantize.quantized(network, SHAPE, weight_bits=16, activation_bits=16, ranges=ranges)
    expected, _ = network.apply(state.theta, images, state.stats)
    np.testing.assert_allclose(jax.jit(few.apply)(state.theta, images, state.stats)[0], expected, atol=1e-3)


def test_what_is_asked_has_to_be_there(network):
    for options, sentence in (
        ({"weight_bits": {"conv_2": 4}}, "unknown layer to quantise 'conv_2'; did you mean 'conv_"),
        ({"weight_bits": 0}, "bits of the layer 'conv_0' must be an integer of at least 1"),
        ({"activation_bits": 4}, "activations of few bits need ranges, and there are none of 'conv_1'"),
    ):
        with pytest.raises(JaxddError, match=sentence):
            quantize.quantized(network, SHAPE, **options)
    with pytest.raises(JaxddError, match="so there is nothing to quantise"):
        quantize.layers_of(models.from_functions(lambda key: {}, lambda theta, x: x.mean((1, 2))), SHAPE)
