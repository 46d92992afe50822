"""The neural tangent kernel of a finite network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd.errors import unknown
from jaxdd.kernels.blocked import blocked

# What is made of the `(n, m, c, c)` products of the Jacobians of all outputs.
_OUTPUTS = {
    "mean": lambda ntk: jnp.trace(ntk, axis1=-2, axis2=-1) / ntk.shape[-1],
    "sum": lambda ntk: jnp.trace(ntk, axis1=-2, axis2=-1),
    "full": lambda ntk: ntk,
}


def empirical_ntk(
    apply: Callable[[Any, jax.Array], jax.Array],
    theta: Any,
    x1: jax.Array,
    x2: jax.Array | None = None,
    *,
    outputs: str = "mean",
    block: int = 32,
) -> jax.Array:
    """Neural tangent kernel of a network at its parameters (Jacot et al. 2018).

    `Θ_ab(x, y) = sum over parameters p of df_a(x)/dp df_b(y)/dp`, for outputs a, b. As the network grows wide, with
    random parameters in the NTK parameterisation, it tends to `δ_ab ntk(x, y)`: the default, the mean of the outputs'
    own kernels (the trace over the number of outputs), to `ntk(x, y)`.

    No Jacobian is formed: to each output of an example y a reverse pass gives a direction of the parameters, and a
    forward pass along it Θ with a block of examples x (Novak et al. 2022, section 3.3, "NTK-vector products"). In
    memory are the directions of one example, outputs times parameters, and that many passes of one block. Products
    are at full precision.

    Differentiable in `x1`, `x2` and `theta`; jittable.

    Args:
      apply: `apply(theta, x)` to `(n, c)`, each row a function of its own example alone (no batch statistics).
      theta: a pytree of parameters.
      x1: `(n, ...)` inputs.
      x2: `(m, ...)` inputs, or None for `x1`: the kernel is then exactly symmetric, at half the cost.
      outputs: "mean" or "sum" over the outputs' own kernels, or "full" for all pairs of outputs.
      block: examples of each set that are in memory at once.

    Returns:
      `(n, m)`, or `(n, m, c, c)` if `outputs` is "full".

    Raises:
      ValueError: for an unknown `outputs`, a block less than 1, or a network without an axis of outputs.
    """
    if outputs not in _OUTPUTS:
        raise unknown("outputs", outputs, _OUTPUTS)
    shape = jax.eval_shape(apply, theta, x1[:1]).shape
    if len(shape) != 2:
        raise ValueError(f"apply must return (n, outputs), got {shape} for one example")

    def between(first, second):
        push = jax.linearize(lambda theta: apply(theta, first), theta)[1]

        def column(x):
            value, pull = jax.vjp(lambda theta: apply(theta, x[None])[0], theta)
            directions = jax.vmap(pull)(jnp.eye(len(value), dtype=value.dtype))
            ntk = jax.vmap(push, out_axes=-1)(*directions)  # (block, c, c)
            return _OUTPUTS[outputs](ntk)

        return jnp.moveaxis(jax.lax.map(column, second), 0, 1)

    with jax.default_matmul_precision("highest"):
        return blocked(between, x1, x2, block=block)
