"""Matching characteristic functions, at frequencies that are drawn at random or learned by an adversary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdd.losses._numerics import safe_sqrt


def _characteristic_function(features: jax.Array, frequencies: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Real and imaginary part of `mean_b exp(i <t, f_b>)`, each `(k,)`."""
    angles = jnp.matmul(frequencies, features.T, precision="highest")
    return jnp.mean(jnp.cos(angles), axis=1), jnp.mean(jnp.sin(angles), axis=1)


def characteristic_function_matching(
    real: jax.Array,
    synthetic: jax.Array,
    frequencies: jax.Array,
    *,
    amplitude_weight: float = 0.5,
    phase_weight: float = 0.5,
) -> jax.Array:
    """Distance of two empirical characteristic functions `P(t) = mean_b exp(i <t, f_b>)`, averaged over frequencies.

    `mean_t sqrt(a (|P| - |Q|)² + b 2 (|P| |Q| - Re(P Q*)))`, amplitudes first, then phases (Wang et al. 2025, NCFM);
    with the equal weights of the default it is `mean_t |P - Q| / sqrt(2)`. With two positive weights it vanishes if and
    only if the functions agree at all frequencies given. NCFM multiplies it by 300, takes features of unit length
    (`l2_normalize`), and draws 1024 (paper) or 4096 (code) frequencies from a standard normal or an adversary
    (`frequency_sampler`).

    Args:
      real: `(b, d)` features of real examples.
      synthetic: `(m, d)` features of synthetic examples.
      frequencies: `(k, d)`.
      amplitude_weight, phase_weight: a and b, not negative.

    Returns:
      A scalar. Frequencies at which the functions agree exactly have no gradient.

    Raises:
      ValueError: if the shapes do not fit, one of them is empty, or a weight is negative.
    """
    shapes = real.shape, synthetic.shape, frequencies.shape
    if any(len(shape) != 2 or 0 in shape or shape[1] != real.shape[1] for shape in shapes):
        raise ValueError(
            f"features and frequencies must be (b, d), (m, d) and (k, d), not empty, with one d; got {shapes}"
        )
    if amplitude_weight < 0 or phase_weight < 0:
        raise ValueError(f"weights must not be negative, got {amplitude_weight} and {phase_weight}")
    p_real, p_imaginary = _characteristic_function(real, frequencies)
    q_real, q_imaginary = _characteristic_function(synthetic, frequencies)
    # |P - Q|² = (|P| - |Q|)² + 2 (|P| |Q| - Re(P Q*)): the phase term as it stands would cancel to rounding error,
    # and its square root to the root of that.
    total = jnp.square(p_real - q_real) + jnp.square(p_imaginary - q_imaginary)
    amplitudes = jnp.square(_modulus(p_real, p_imaginary) - _modulus(q_real, q_imaginary))
    return jnp.mean(safe_sqrt(phase_weight * total + (amplitude_weight - phase_weight) * amplitudes))


def _modulus(real: jax.Array, imaginary: jax.Array) -> jax.Array:
    return safe_sqrt(jnp.square(real) + jnp.square(imaginary))


class FrequencySampler(NamedTuple):
    """A learned distribution of frequencies; see `frequency_sampler`."""

    init: Callable[[jax.Array, int], Any]
    """`init(key, dim) -> params`."""
    sample: Callable[[Any, jax.Array, int], jax.Array]
    """`sample(params, key, count) -> frequencies (count, dim)`; count is static and at least 2."""


def frequency_sampler(*, scale: float = 1.0) -> FrequencySampler:
    """The adversary of NCFM: a small network from normal noise to frequencies (Wang et al. 2025).

    Three dense layers of the features' width, each normalised over the frequencies drawn together (batch norm with
    learned scale and bias, no running statistics), the first two with LeakyReLU(0.2), the last with tanh, which
    bounds the frequencies. The caller trains it to *raise* `characteristic_function_matching` while the synthetic set
    lowers it::

        sampler = frequency_sampler()
        params = sampler.init(key, features.shape[1])
        value, slope = jax.value_and_grad(
            lambda params: -characteristic_function_matching(real, synthetic, sampler.sample(params, key, 1024))
        )(params)  # a step of gradient descent on this

    The authors' code draws a sixteenth of the frequencies and repeats each 16 times, which leaves the mean over
    frequencies as it is; here all are drawn. Their released settings do without the adversary.

    Args:
      scale: the largest magnitude of an entry of a frequency; 1 in the authors' code.

    Returns:
      `init(key, dim) -> params`, a dict of arrays, and `sample(params, key, count) -> (count, dim)`, both pure.
      `sample` raises ValueError for fewer than two frequencies.

    Raises:
      ValueError: if the scale is not positive.
    """
    if not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}")

    def init(key: jax.Array, dim: int) -> dict[str, dict[str, jax.Array]]:
        return {
            f"dense_{i}": {
                "kernel": jax.random.normal(k, (dim, dim)) / dim**0.5,
                "scale": jnp.ones(dim),
                "bias": jnp.zeros(dim),
            }
            for i, k in enumerate(jax.random.split(key, 3))
        }

    def sample(params: Any, key: jax.Array, count: int) -> jax.Array:
        if count < 2:
            raise ValueError(f"count must be at least 2, since frequencies are normalised together, got {count}")
        kernel = params["dense_0"]["kernel"]
        x = jax.random.normal(key, (count, len(kernel)), kernel.dtype)
        for i in range(3):
            layer = params[f"dense_{i}"]
            x = x @ layer["kernel"]  # without a bias, which the norm would take away again
            x = jax.nn.standardize(x, axis=0, epsilon=1e-5) * layer["scale"][None] + layer["bias"][None]
            x = jax.nn.leaky_relu(x, 0.2) if i < 2 else scale * jnp.tanh(x)
        return x

    return FrequencySampler(init, sample)
