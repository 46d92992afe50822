"""Where networks come from: random initialisations, and given ones."""

from __future__ import annotations

import jax

from jaxdd.types import Key, Network, Networks, NetworkState, PyTree


def tickets(key: Key, count: int) -> Key:
    """Tickets of networks that begin from a key of their own, `(count,)`."""
    return key[None] if count == 1 else jax.random.split(key, count)


def fresh(network: Network) -> Networks:
    """A new random initialisation every time."""
    return Networks(lambda key: (), tickets, lambda kept, key: NetworkState(*network.init(key)))


def fixed(network: Network) -> Networks:
    """One random initialisation, always the same."""
    return Networks(lambda key: NetworkState(*network.init(key)), tickets, lambda kept, key: kept)


def among(states: NetworkState) -> Networks:
    """A uniform draw among given networks, trained ones for example, stacked along the first axis of every leaf."""
    count = len(jax.tree.leaves(states)[0])

    def start(kept: PyTree, key: Key) -> NetworkState:
        chosen = jax.random.randint(key, (), 0, count)
        return jax.tree.map(lambda leaf: leaf[chosen], kept)

    return Networks(lambda key: states, tickets, start)


def interpolated(first: Networks, second: Networks) -> Networks:
    """At a uniform place on the straight line from a network of one source to one of another.

    With `fixed` and `among`, for one, or with `fresh` networks and trained ones; both must give the same network.
    """

    def init(key: Key) -> PyTree:
        key_first, key_second = jax.random.split(key)
        return first.init(key_first), second.init(key_second)

    def start(kept: PyTree, key: Key) -> NetworkState:
        key_first, key_second, key_place = jax.random.split(key, 3)
        ends = first.one(kept[0], key_first), second.one(kept[1], key_second)
        return between(*ends, jax.random.uniform(key_place))

    return Networks(init, tickets, start)


def between(first: NetworkState, second: NetworkState, place: jax.typing.ArrayLike) -> NetworkState:
    """The network at a place from 0 to 1 on the straight line between two."""
    return jax.tree.map(lambda a, b: a + place * (b - a), first, second)
