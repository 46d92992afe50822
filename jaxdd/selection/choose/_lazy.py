"""Lazy greedy choice (Minoux 1978) of a monotone submodular function, by blocks.

What a point gained once bounds what it will gain later. So a point whose bound is below another's exact gain is not
looked at. A gain needs the point's column of distances to all points; the columns of the most promising points are
computed a block at a time and kept, the least promising block making room for a new one. The choice is that of the
plain loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxdd.types import Array


class _Chosen(NamedTuple):
    count: Array
    cover: Array  # what the chosen points have reached, (n,)
    bounds: Array  # of all gains, (n,); minus infinity for what was chosen
    rows: Array
    kept: Array  # the bounds of the rows whose columns are kept, (slots,); minus infinity for an empty slot
    exact: Array  # how many were chosen when the bound was a gain, (slots,)


class _Kept(NamedTuple):
    rows: Array  # (slots,); n for none
    columns: Array  # (slots, n)


def lazy_greedy(
    columns: Callable[[Array], Array],
    gains: Callable[[Array, Array], Array],
    update: Callable[[Array, Array], Array],
    cover: Array,
    bounds: Array,
    first: Array,
    k: Array,
    *,
    length: int,
    block: int,
    blocks: int,
) -> Array:
    """Rows in order of choice, each with the largest gain then; of equal ones the lowest row.

    Args:
      columns: from rows `(b,)` to their columns `(b, n)`.
      gains: `gains(cover (n,), columns (b, n)) -> (b,)`, which never rise as the cover grows.
      update: `update(cover, column (n,)) -> cover`, after a choice.
      cover: of the first row, `(n,)`.
      bounds: of the gains after it, float32 `(n,)`; minus infinity where a row may not be chosen.
      first: the row that is chosen first.
      k: how many, at most `length`; may be traced.
      length: of the result.
      block: how many columns are computed at a time.
      blocks: how many of these are kept.

    Returns:
      int32 `(length,)`, zeros beyond k, and from where a gain is not a number.
    """
    n = len(bounds)
    block = min(block, n)
    blocks = min(blocks, -(-n // block))

    def refill(carry: tuple[_Chosen, _Kept]) -> tuple[_Chosen, _Kept]:
        now, kept = carry
        missing = now.bounds.at[kept.rows].set(-jnp.inf, mode="drop")
        largest, rows = lax.top_k(missing, block)
        rows = jnp.where(largest > -jnp.inf, rows, n).astype(jnp.int32)
        fresh = columns(jnp.minimum(rows, n - 1))
        gained = jnp.where(rows < n, gains(now.cover, fresh), -jnp.inf)
        # The block with the smallest of largest bounds goes; an empty one first.
        place = block * jnp.argmin(jnp.max(now.kept.reshape(blocks, block), axis=1)).astype(jnp.int32)
        kept = _Kept(
            lax.dynamic_update_slice(kept.rows, rows, (place,)),
            lax.dynamic_update_slice(kept.columns, fresh, (place, jnp.int32(0))),
        )
        now = now._replace(
            bounds=now.bounds.at[rows].set(gained, mode="drop"),
            kept=lax.dynamic_update_slice(now.kept, gained, (place,)),
            exact=lax.dynamic_update_slice(now.exact, jnp.full(block, now.count), (place,)),
        )
        missing = now.bounds.at[kept.rows].set(-jnp.inf, mode="drop")
        other = jnp.argmax(missing).astype(jnp.int32)
        return _among_kept(now, kept, missing[other], other), kept

    def _among_kept(now: _Chosen, kept: _Kept, other_bound: Array, other: Array) -> _Chosen:
        """Goes on as long as no bound of a row without a column is the largest."""

        def best(now: _Chosen) -> tuple[Array, Array]:
            largest = jnp.max(now.kept)
            rows = jnp.where(now.kept == largest, kept.rows, n)
            return largest, jnp.argmin(rows).astype(jnp.int32)

        def goes_on(now: _Chosen) -> Array:
            largest, slot = best(now)
            ahead = (largest > other_bound) | ((largest == other_bound) & (kept.rows[slot] < other))
            return (now.count < k) & (largest > -jnp.inf) & ahead

        def step(now: _Chosen) -> _Chosen:
            _, slot = best(now)
            row, column = kept.rows[slot], kept.columns[slot]

            def choose(now: _Chosen) -> _Chosen:
                return now._replace(
                    count=now.count + 1,
                    cover=update(now.cover, column),
                    bounds=now.bounds.at[row].set(-jnp.inf),
                    rows=now.rows.at[now.count].set(row),
                    kept=now.kept.at[slot].set(-jnp.inf),
                )

            def look(now: _Chosen) -> _Chosen:
                gained = gains(now.cover, column[None])[0]
                return now._replace(
                    bounds=now.bounds.at[row].set(gained),
                    kept=now.kept.at[slot].set(gained),
                    exact=now.exact.at[slot].set(now.count),
                )

            return lax.cond(now.exact[slot] == now.count, choose, look, now)

        return lax.while_loop(goes_on, step, now)

    slots = block * blocks
    start = _Chosen(
        jnp.int32(1),
        cover,
        bounds.at[first].set(-jnp.inf),
        jnp.zeros(length, jnp.int32).at[0].set(first),
        jnp.full(slots, -jnp.inf),
        jnp.full(slots, -1, jnp.int32),
    )
    kept = _Kept(jnp.full(slots, n, jnp.int32), jnp.zeros((slots, n)))

    def unfinished(carry: tuple[_Chosen, _Kept]) -> Array:
        now, _ = carry  # with a bound that is not a number, as a traced caller may give, no row would ever be the best
        return (now.count < k) & ~jnp.any(jnp.isnan(now.bounds))

    return lax.while_loop(unfinished, refill, (start, kept))[0].rows


def in_blocks(function: Callable[[Array], Any], n: int, block: int) -> Any:
    """`function` of rows `(b,)` for all n rows, a block at a time: leaves `(b, ..)` become `(n, ..)`.

    The last block has the last row more than once.
    """
    block = min(block, n)
    rows = jnp.minimum(jnp.arange(-(-n // block) * block, dtype=jnp.int32), n - 1).reshape(-1, block)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:n], lax.map(function, rows))
