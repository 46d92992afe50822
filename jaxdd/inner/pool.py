"""A pool of networks that grow up on the synthetic set while it is learned (Zhou, Nezhadarya & Ba 2022)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdd.errors import JaxddError
from jaxdd.inner.networks import each_network
from jaxdd.inner.sources import Start
from jaxdd.types import Array, Indices, Key, Network, PyTree

Loss = Callable[[PyTree, PyTree, Array, Key], tuple[Array, PyTree]]
"""`loss(theta, stats, step, key) -> (scalar, stats)`, in training mode; `step` counts those of one `advance`."""


class Slots(NamedTuple):
    """The networks of a pool, stacked along a first axis: part of a method's state, saved and restored with it."""

    theta: PyTree
    stats: PyTree
    opt_state: PyTree
    age: Array
    """int32 `(size,)`, updates since the initialisation (at first spread evenly, as if some had been before)."""


class Pool(NamedTuple):
    """A source of networks of many ages. `choose` says which an update uses; only these `advance`."""

    init: Callable[[Key], Slots]
    """`init(key) -> slots`."""
    choose: Callable[[Key, int], Indices]
    """`choose(key, networks) -> int32 (networks,)`, distinct slots; `networks` is static."""
    start: Callable[[Slots, Array], Start]
    """`start(slots, slot) -> (theta, stats)`."""
    advance: Callable[..., Slots]
    """`advance(slots, chosen, key, loss, *, steps=1, batch_size=1) -> slots`: train the chosen ones, or begin them anew
    when they are too old. `steps` may be traced; `batch_size` is that of `each_network`."""


def pool(network: Network, optimizer: optax.GradientTransformation, *, size: int, max_age: int | Array) -> Pool:
    """Networks that are trained on the synthetic set, a few updates each time they are used, and renewed when old.

    So an outer step sees networks of every age at the price of one update. Nothing here depends on the placement: on
    several devices the chosen slots are shared by `each_network`, with the same result.

    Args:
      network: what is trained.
      optimizer: of its parameters; its state is kept with them.
      size: networks in the pool; their first ages are spread evenly below `max_age`.
      max_age: updates after which a network is replaced by a fresh one, instead of being trained.

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

    def choose(key: Key, networks: int) -> Indices:
        if not 1 <= networks <= size:
            raise JaxddError(f"an update cannot use {networks} networks of a pool of {size}.")
        if networks == 1:  # without sorting
            return jax.random.randint(key, (1,), 0, size)
        return jax.random.choice(key, size, (networks,), replace=False)

    def start(slots: Slots, slot: Array) -> Start:
        return jax.tree.map(lambda leaf: leaf[slot], (slots.theta, slots.stats))

    def advance(
        slots: Slots, chosen: Indices, key: Key, loss: Loss, *, steps: int | Array = 1, batch_size: int | None = 1
    ) -> Slots:
        def grown(slot_and_key) -> Slots:
            slot, key = slot_and_key
            *now, age = jax.tree.map(lambda leaf: leaf[slot], slots)

            def step(t, carry):
                theta, stats, opt_state = carry
                grads, stats = jax.grad(loss, has_aux=True)(theta, stats, t, jax.random.fold_in(key, t))
                updates, opt_state = optimizer.update(grads, opt_state, theta)
                return optax.apply_updates(theta, updates), stats, opt_state

            def train() -> tuple[PyTree, PyTree, PyTree]:
                return jax.lax.fori_loop(0, steps, step, tuple(now))

            old = age >= max_age
            theta, stats, opt_state = jax.lax.cond(old, lambda: fresh(key), train)
            return Slots(theta, stats, opt_state, jnp.where(old, 0, age + steps))

        networks = each_network(grown, (chosen, jax.random.split(key, len(chosen))), batch_size=batch_size)
        return jax.tree.map(lambda leaf, new: leaf.at[chosen].set(new), slots, networks)

    return Pool(init, choose, start, advance)
