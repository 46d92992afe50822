"""Sensitivities by hand, and the front of mixed precision beside all choices."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models, quantize
from jaxdd.errors import JaxddError
from jaxdd.quantize import Layer
from jaxdd.types import NetworkState


def test_the_divergence_of_one_layer_alone():
    shape = (4, 4, 1)
    network = models.build("mlp(width=4, depth=1)", shape, 3)
    state = NetworkState(*network.init(jax.random.key(0)))
    images = jax.random.normal(jax.random.key(1), (6, *shape))
    found = quantize.sensitivity(network, state, images, (1, 3))
    plain = jax.nn.log_softmax(network.apply(state.theta, images, {})[0])
    for layer in quantize.layers_of(network, shape):
        for bits in (1, 3):
            theta = quantize.quantized_weights(state.theta, (layer,), bits)
            few = jax.nn.log_softmax(network.apply(theta, images, {})[0])
            expected = float((jnp.exp(plain) * (plain - few)).sum(1).mean())
            assert found[layer.name][bits] == pytest.approx(expected, rel=1e-3, abs=1e-7)
        assert found[layer.name][1] > found[layer.name][3] >= 0


def test_the_front_is_that_of_all_choices(rng):
    layers = [Layer(name, weights, False) for name, weights in (("a", 3), ("b", 50), ("c", 7))]
    found = {layer.name: dict(zip((2, 4, 8), -np.sort(-rng.uniform(size=3)), strict=True)) for layer in layers}
    every = []
    for bits in itertools.product((2, 4, 8), repeat=3):
        size = sum(layer.weights * count for layer, count in zip(layers, bits, strict=True))
        every.append((size, sum(found[layer.name][count] for layer, count in zip(layers, bits, strict=True)), bits))

    def beats(one, other):
        return one[0] <= other[0] and one[1] <= other[1] and one[:2] != other[:2]

    best = [one for one in every if not any(beats(other, one) for other in every)]
    front = quantize.mixed_precision(layers, found)
    assert [(c.size, tuple(c.bits.values())) for c in front] == [(size, bits) for size, _, bits in sorted(best)]
    np.testing.assert_allclose([c.sensitivity for c in front], [total for _, total, _ in sorted(best)])
    assert len(quantize.mixed_precision(layers, found, points=4)) <= 4
    with pytest.raises(JaxddError, match="no sensitivities of the layer 'a'"):
        quantize.mixed_precision(layers, {})
