"""`unroll`: train a network for some steps as one differentiable function, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.ad_checkpoint import checkpoint_name

from jaxdd._numbers import whole
from jaxdd.inner.gradients import detached_grad, fwdrev_grad
from jaxdd.inner.optimizers import InnerOptimizer
from jaxdd.types import REMATS, Array, Key, PyTree

GRADIENTS = ("reverse", "fwdrev", "detached")
WINDOWS = ("full", "last", "random", "fixed")

_KEPT = "inner_gradient"

Feed = Callable[[Array], tuple[PyTree, Array]]


class Trained(NamedTuple):
    """The end of an unroll: parameters and the optimiser's state."""

    theta: PyTree
    opt_state: PyTree
    walk: PyTree = None
    """Parameters after each differentiable step, leaves `(steps, ..)`, if they were asked for."""


def unroll(
    loss: Callable[[PyTree, Any], Array],
    optimizer: InnerOptimizer,
    theta0: PyTree,
    feed: Feed,
    steps: int,
    *,
    prefix: int | Array = 0,
    length: int | Array | None = None,
    gradient: str = "reverse",
    remat: str = "step",
    block: int | None = None,
    walk: bool = False,
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
      length: how many of the differentiable steps are taken, static or traced; None for all. The others change nothing.
        They cost nothing either, but for memory, unless `vmap` puts networks side by side.
      gradient: "reverse" (`jax.grad`, also forward-differentiable), "fwdrev" (`fwdrev_grad`: the inner backward pass is
        not stored, reverse mode only), or "detached" (`detached_grad`: another gradient, TESLA's, that leaves out how
        a step depends on the parameters that it starts from).
      remat: what the backward pass recomputes. "step": each step from its parameters, so memory is one step and one
        set of parameters (with "fwdrev" also of gradients, which are then not recomputed) for each step. "sqrt": in
        about sqrt(steps) segments, for many steps or large networks, with one more forward pass. "none": nothing,
        memory of all steps; "fwdrev" with "none" stores no linearisation either.
      block: examples of one pass through the network: a step's gradient is the mean of those of its blocks, in the
        memory of one. The loss must be a mean over examples that do not see each other, and the leaves of a batch must
        share their first axis. None for all at once, as is what does not divide.
      walk: whether to return the parameters after each step, too.

    Returns:
      `Trained(theta, opt_state, walk)` after `prefix + steps` steps, or `prefix + length`.

    Raises:
      ValueError: for an unknown `gradient` or `remat`, no steps, or a block that is no whole number of at least 1.
    """
    if gradient not in GRADIENTS or remat not in REMATS:
        raise ValueError(f"gradient must be one of {GRADIENTS} and remat one of {REMATS}, got {gradient!r}, {remat!r}")
    if steps < 1:
        raise ValueError(f"an unroll needs at least one step, got {steps}")
    inner_grad = {"reverse": jax.grad, "fwdrev": fwdrev_grad, "detached": detached_grad}[gradient](loss)
    plain = jax.grad(loss)
    if block is not None:
        whole(block, "the block of an unroll")
        plain = _over_blocks(plain, block, remat=False)
        inner_grad = _over_blocks(inner_grad, block, remat=gradient == "reverse" and remat != "none")

    def step(carry: Trained, t: Array) -> tuple[Trained, PyTree]:
        batch, learning_rate = feed(t)
        grads = checkpoint_name(inner_grad(carry.theta, batch), _KEPT)
        after = Trained(*optimizer.step(carry.theta, carry.opt_state, grads, learning_rate, t))
        return after, after.theta if walk else None

    taken = step if length is None else _up_to(step, prefix + length, walk)
    start = Trained(theta0, optimizer.init(theta0))
    if not (isinstance(prefix, int) and prefix == 0):
        start = _without_gradient(plain, optimizer, start, feed, prefix)
    times = jnp.asarray(prefix) + jnp.arange(steps)
    if remat != "none":
        # Backward passes by products never need the gradients again, only what the optimiser makes of them does.
        kept = None if gradient == "reverse" else jax.checkpoint_policies.save_only_these_names(_KEPT)
        # Inside a scan nothing merges with the forward pass.
        taken = jax.checkpoint(taken, prevent_cse=False, policy=kept)
    end, places = (_fold_segments if remat == "sqrt" else _fold)(taken, start, times)
    return end._replace(walk=places)


def gradient_norms(
    loss: Callable[[PyTree, Any], Array], optimizer: InnerOptimizer, theta0: PyTree, feed: Feed, steps: int
) -> Array:
    """The norm over all parameters of the gradient that each of the first `steps` steps takes, `(steps,)`.

    A whole training without gradient; arguments as those of `unroll`.
    """

    def step(carry: Trained, t: Array) -> tuple[Trained, Array]:
        batch, learning_rate = feed(t)
        grads = jax.grad(loss)(carry.theta, batch)
        return Trained(*optimizer.step(carry.theta, carry.opt_state, grads, learning_rate, t)), optax.tree.norm(grads)

    return jax.lax.scan(step, Trained(theta0, optimizer.init(theta0)), jnp.arange(steps))[1]


def window_start(window: str, key: Key, steps: int, total: int, *, start: int = 0) -> int | Array:
    """How long the `prefix` of `unroll` is, by the name of where its differentiable steps lie among `total`.

    Args:
      window: "full": all of them are differentiable; "last": the last ones are, as in truncated backpropagation;
        "random": uniform between `start` and the last place (Feng et al. 2024); "fixed": after `start` steps.
      key: of the random place.
      steps, total: differentiable steps, and steps of the longest run.
      start: the first place.

    Raises:
      ValueError: for an unknown `window`, or one that does not fit.
    """
    if window not in WINDOWS:
        raise ValueError(f"window must be one of {WINDOWS}, got {window!r}")
    if not 0 <= start <= total - steps or (window == "full" and steps != total):
        raise ValueError(f"a {window} window of {steps} steps after {start} does not fit {total} steps")
    places = {"full": 0, "last": total - steps, "fixed": start}
    return places[window] if window in places else jax.random.randint(key, (), start, total - steps + 1)


def _without_gradient(
    gradient: Callable[..., PyTree], optimizer: InnerOptimizer, start: Trained, feed: Feed, length: int | Array
) -> Trained:
    """A loop of any length; reverse mode never sees it, so its bound may be traced."""
    start = jax.lax.stop_gradient(start)

    def step(t: Array, carry: Trained) -> Trained:
        batch, learning_rate = jax.lax.stop_gradient(feed(t))
        grads = gradient(carry.theta, batch)
        return Trained(*optimizer.step(carry.theta, carry.opt_state, grads, learning_rate, t))

    return jax.lax.stop_gradient(jax.lax.fori_loop(0, length, step, start))


def _over_blocks(gradient: Callable[..., PyTree], block: int, *, remat: bool) -> Callable[..., PyTree]:
    """The mean of the gradients of equal blocks of a batch."""
    of_block = jax.checkpoint(gradient, prevent_cse=False) if remat else gradient

    def of_batch(theta: PyTree, batch: PyTree) -> PyTree:
        count = len(jax.tree.leaves(batch)[0])
        if block >= count or count % block:
            return gradient(theta, batch)
        blocks = jax.tree.map(lambda leaf: leaf.reshape(-1, block, *leaf.shape[1:]), batch)

        def add(sums: PyTree, rows: PyTree) -> tuple[PyTree, None]:
            return jax.tree.map(jnp.add, sums, of_block(theta, rows)), None

        sums, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, theta), blocks)
        return jax.tree.map(lambda leaf: leaf * (block / count), sums)

    return of_batch


Step = Callable[[Trained, Array], tuple[Trained, PyTree]]


def _up_to(step: Step, end: int | Array, walk: bool) -> Step:
    """`step` before the time `end`, and nothing from then on."""

    def rest(carry: Trained, t: Array) -> tuple[Trained, PyTree]:
        return carry, carry.theta if walk else None

    return lambda carry, t: jax.lax.cond(t < end, step, rest, carry, t)


def _fold(step: Step, start: Trained, times: Array) -> tuple[Trained, PyTree]:
    return jax.lax.scan(step, start, times)


def _fold_segments(step: Step, start: Trained, times: Array) -> tuple[Trained, PyTree]:
    """`_fold` in about sqrt(steps) segments, each of them recomputed as a whole."""
    length = max(1, math.isqrt(len(times)))
    whole = len(times) // length * length
    segment = jax.checkpoint(lambda carry, ts: _fold(step, carry, ts), prevent_cse=False)
    carry, places = jax.lax.scan(segment, start, times[:whole].reshape(-1, length))
    places = jax.tree.map(lambda leaf: leaf.reshape(whole, *leaf.shape[2:]), places)
    if whole == len(times):
        return carry, places
    carry, last = _fold(step, carry, times[whole:])
    return carry, jax.tree.map(lambda *parts: jnp.concatenate(parts), places, last)
