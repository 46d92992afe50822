"""`unroll`: train a network for some steps as one differentiable function, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdd.inner.gradients import fwdrev_grad
from jaxdd.inner.optimizers import InnerOptimizer
from jaxdd.types import Array, PyTree

GRADIENTS = ("reverse", "fwdrev")
REMATS = ("step", "sqrt", "none")

Feed = Callable[[Array], tuple[PyTree, Array]]


class Trained(NamedTuple):
    """The end of an unroll: parameters and the optimiser's state."""

    theta: PyTree
    opt_state: PyTree


def unroll(
    loss: Callable[[PyTree, Any], Array],
    optimizer: InnerOptimizer,
    theta0: PyTree,
    feed: Feed,
    steps: int,
    *,
    prefix: int | Array = 0,
    gradient: str = "reverse",
    remat: str = "step",
) -> Trained:
    """Train for `prefix` steps that carry no gradient, then `steps` that do.

    With `prefix=0` this is full backpropagation through time; otherwise truncated, and with a random `prefix` the
    random window of RaT-BPTT (Feng et al. 2024). The prefix may be traced: one compilation serves all positions.

    Args:
      loss: `loss(theta, batch) -> scalar`.
      optimizer: from `jaxdd.inner`.
      theta0: the first parameters; differentiable if there is no prefix.
      feed: `feed(t) -> (batch, learning rate)` for the t-th step. It closes over the synthetic set: rows by an index
        plan, other data for every step, augmented data, learned rates by step. Gradients flow through it.
      steps: differentiable steps, static.
      prefix: steps before them, without gradient; static or traced.
      gradient: "reverse" (`jax.grad`, also forward-differentiable) or "fwdrev" (`fwdrev_grad`: the inner backward pass
        is not stored, reverse mode only).
      remat: what the backward pass recomputes. "step": each step from its parameters, so memory is one step and one
        set of parameters for each step. "sqrt": in about sqrt(steps) segments, for many steps or large networks, with
        one more forward pass. "none": nothing, memory of all steps; "fwdrev" with "none" stores no linearisation
        either.

    Returns:
      `Trained(theta, opt_state)` after `prefix + steps` steps.

    Raises:
      ValueError: for an unknown `gradient` or `remat`, or no steps.
    """
    if gradient not in GRADIENTS or remat not in REMATS:
        raise ValueError(f"gradient must be one of {GRADIENTS} and remat one of {REMATS}, got {gradient!r}, {remat!r}")
    if steps < 1:
        raise ValueError(f"an unroll needs at least one step, got {steps}")
    inner_grad = fwdrev_grad(loss) if gradient == "fwdrev" else jax.grad(loss)

    def step(carry: Trained, t: Array) -> Trained:
        batch, learning_rate = feed(t)
        grads = inner_grad(carry.theta, batch)
        return Trained(*optimizer.step(carry.theta, carry.opt_state, grads, learning_rate, t))

    start = Trained(theta0, optimizer.init(theta0))
    if not (isinstance(prefix, int) and prefix == 0):
        start = _without_gradient(loss, optimizer, start, feed, prefix)
    return _scan(step, start, jnp.asarray(prefix) + jnp.arange(steps), remat)


def _without_gradient(loss, optimizer: InnerOptimizer, start: Trained, feed: Feed, length: int | Array) -> Trained:
    """A loop of any length; reverse mode never sees it, so its bound may be traced."""
    start = jax.lax.stop_gradient(start)

    def step(t: Array, carry: Trained) -> Trained:
        batch, learning_rate = jax.lax.stop_gradient(feed(t))
        grads = jax.grad(loss)(carry.theta, batch)
        return Trained(*optimizer.step(carry.theta, carry.opt_state, grads, learning_rate, t))

    return jax.lax.stop_gradient(jax.lax.fori_loop(0, length, step, start))


def _scan(step: Callable[[Trained, Array], Trained], start: Trained, times: Array, remat: str) -> Trained:
    """Fold `step` over `times`, with rematerialisation."""

    def fold(body, carry, xs):
        return jax.lax.scan(lambda c, x: (body(c, x), None), carry, xs)[0]

    if remat == "none":
        return fold(step, start, times)
    step = jax.checkpoint(step, prevent_cse=False)  # inside a scan nothing can be merged with the forward pass
    if remat == "step":
        return fold(step, start, times)
    length = max(1, math.isqrt(len(times)))
    whole = len(times) // length * length
    segment = jax.checkpoint(lambda carry, ts: fold(step, carry, ts), prevent_cse=False)
    carry = fold(segment, start, times[:whole].reshape(-1, length))
    return fold(step, carry, times[whole:]) if whole < len(times) else carry
