"""Which steps of an unroll are differentiated: in a place by name, or where training itself says."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd._numbers import whole
from jaxdd.errors import JaxddError, unknown
from jaxdd.inner.unroll import WINDOWS, window_start
from jaxdd.types import Array, Key, Metrics, PyTree

Norms = Callable[[Key], Array]
"""`norms(key)`: a new network's `gradient_norms` at each step of a training, `(total,)`."""


class Windows(NamedTuple):
    """Where the differentiable steps of each update's unrolls are; what that depends on is carried along."""

    longest: int | None
    """How many there are at most, which is what is compiled; None for all of a training."""
    place: Callable[[Key, PyTree, int], tuple[int | Array, int | Array | None]]
    """`place(key, kept, total)`: `prefix` and `length` for one network's `unroll` of `longest` among `total` steps."""
    init: Callable[[], PyTree] = lambda: ()
    """`init() -> kept`: arrays."""
    begin: Callable[[Key, PyTree, Norms], PyTree] = lambda key, kept, norms: kept
    """`begin(key, kept, norms) -> kept`, before the networks of an update are trained."""
    end: Callable[[PyTree, Array], PyTree] = lambda kept, accuracy: kept
    """`end(kept, accuracy) -> kept`, with their accuracy on the real batch, in [0, 1]."""
    facts: Callable[[PyTree], Metrics] = lambda kept: {}
    """What an update says of its window."""


ALL_STEPS = Windows(None, lambda key, kept, total: (0, None))
"""Backpropagation through the whole training."""


def placed_windows(window: str, steps: int, *, start: int = 0) -> Windows:
    """Windows of one length in a place by name, anew for each network; see `window_start`.

    Raises:
      JaxddError: for an unknown `window`, or no whole numbers of at least 1 step and 0 before the first place.
    """
    if window not in WINDOWS:
        raise unknown("place of a window", window, WINDOWS)
    whole(steps, "the steps of a window")
    whole(start, "the first place of a window", 0)
    return Windows(steps, lambda key, kept, total: (window_start(window, key, steps, total, start=start), None))


class Adaptive(NamedTuple):
    """What adaptive windows carry."""

    prefix: Array
    length: Array
    """Of the window, int32."""
    updates: Array
    """That it has seen, int32."""
    stage: Array
    """1, 2 or 3, int32."""
    still: Array
    """Windows in a row under which accuracy did not rise enough, int32."""
    accuracy: Array
    """The sum over the window's updates."""
    before: Array
    """The mean over those of the window before, or the moving average of the means; 0 at first."""


