"""Gaussian expectations of activations, from which the kernels of wide networks are made.

Of an activation φ and (u, v) ~ N(0, [[q1, k], [k, q2]]): E[φ(u) φ(v)] and E[φ'(u) φ'(v)]. Sources: Cho & Saul (2009)
for ReLU's, Williams (1996) for erf's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdd.errors import unknown


class Expectations(NamedTuple):
    """Those of one activation; arguments of equal rank broadcast."""

    between: Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    """`between(k, q1, q2)`, the two expectations; differentiable to first order, finite where u = v or q = 0."""
    coincident: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    """`coincident(q)`, the same where u = v, without rounding's share of the angle."""


def expectations(activation: str) -> Expectations:
    """Those of "relu" or "erf"; raises JaxddError (a ValueError) for another name."""
    if activation not in _EXPECTATIONS:
        raise unknown("activation", activation, _EXPECTATIONS)
    return _EXPECTATIONS[activation]


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
    """E[relu(u) relu(v)] and E[step(u) step(v)].

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


_EXPECTATIONS = {
    "relu": Expectations(_relu, lambda q: (q / 2, jnp.full_like(q, 0.5))),
    "erf": Expectations(
        _erf, lambda q: (2 / math.pi * jnp.arcsin(2 * q / (1 + 2 * q)), 4 / math.pi / jnp.sqrt(1 + 4 * q))
    ),
}
