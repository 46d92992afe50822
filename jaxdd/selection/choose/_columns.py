"""Columns ahead: the greedy loop whose every choice needs one column of products with all points.

A column alone is a matrix-vector product, bound by memory. So the loop is first run among the most promising points
alone, which costs little; the columns of what it chose there are one matrix product; and then the loop over all points
finds its columns there as long as it chooses the same. What it chooses is exact: only columns are early.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxdd.types import Array

_PROMISING = 512
_CHUNK = 256


class _Greedy(NamedTuple):
    count: Array
    criterion: Array
    rows: Array
    following: Array


def columns_ahead(
    pairs: Callable[[Array, Array | None], Array],
    update: Callable[[Array, Array], Array],
    criterion: Array,
    k: Array,
    *,
    length: int,
    ahead: int,
) -> Array:
    """Rows in order of choice, each the one of the largest criterion then; of equal ones the lowest row.

    Args:
      pairs: `pairs(rows (b,), among (m,))` gives parts of columns, `(b, m)`; whole ones, `(b, n)`, for None.
      update: `update(criterion, column) -> criterion`, both `(n,)`, or of some points, after the choice of that
        column's row. It keeps what is minus infinity.
      criterion: float32 `(n,)`, minus infinity where a row may not be chosen.
      k: how many, at most `length`; may be traced.
      length: of the result.
      ahead: how many columns are computed at a time; more, where what is foretold mostly comes true.

    Returns:
      int32 `(length,)`, zeros beyond k.
    """
    n = len(criterion)
    ahead, promising = min(ahead, length), min(_PROMISING, n)

    def foretold(now: _Greedy) -> Array:
        """What the loop chooses if it goes on among the most promising points alone, `(ahead,)`."""
        some = lax.top_k(now.criterion, promising)[1].astype(jnp.int32)
        between = pairs(some, some)

        def choose(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            rows, of_some = carry
            best = jnp.argmax(of_some)
            return rows.at[i].set(some[best]), update(of_some, between[best]).at[best].set(-jnp.inf)

        rows, _ = lax.fori_loop(0, ahead, choose, (jnp.zeros(ahead, jnp.int32), now.criterion[some]))
        return rows.at[0].set(now.following)  # the same, but for what is not a number: the loop always goes on

    def refill(now: _Greedy) -> _Greedy:
        candidates = foretold(now)
        block = pairs(candidates, None)
        slots = jnp.full(n, -1, jnp.int32).at[candidates].set(jnp.arange(ahead, dtype=jnp.int32))

        def known(now: _Greedy) -> Array:
            return (now.count < k) & (slots[now.following] >= 0)

        def choose(now: _Greedy) -> _Greedy:
            chosen = now.following
            after = update(now.criterion, block[slots[chosen]]).at[chosen].set(-jnp.inf)
            return _Greedy(now.count + 1, after, now.rows.at[now.count].set(chosen), _first_largest(after))

        return lax.while_loop(known, choose, now)

    start = _Greedy(jnp.int32(0), criterion, jnp.zeros(length, jnp.int32), _first_largest(criterion))
    return lax.while_loop(lambda now: now.count < k, refill, start).rows


def _first_largest(values: Array) -> Array:
    """As `argmax`, by the largest of each chunk: XLA:CPU takes ten times as long for one of many."""
    n, whole = len(values), len(values) // _CHUNK * _CHUNK
    if n < 2 * _CHUNK:
        return jnp.argmax(values).astype(jnp.int32)
    chunks = values[:whole].reshape(-1, _CHUNK)
    largest = jnp.max(chunks, axis=1)
    chunk = jnp.argmax(largest)
    found = chunk * _CHUNK + jnp.argmax(chunks[chunk])
    if whole < n:
        last = whole + jnp.argmax(values[whole:])
        found = jnp.where(values[last] > largest[chunk], last, found)
    return found.astype(jnp.int32)
