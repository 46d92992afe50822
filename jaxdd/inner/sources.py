"""Where an inner loop starts from: sources of network parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax

from jaxdd.types import Key, Network, PyTree

Start = tuple[PyTree, PyTree]
"""`(theta, stats)`."""


class Source(NamedTuple):
    """A source of networks; what it keeps between draws is part of a method's state."""

    init: Callable[[Key], PyTree]
    """`init(key) -> kept`."""
    draw: Callable[[PyTree, Key], Start]
    """`draw(kept, key) -> (theta, stats)`."""


def fresh(network: Network) -> Source:
    """A new random initialisation at every draw."""
    return Source(init=lambda key: (), draw=lambda kept, key: network.init(key))


def fixed(network: Network) -> Source:
    """One random initialisation, always the same."""
    return Source(init=network.init, draw=lambda kept, key: kept)


def interpolated(first: Source, second: Source) -> Source:
    """Between a draw of one source and a draw of another, at a uniform place on the straight line that joins them.

    With `fixed` and `among`, for one, or with `fresh` networks and trained ones; both must draw the same network.
    """

    def init(key: Key) -> PyTree:
        key_first, key_second = jax.random.split(key)
        return first.init(key_first), second.init(key_second)

    def draw(kept: PyTree, key: Key) -> Start:
        key_first, key_second, key_place = jax.random.split(key, 3)
        place = jax.random.uniform(key_place)
        starts = first.draw(kept[0], key_first), second.draw(kept[1], key_second)
        return jax.tree.map(lambda a, b: a + place * (b - a), *starts)

    return Source(init=init, draw=draw)


def among(starts: Start) -> Source:
    """A uniform draw among given networks, trained ones for example, stacked along the first axis of every leaf."""
    count = len(jax.tree.leaves(starts)[0])

    def draw(kept: PyTree, key: Key) -> Start:
        chosen = jax.random.randint(key, (), 0, count)
        return jax.tree.map(lambda leaf: leaf[chosen], kept)

    return Source(init=lambda key: starts, draw=draw)