def adaptive_windows(
    steps: int,
    window: int,
    spread: int,
    total: int,
    *,
    rises: tuple[float, float] = (0.015, 0.01),
    patience: tuple[int, int],
    smoothing: float = 0.0,
) -> Windows:
    """Windows where gradients are large, then anywhere, then mirrored in time, as AT-BPTT's code has them (Li et al.
    2025, "Beyond Random: Automatic Inner-loop Optimization in Dataset Distillation", arXiv:2510.04838).

    A window serves `steps` updates. In the first and the third stage a new one is drawn by a place s with probability
    `softmax(n)_s`, where n_s is the norm of the gradient at step s of a new network, which is trained for all `total`
    steps first, without gradient. With W the `window`, d the `spread`, T the `total`, and r_s the number of steps at
    which the norm changed less from the step before than at s (at the first: not at all),

    * first: `W - d + floor(2 d r_s / T)` steps from s on, or the last ones, where fewer are left;
    * second: `W + d` steps from a place that is uniform among all;
    * third: `W - d` steps that end s before the last one, or the first ones, where fewer are left.

    A stage ends after as many windows in a row as `patience` says, under each of which the mean accuracy rose by less
    than `rises` (of 1) over that of the window before. Since windows end at other steps, accuracies differ for that
    alone; with `smoothing` of 0.5, say, it is the moving average `a <- 0.5 a + 0.5 mean` that has to rise.

    Example: `adaptive_windows(10, 40, 10, 200, patience=(30, 25))`, the authors' for CIFAR-10.

    Raises:
      JaxddError: if `window - spread` is below 1, or `window + spread` more than `total`; for numbers of updates, steps
        or windows that are not whole, or below 1 (`spread`: 0), and for a `smoothing` outside of [0, 1).
    """
    numbers = {"steps": (steps,), "window": (window,), "total": (total,), "patience": patience}
    for name, each in numbers.items():
        for number in each:
            whole(number, f"{name} of adaptive windows")
    whole(spread, "spread of adaptive windows", 0)
    if not 0 <= smoothing < 1:
        raise JaxddError(f"smoothing of adaptive windows must be at least 0 and under 1, got {smoothing!r}.")
    if not 0 <= spread < window or window + spread > total:
        raise JaxddError(
            f"windows of {window} - {spread} to {window} + {spread} steps must have at least 1 and at most {total}."
        )
    shortest, longest = window - spread, window + spread
    ends = np.minimum(patience, np.iinfo(np.int32).max).astype(np.int32)

    def where_large(key: Key, norms: Array) -> tuple[Array, Array]:
        start = jax.random.categorical(key, norms)
        change = jnp.abs(jnp.diff(norms, prepend=norms[:1]))
        length = shortest + 2 * spread * jnp.sum(change < change[start], dtype=jnp.int32) // total
        return jnp.minimum(start, total - length), length

    def anywhere(key: Key) -> tuple[Array, Array]:
        return jax.random.randint(key, (), 0, total - longest + 1), jnp.int32(longest)

    def mirrored(key: Key, norms: Array) -> tuple[Array, Array]:
        start = total - jax.random.categorical(key, norms) - shortest
        return jnp.maximum(start, 0), jnp.int32(shortest)

    def init() -> Adaptive:
        zero = jnp.int32(0)
        return Adaptive(zero, jnp.int32(window), zero, jnp.int32(1), zero, jnp.zeros(()), jnp.zeros(()))

    def begin(key: Key, kept: Adaptive, norms: Norms) -> Adaptive:
        key_norms, key_place = jax.random.split(key)

        def anew(kept: Adaptive) -> Adaptive:
            def by_norms() -> tuple[Array, Array]:
                found = norms(key_norms)
                return jax.lax.cond(kept.stage == 1, where_large, mirrored, key_place, found)

            prefix, length = jax.lax.cond(kept.stage == 2, lambda: anywhere(key_place), by_norms)
            return kept._replace(prefix=prefix.astype(jnp.int32), length=length.astype(jnp.int32))

        return jax.lax.cond(kept.updates == 0, anew, lambda kept: kept, kept)

    def end(kept: Adaptive, accuracy: Array) -> Adaptive:
        summed = kept._replace(updates=kept.updates + 1, accuracy=kept.accuracy + accuracy)
        mean = summed.accuracy / steps
        mean = jnp.where(kept.before == 0, mean, smoothing * kept.before + (1 - smoothing) * mean)
        of_stage = jnp.minimum(kept.stage, 2) - 1
        still = jnp.where(mean - kept.before < jnp.array(rises)[of_stage], kept.still + 1, 0)
        over = (kept.stage < 3) & (still >= jnp.asarray(ends)[of_stage])
        served = summed._replace(
            updates=jnp.int32(0),
            stage=kept.stage + over,
            still=jnp.where(over, 0, still),
            accuracy=jnp.zeros(()),
            before=mean,
        )
        return jax.tree.map(lambda new, old: jnp.where(summed.updates == steps, new, old), served, summed)

    def facts(kept: Adaptive) -> Metrics:
        return {"stage": kept.stage, "window_start": kept.prefix, "window_length": kept.length}

    return Windows(longest, lambda key, kept, total: (kept.prefix, kept.length), init, begin, end, facts)
