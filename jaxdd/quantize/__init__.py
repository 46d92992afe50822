"""Networks of few bits: fake quantisation, what it is calibrated by, and which layers bear it.

from jaxdd import models, quantize
state = models.from_torch(dict(np.load("cifar10_resnet20.npz")), "resnet20", (32, 32, 3), 10)
network = models.build("resnet20", (32, 32, 3), 10)
images = quantize.zeroq(jax.random.key(0), network, state, (32, 32, 3))      # a calibration set without data
ranges = quantize.activation_ranges(network, state, images)
small = quantize.quantized(network, weight_bits=4, activation_bits=4, ranges=ranges)
logits, _ = small.apply(state.theta, test_images, state.stats)
"""

from jaxdd.quantize.fake import (
    Layer,
    activation_ranges,
    fake_quantize,
    layers_of,
    quantized,
    quantized_weights,
)
from jaxdd.quantize.sensitivity import Choice, mixed_precision, sensitivity
from jaxdd.quantize.zeroq import ZeroQState, zeroq, zeroq_step

__all__ = [
    "Choice",
    "Layer",
    "ZeroQState",
    "activation_ranges",
    "fake_quantize",
    "layers_of",
    "mixed_precision",
    "quantized",
    "quantized_weights",
    "sensitivity",
    "zeroq",
    "zeroq_step",
]
