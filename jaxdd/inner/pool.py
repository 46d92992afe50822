"""A pool of networks that grow up on the synthetic set while it is learned (Zhou, Nezhadarya & Ba 2022)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd.errors import JaxddError
from jaxdd.inner.networks import each_network
from jaxdd.types import Array, Indices, Key, Network, Networks, NetworkState, PyTree

Loss = Callable[[PyTree, PyTree, PyTree, Array, Key], tuple[Array, PyTree]]
"""`loss(theta, stats, shown, step, key) -> (scalar, stats)`, in training mode; `shown` is what `Networks.advance` is
given, `step` counts those of one of its calls."""


class Slots(NamedTuple):
    """The networks of a pool, stacked along a first axis: part of a method's state, saved and restored with it."""

    theta: PyTree
    stats: PyTree
    opt_state: PyTree
    age: Array
    """int32 `(size,)`, updates since the initialisation (at first spread evenly, as if some had been before)."""


def pool(
    network: Network,
    optimizer: optax.GradientTransformation,
    loss: Loss,
    *,
    size: int,
    max_age: int | Array,
    steps: int | Callable[[PyTree], int | Array] = 1,
    batch_size: int | None = 1,
) -> Networks:
    """Networks of many ages: trained on what is shown, a few updates each time they are used, and renewed when old.

    So an outer step sees networks of every age at the price of one update. Nothing here depends on the placement: on
    several devices the chosen slots are shared by `each_network`, with the same result.

    Args:
      network: what is trained.
      optimizer: of its parameters; its state is kept with them.
      loss: that it is trained by.
      size: networks in the pool; their first ages are spread evenly below `max_age`.
      max_age: updates after which a network is replaced by a fresh one, instead of being trained.
      steps: of training each time, or how many from what is shown; may be traced.
      batch_size: that of `each_network`.

    Returns:
      Its tickets are slots, int32 `(count,)`, different ones; what it keeps are `Slots`.

    Raises:
      JaxddError: for a pool without networks, or (when `choose` is traced) with fewer than an update wants.
    """
    if size < 1:
        raise JaxddError(f"a pool needs at least 1 network, got {size}.")

    def fresh(key: Key) -> tuple[PyTree, PyTree, PyTree]:
        theta, stats = network.init(key)
        return theta, stats, optimizer.init(theta)

    def init(key: Key) -> Slots:
        # One after the other: the initialisation of a network is nothing to be fast at.
        theta, stats, opt_state = jax.lax.map(fresh, jax.random.split(key, size))
        return Slots(theta, stats, opt_state, jnp.arange(size, dtype=jnp.int32) * max_age // size)

    def choose(key: Key, count: int) -> Indices:
        if not 1 <= count <= size:
            raise JaxddError(f"an update cannot use {count} networks of a pool of {size}.")
        if count == 1:  # without sorting
            return jax.random.randint(key, (1,), 0, size)
        return jax.random.choice(key, size, (count,), replace=False)

    def start(slots: Slots, slot: Array) -> NetworkState:
        return jax.tree.map(lambda leaf: leaf[slot], NetworkState(slots.theta, slots.stats))

    def advance(slots: Slots, chosen: Indices, key: Key, shown: PyTree) -> Slots:
        times = steps(shown) if callable(steps) else steps

        def grown(slot_and_key) -> Slots:
            slot, key = slot_and_key
            *now, age = jax.tree.map(lambda leaf: leaf[slot], slots)

            def step(t, carry):
                theta, stats, opt_state = carry
                of_step = jax.random.fold_in(key, t)
                grads, stats = jax.grad(loss, has_aux=True)(theta, stats, shown, t, of_step)
                updates, opt_state = optimizer.update(grads, opt_state, theta)
                return optax.apply_updates(theta, updates), stats, opt_state

            def train() -> tuple[PyTree, PyTree, PyTree]:
                return jax.lax.fori_loop(0, times, step, tuple(now))

            old = age >= max_age
            theta, stats, opt_state = jax.lax.cond(old, lambda: fresh(key), train)
            return Slots(theta, stats, opt_state, jnp.where(old, 0, age + times))

        networks = each_network(grown, (chosen, jax.random.split(key, len(chosen))), batch_size=batch_size)
        return jax.tree.map(lambda leaf, new: leaf.at[chosen].set(new), slots, networks)

    return Networks(init, choose, start, advance)
