"""Differentiable inner optimisers: pure functions whose learning rate is an argument, so that it can be learned."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdd.types import Array, PyTree


class InnerOptimizer(NamedTuple):
    """An optimiser that can be differentiated through, in its state, its gradients and its learning rate.

    The step's number is an argument, too: scalars in the carry of a scan are what reverse mode pays for.
    """

    init: Callable[[PyTree], PyTree]
    """`init(theta) -> state`."""
    step: Callable[[PyTree, PyTree, PyTree, Array, Array], tuple[PyTree, PyTree]]
    """`step(theta, state, grads, learning_rate, t) -> (theta, state)`; `t` counts from 0 since `init`."""


def sgd(momentum: float = 0.0, *, nesterov: bool = False) -> InnerOptimizer:
    """Gradient descent, with heavy-ball (Polyak 1964) or Nesterov momentum in PyTorch's form.

    `v <- momentum * v + g`; `theta <- theta - lr * v`, or `- lr * (g + momentum * v)` with `nesterov`.
    """

    def init(theta: PyTree) -> PyTree:
        return jax.tree.map(jnp.zeros_like, theta) if momentum else ()

    def step(theta, state, grads, learning_rate, t):
        del t
        if momentum:
            state = jax.tree.map(lambda v, g: momentum * v + g, state, grads)
            grads = jax.tree.map(lambda v, g: g + momentum * v, state, grads) if nesterov else state
        return jax.tree.map(lambda p, g: p - learning_rate * g, theta, grads), state

    return InnerOptimizer(init, step)


class AdamState(NamedTuple):
    mean: PyTree
    square: PyTree


def adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, *, eps_root: float = 1e-16) -> InnerOptimizer:
    """Adam (Kingma & Ba 2015), safe to differentiate.

    `eps_root` inside the square root keeps its derivative finite where a gradient is exactly zero (a dead unit); with
    0 a meta-gradient through such a step is NaN.
    """

    def init(theta: PyTree) -> AdamState:
        return AdamState(jax.tree.map(jnp.zeros_like, theta), jax.tree.map(jnp.zeros_like, theta))

    def step(theta, state, grads, learning_rate, t):
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mean, grads)
        square = jax.tree.map(lambda s, g: b2 * s + (1 - b2) * g * g, state.square, grads)
        # 1 - b^(t + 1) without its cancellation, which at the first steps costs float32 four digits.
        c1, c2 = (-jnp.expm1((t + 1) * math.log(b)) for b in (b1, b2))

        def move(p, m, s):
            return p - learning_rate * (m / c1) / (jnp.sqrt(s / c2 + eps_root) + eps)

        return jax.tree.map(move, theta, mean, square), AdamState(mean, square)

    return InnerOptimizer(init, step)
