"""Rules of queries as a config names them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxdd.selection import queries
from jaxdd.training import Heads
from jaxdd.types import Array, Key


class Pool(NamedTuple):
    """What is known of a pool when a question is due."""

    seen: Heads
    labelled: np.ndarray
    """Rows that have labels, filled up with the first to the most that there will be: one program for all rounds."""
    free: np.ndarray
    """bool `(n,)`, rows that may be asked."""
    wrong: float
    """How many answers about those are expected to be wrong."""


RULES: dict[str, Callable[[Pool, int, Key], Array]] = {
    "random": lambda pool, k, key: queries.random(len(pool.free), k, key, mask=pool.free),
    "entropy": lambda pool, k, key: queries.entropy(pool.seen.probabilities, k, mask=pool.free),
    "margin": lambda pool, k, key: queries.margin(pool.seen.probabilities, k, mask=pool.free),
    "badge": lambda pool, k, key: queries.badge(*pool.seen, k, key, mask=pool.free),
    "k_center": lambda pool, k, key: queries.k_center(
        pool.seen.features, pool.seen.features[pool.labelled], k, mask=pool.free
    ),
    "pcoreset": lambda pool, k, key: queries.pcoreset(
        pool.seen.probabilities, pool.seen.probabilities[pool.labelled], k, mask=pool.free
    ),
    "robust": lambda pool, k, key: queries.robust(
        _unsure(pool.seen.probabilities), k, key, wrong=pool.wrong, mask=pool.free
    ),
}


def _unsure(probabilities: Array) -> np.ndarray:
    """One minus what the most likely class is ahead of the second, 0 to 1."""
    two = np.sort(np.asarray(probabilities), axis=1)[:, -2:]
    return 1 - (two[:, 1] - two[:, 0])
