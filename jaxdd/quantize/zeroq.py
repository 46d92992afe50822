"""ZeroQ (Cai, Yao, Dong, Gholami, Mahoney & Keutzer, CVPR 2020, "ZeroQ: A Novel Zero Shot Quantization Framework",
arXiv:2001.00281): a calibration set from what a network's normalisations remember."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd import losses
from jaxdd._numbers import whole
from jaxdd.types import Array, Key, Network, NetworkState

_ADAM = optax.scale_by_adam()
_PATIENCE, _FACTOR, _THRESHOLD, _LEAST = 100, 0.1, 1e-4, 1e-4


class ZeroQState(NamedTuple):
    """Images on their way."""

    images: Array
    """`(n, h, w, c)`, in the space that the network sees."""
    moments: optax.OptState
    rate: Array
    best: Array
    """The smallest loss so far."""
    waited: Array
    """int32, steps since then."""

    @classmethod
    def first(cls, key: Key, shape: tuple[int, ...], learning_rate: float = 0.5) -> ZeroQState:
        """From noise."""
        images = jax.random.normal(key, shape)
        return cls(
            images, _ADAM.init(images), jnp.float32(learning_rate), jnp.float32(jnp.inf), jnp.zeros((), jnp.int32)
        )


def zeroq_step(network: Network, teacher: NetworkState, state: ZeroQState) -> tuple[ZeroQState, Array]:
    """One step, by Adam, of `losses.example_statistics_matching` of what the network's normalisations see and of the
    images; where it has not got less for more than 100 steps, by 1e-4 of itself, the rate falls to a tenth.

    Returns:
      The next state, and the loss before it.
    """

    def loss(images: Array) -> Array:
        _, norms = network.norms(teacher.theta, images, teacher.stats, by_example=True)
        return losses.example_statistics_matching(norms.batch, norms.running, norms.places, images)

    value, slope = jax.value_and_grad(loss)(state.images)
    updates, moments = _ADAM.update(slope, state.moments)
    images = state.images - state.rate * jnp.asarray(updates)
    better = value < state.best * (1 - _THRESHOLD)
    waited = jnp.where(better, 0, state.waited + 1)
    over = waited > _PATIENCE
    rate = jnp.where(over, jnp.maximum(state.rate * _FACTOR, _LEAST), state.rate)
    best = jnp.where(better, value, state.best)
    return ZeroQState(images, moments, rate, best, jnp.where(over, 0, waited)), value


def zeroq(
    key: Key,
    network: Network,
    teacher: NetworkState,
    image_shape: tuple[int, int, int],
    *,
    count: int = 64,
    steps: int = 500,
    learning_rate: float = 0.5,
) -> Array:
    """A calibration set without data or labels: images of which the network's normalisations see what they remember.

        images = zeroq(jax.random.key(0), network, state, (32, 32, 3))

    Args:
      network: with batch normalisation, in evaluation mode.
      teacher: its numbers.
      image_shape: `(h, w, c)`.
      count: how many images.
      steps: updates.
      learning_rate: of Adam, at first.

    Returns:
      `(count, h, w, c)`, in the space that the network sees, whose pixels are meant to have mean 0 and deviation 1.

    Raises:
      JaxddError: if count or steps are no whole numbers of at least 1, or the network has no batch normalisation.
    """
    shape = (whole(count, "images of a calibration set"), *image_shape)
    return _run(key, teacher, network=network, shape=shape, steps=whole(steps, "steps"), learning_rate=learning_rate)


@functools.partial(jax.jit, static_argnames=("network", "shape", "steps", "learning_rate"))
def _run(
    key: Key, teacher: NetworkState, *, network: Network, shape: tuple[int, ...], steps: int, learning_rate: float
) -> Array:
    def step(_: int, state: ZeroQState) -> ZeroQState:
        return zeroq_step(network, teacher, state)[0]

    return jax.lax.fori_loop(0, steps, step, ZeroQState.first(key, shape, learning_rate)).images
