"""NNGP and NTK of infinitely wide fully-connected networks.

`depth` hidden layers in the NTK parameterisation, `z = W_std / sqrt(fan_in) * W h + b_std * b` with standard normal
`W` and `b`, then one linear read-out of the same kind. Sources: Cho & Saul (2009) for the arc-cosine expectations,
Williams (1996) for erf, Lee et al. (2018) for the NNGP, Jacot et al. (2018) for the NTK.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Kernels(NamedTuple):
    """NNGP and NTK between the same two sets, each `(n, m)`."""

    nngp: jax.Array
    ntk: jax.Array


def _sqrt(x):
    """Square root with derivative 0 at 0: the symmetric choice where two inputs coincide, instead of inf * 0 = NaN."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def _divide(a, b):
    """a / b, and 0 where b is not positive."""
    positive = b > 0
    return jnp.where(positive, a / jnp.where(positive, b, 1.0), 0.0)


@jax.custom_jvp
def _relu(k, q1, q2):
    """E[relu(u) relu(v)] and E[step(u) step(v)] for (u, v) ~ N(0, [[q1, k], [k, q2]]).

    The angle comes from `arctan2`, not `arccos`, whose derivative is infinite at coincident inputs.
    """
    sine = _sqrt(q1 * q2 - jnp.square(k))
    step = (math.pi - jnp.arctan2(sine, k)) / (2 * math.pi)
    return sine / (2 * math.pi) + k * step, step


@_relu.defjvp
def _relu_jvp(primals, tangents):
    # Written by hand because the first expectation's slope in k is the second one: two passes over memory less.
    k, q1, q2 = primals
    dk, dq1, dq2 = tangents
    value, step = _relu(k, q1, q2)
    sine = _sqrt(q1 * q2 - jnp.square(k))
    relative = (_divide(dq1, q1) + _divide(dq2, q2)) / 2
    return (value, step), (
        step * dk + sine / (2 * math.pi) * relative,
        _divide(dk - k * relative, 2 * math.pi * sine),
    )


def _erf(k, q1, q2):
    """E[erf(u) erf(v)] and E[erf'(u) erf'(v)] (Williams 1996, eq. 11)."""
    product = (1 + 2 * q1) * (1 + 2 * q2)
    return 2 / math.pi * jnp.arcsin(2 * k / jnp.sqrt(product)), 4 / math.pi / jnp.sqrt(product - jnp.square(2 * k))


# Of each activation: the two expectations, between inputs and at coincident ones.
_EXPECTATIONS = {
    "relu": (_relu, lambda q: (q / 2, 0.5)),
    "erf": (_erf, lambda q: (2 / math.pi * jnp.arcsin(2 * q / (1 + 2 * q)), 4 / math.pi / jnp.sqrt(1 + 4 * q))),
}


def nngp_and_ntk(
    x1: jax.Array,
    x2: jax.Array | None = None,
    *,
    depth: int = 1,
    activation: str = "relu",
    w_std: float = math.sqrt(2),
    b_std: float = 0.1,
) -> Kernels:
    """NNGP and NTK of a network with `depth` hidden layers, between two sets of inputs.

    Differentiable in both inputs to first order everywhere, with finite gradients where inputs coincide. Jittable; a
    leading batch of sets goes through `jax.vmap`.

    Args:
      x1: `(n, ...)` inputs; everything after the first axis is flattened.
      x2: `(m, ...)` inputs, or None for `x1`: the diagonal is then exact, and not at the mercy of rounding.
      depth: hidden layers, at least 0 (0: a linear model).
      activation: "relu" or "erf".
      w_std, b_std: standard deviations of weights (before the 1/sqrt(fan_in)) and biases.

    Returns:
      Two `(n, m)` kernels in the dtype of the inputs.

    Raises:
      ValueError: for an unknown activation, a negative depth, or inputs of different size.
    """
    if activation not in _EXPECTATIONS:
        raise ValueError(f"activation must be one of {sorted(_EXPECTATIONS)}, got {activation!r}")
    if depth < 0:
        raise ValueError(f"depth must be at least 0, got {depth}")
    square = x2 is None
    x1 = x1.reshape(len(x1), -1)
    x2 = x1 if x2 is None else x2.reshape(len(x2), -1)
    if x1.shape[1] != x2.shape[1]:
        raise ValueError(f"inputs must have the same size, got {x1.shape[1]} and {x2.shape[1]}")
    expectation, coincident = _EXPECTATIONS[activation]
    w, b = w_std**2, b_std**2

    def scale(x):
        return w / x.shape[1] * jnp.sum(jnp.square(x), axis=1) + b

    q1, q2 = scale(x1), scale(x2)
    diagonal = q1  # the NTK of each input with itself, as q1 is the NNGP
    # At full precision: with the TF32 of GPUs the NTK of three layers would be off by up to 1 %.
    nngp = ntk = w / x1.shape[1] * jnp.matmul(x1, x2.T, precision="highest") + b
    for _ in range(depth):
        value, slope = expectation(nngp, q1[:, None], q2[None, :])
        nngp = w * value + b
        ntk = nngp + w * ntk * slope
        (value1, slope1), (value2, _) = coincident(q1), coincident(q2)
        q1, q2 = w * value1 + b, w * value2 + b
        diagonal = q1 + w * diagonal * slope1
    if square:
        # A rounding error in k is its square root in the angle: 3e-4 of the NTK's diagonal, far more than a ridge.
        same = jnp.eye(len(x1), dtype=bool)
        nngp, ntk = jnp.where(same, q1[:, None], nngp), jnp.where(same, diagonal[:, None], ntk)
    return Kernels(nngp, ntk)


def nngp(x1: jax.Array, x2: jax.Array | None = None, **network) -> jax.Array:
    """NNGP kernel `(n, m)`; arguments as in `nngp_and_ntk`."""
    return nngp_and_ntk(x1, x2, **network).nngp


def ntk(x1: jax.Array, x2: jax.Array | None = None, **network) -> jax.Array:
    """Neural tangent kernel `(n, m)`; arguments as in `nngp_and_ntk`."""
    return nngp_and_ntk(x1, x2, **network).ntk
