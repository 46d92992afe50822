"""NNGP and NTK of infinitely wide fully-connected networks.

`depth` hidden layers in the NTK parameterisation, `z = W_std / sqrt(fan_in) * W h + b_std * b` with standard normal
`W` and `b`, then one linear read-out of the same kind. Sources: Lee et al. (2018) for the NNGP, Jacot et al. (2018)
for the NTK.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdd.kernels.blocked import check_block
from jaxdd.kernels.expectations import expectations


class Kernels(NamedTuple):
    """NNGP and NTK between the same two sets, each `(n, m)`."""

    nngp: jax.Array
    ntk: jax.Array


def nngp_and_ntk(
    x1: jax.Array,
    x2: jax.Array | None = None,
    *,
    depth: int = 1,
    activation: str = "relu",
    w_std: float = math.sqrt(2),
    b_std: float = 0.1,
    block: int | None = None,
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
      block: rows of the kernels evaluated at once; None: all. Beside the result `(n, m)` some ten arrays `(block, m)`
        are then in memory, instead of `(n, m)`; a gradient computes each block again.

    Returns:
      Two `(n, m)` kernels in the dtype of the inputs.

    Raises:
      ValueError: for an unknown activation, a negative depth, a block less than 1, or inputs of different size.
    """
    between, coincident = expectations(activation)
    if depth < 0:
        raise ValueError(f"depth must be at least 0, got {depth}")
    square = x2 is None
    x1 = x1.reshape(len(x1), -1)
    x2 = x1 if x2 is None else x2.reshape(len(x2), -1)
    if x1.shape[1] != x2.shape[1]:
        raise ValueError(f"inputs must have the same size, got {x1.shape[1]} and {x2.shape[1]}")
    check_block(block)
    w, b = w_std**2, b_std**2

    def scale(x):
        return w / x.shape[1] * jnp.sum(jnp.square(x), axis=1) + b

    scales = scale(x2)

    def rows(x, index):
        """The rows of the kernels that belong to examples `(p, d)`, whose places in x1 are `index` `(p,)`."""
        q1, q2 = scale(x), scales
        diagonal = q1  # the NTK of each input with itself, as q1 is the NNGP
        # At full precision: with the TF32 of GPUs the NTK of three layers would be off by up to 1 %.
        nngp = ntk = w / x.shape[1] * jnp.matmul(x, x2.T, precision="highest") + b
        for _ in range(depth):
            value, slope = between(nngp, q1[:, None], q2[None, :])
            nngp = w * value + b
            ntk = nngp + w * ntk * slope
            (value1, slope1), (value2, _) = coincident(q1), coincident(q2)
            q1, q2 = w * value1 + b, w * value2 + b
            diagonal = q1 + w * diagonal * slope1
        if square:
            # A rounding error in k is its square root in the angle: 3e-4 of the NTK's diagonal, far more than a ridge.
            same = index[:, None] == jnp.arange(len(x2))[None]
            nngp, ntk = jnp.where(same, q1[:, None], nngp), jnp.where(same, diagonal[:, None], ntk)
        return Kernels(nngp, ntk)

    examples = x1, jnp.arange(len(x1))
    if block is None or block >= len(x1):
        return rows(*examples)

    @jax.checkpoint
    def row(example):
        x, index = example
        return jax.tree.map(lambda kernel: kernel[0], rows(x[None], index[None]))

    return jax.lax.map(row, examples, batch_size=block)


def nngp(x1: jax.Array, x2: jax.Array | None = None, **network) -> jax.Array:
    """NNGP kernel `(n, m)`; arguments as in `nngp_and_ntk`."""
    return nngp_and_ntk(x1, x2, **network).nngp


def ntk(x1: jax.Array, x2: jax.Array | None = None, **network) -> jax.Array:
    """Neural tangent kernel `(n, m)`; arguments as in `nngp_and_ntk`."""
    return nngp_and_ntk(x1, x2, **network).ntk
