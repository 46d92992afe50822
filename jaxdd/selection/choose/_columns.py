"""Columns ahead: the greedy loop whose every choice needs one column of products with all points.

A column alone is a matrix-vector product, bound by memory. Here the columns of the candidates that are most promising
by the current criterion are one matrix product, and as long as the loop chooses among them it finds its columns there.
The choice is that of the plain loop: the criterion is exact for all points at every step, only columns are early.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxdd.types import Array


class _Greedy(NamedTuple):
    count: Array
    criterion: Array
    rows: Array
    following: Array


def columns_ahead(
    columns: Callable[[Array], Array],
    update: Callable[[Array, Array], Array],
    criterion: Array,
    k: Array,
    *,
    length: int,
    ahead: int,
) -> Array:
    """Rows in order of choice, each the one of the largest criterion then; of equal ones the lowest row.

    Args:
      columns: from rows `(b,)` to their columns `(b, n)`.
      update: `update(criterion, column) -> criterion`, both `(n,)`, after the choice of that column's row. It keeps
        what is minus infinity.
      criterion: float32 `(n,)`, minus infinity where a row may not be chosen.
      k: how many, at most `length`; may be traced.
      length: of the result.
      ahead: how many columns are computed at a time.

    Returns:
      int32 `(length,)`, zeros beyond k.
    """
    ahead = min(ahead, length, len(criterion))

    def refill(now: _Greedy) -> _Greedy:
        candidates = lax.top_k(now.criterion, ahead)[1].astype(jnp.int32)
        # It is among them but for what is not a number; then too the loop goes on.
        there = jnp.any(candidates == now.following)
        candidates = jnp.where(there, candidates, candidates.at[-1].set(now.following))
        block = columns(candidates)
        slots = jnp.full(len(criterion), -1, jnp.int32).at[candidates].set(jnp.arange(ahead, dtype=jnp.int32))

        def known(now: _Greedy) -> Array:
            return (now.count < k) & (slots[now.following] >= 0)

        def choose(now: _Greedy) -> _Greedy:
            chosen = now.following
            after = update(now.criterion, block[slots[chosen]]).at[chosen].set(-jnp.inf)
            rows = now.rows.at[now.count].set(chosen)
            return _Greedy(now.count + 1, after, rows, _first_largest(after))

        return lax.while_loop(known, choose, now)

    start = _Greedy(jnp.int32(0), criterion, jnp.zeros(length, jnp.int32), _first_largest(criterion))
    return lax.while_loop(lambda now: now.count < k, refill, start).rows


def _first_largest(values: Array) -> Array:
    return jnp.argmax(values).astype(jnp.int32)
