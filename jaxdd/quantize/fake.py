"""Fake quantisation: numbers rounded to few levels, computed with as floats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdd._jax import key_of
from jaxdd._numbers import whole
from jaxdd.errors import JaxddError, unknown
from jaxdd.types import Array, Network, NetworkState, PyTree

Bits = int | Mapping[str, int] | None
"""Of all layers, or of each by its name, where one that is missing stays as it is; None for none."""


class Layer(NamedTuple):
    """A convolution or a linear layer."""

    name: str
    """Its path in `theta`, "conv_0_0_1"."""
    weights: int
    """How many there are, without biases."""
    sees_images: bool
    """Whether it is applied to the images themselves."""
    last: bool = False
    """Whether it gives the logits."""


def fake_quantize(x: Array, low: Array, high: Array, bits: int) -> Array:
    """Rounded to `2**bits` levels from `low` to `high`, and cut off there: linear, asymmetric.

    `round(s x - z) / s + z / s` with `s = (2**bits - 1) / (high - low)` and the whole zero point `z = round(s low)`, as
    in ZeroQ's code (Cai et al. 2020).

        fake_quantize(kernel, kernel.min((0, 1, 2)), kernel.max((0, 1, 2)), 4)  # by output channel

    Args:
      low, high: scalars or of shapes that broadcast with x from the last axis on.
      bits: at least 1.
    """
    levels = 2 ** whole(bits, "bits") - 1
    ndim = jnp.ndim(x)
    low, high = (jnp.reshape(bound, (1,) * (ndim - jnp.ndim(bound)) + jnp.shape(bound)) for bound in (low, high))
    scale = levels / jnp.maximum(high - low, 1e-8)
    zero = jnp.round(scale * low)
    return (jnp.clip(jnp.round(scale * x - zero), 0, levels) + zero) / scale


def layers_of(network: Network, image_shape: tuple[int, int, int]) -> tuple[Layer, ...]:
    """The convolutions and linear layers of a network of flax.linen, in the order in which they are applied.

    Raises:
      JaxddError: if it has none.
    """
    found: dict[str, Layer] = {}
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    theta, stats = jax.eval_shape(network.init, key_of(0))

    def look(images: Array) -> Array:
        def note(name: str, x: Array) -> Array:
            kernel = _at(theta, name)["kernel"]
            found.setdefault(name, Layer(name, kernel.size, x is images))
            return x

        with _looking(note):
            return network.apply(*_zeros((theta,)), images, *_zeros((stats,)))[0]

    jax.eval_shape(look, images)
    if not found:
        raise JaxddError("this network has no nn.Conv and no nn.Dense of flax.linen, so there is nothing to quantise.")
    *others, last = found.values()
    return (*others, last._replace(last=True))


def activation_ranges(network: Network, state: NetworkState, images: Array) -> dict[str, tuple[Array, Array]]:
    """The smallest and the largest number that each layer takes of some images, and 0, by its name.

        ranges = activation_ranges(network, state, calibration_images)

    Args:
      network: of flax.linen, in evaluation mode.
      images: `(n, h, w, c)`, all in one pass.
    """

    @jax.jit
    def ranges(state: NetworkState, images: Array) -> dict[str, tuple[Array, Array]]:
        found: dict[str, tuple[Array, Array]] = {}

        def note(name: str, x: Array) -> Array:
            low, high = found.get(name, (jnp.zeros(()), jnp.zeros(())))
            found[name] = jnp.minimum(low, x.min()), jnp.maximum(high, x.max())
            return x

        with _looking(note):
            network.apply(state.theta, images, state.stats)
        return found

    return ranges(state, images)


def quantized_weights(theta: PyTree, layers: tuple[Layer, ...], bits: Bits) -> PyTree:
    """Parameters with quantised kernels, each output channel from its smallest to its largest weight; biases and
    normalisations stay as they are."""
    for layer in layers:
        count = _bits_of(bits, layer.name)
        if count is not None:
            kernel = _at(theta, layer.name)["kernel"]
            over = tuple(range(kernel.ndim - 1))
            theta = _with(theta, layer.name, fake_quantize(kernel, kernel.min(over), kernel.max(over), count))
    return theta


def quantized(
    network: Network,
    image_shape: tuple[int, int, int],
    *,
    weight_bits: Bits = 8,
    activation_bits: Bits = None,
    ranges: Mapping[str, tuple[Any, Any]] | None = None,
) -> Network:
    """The same network, for the same numbers, with quantised weights and activations.

        small = quantized(network, (32, 32, 3), weight_bits=4, activation_bits=4, ranges=ranges)
        logits, _ = small.apply(state.theta, images, state.stats)

    An activation is what a convolution or a linear layer takes. One number of bits is for all of them but the images,
    and what the last layer takes: that is the mean of what ReLUs give, which ZeroQ's code rounds before, and not after
    it. Where layers are named they may be these, too.

    Args:
      network: of flax.linen.
      image_shape: `(h, w, c)`.
      weight_bits: of all layers, or of each by its name.
      activation_bits: likewise; needs `ranges`.
      ranges: of activations, see `activation_ranges`.

    Raises:
      JaxddError: for bits of a layer that there is not, that are no whole number of at least 1, or of activations whose
        ranges are not known.
    """
    layers = layers_of(network, image_shape)
    names = [layer.name for layer in layers]
    for bits in (weight_bits, activation_bits):
        for name in bits if isinstance(bits, Mapping) else ():
            if name not in names:
                raise unknown("layer to quantise", name, names)
        for name in names:
            _bits_of(bits, name)
    if activation_bits is not None and not isinstance(activation_bits, Mapping):
        inside = [layer.name for layer in layers if not layer.sees_images and not layer.last]
        activation_bits = dict.fromkeys(inside, activation_bits)
    rounds, known = dict(activation_bits or {}), ranges or {}
    for name in rounds:
        if name not in known:
            raise JaxddError(f"activations of few bits need ranges, and there are none of {name!r}.")

    def rounded(name: str, x: Array) -> Array:
        return fake_quantize(x, *known[name], rounds[name]) if name in rounds else x

    def few(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(theta: PyTree, images: Array, stats: PyTree, *, mode: str, key: Any = None) -> Any:
            with _looking(rounded):
                return function(quantized_weights(theta, layers, weight_bits), images, stats, mode=mode, key=key)

        return call

    return Network(network.init, few(network.apply), few(network.features), few(network.layers))


def _bits_of(bits: Bits, name: str) -> int | None:
    found = bits.get(name) if isinstance(bits, Mapping) else bits
    return None if found is None else whole(found, f"bits of the layer {name!r}")


def _looking(change: Callable[[str, Array], Array]) -> Any:
    """While this is entered, layers take `change(name, input)`."""

    def look(function, args, kwargs, context):
        if isinstance(context.module, nn.Conv | nn.Dense) and context.method_name == "__call__":
            x, *rest = args if args else (kwargs.pop("inputs"),)
            return function(change("/".join(context.module.path), x), *rest, **kwargs)
        return function(*args, **kwargs)

    return nn.intercept_methods(look)


def _at(theta: PyTree, name: str) -> PyTree:
    for part in name.split("/"):
        theta = theta[part]
    return theta


def _with(theta: PyTree, name: str, kernel: Array) -> PyTree:
    """Parameters with another kernel."""
    first, _, rest = name.partition("/")
    inner = _with(theta[first], rest, kernel) if rest else {**theta[first], "kernel": kernel}
    return {**theta, first: inner}


def _zeros(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), tree)
