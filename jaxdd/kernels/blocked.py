"""A function of all pairs of two sets, a block at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def blocked(function: Callable[[Any, Any], Any], first: Any, second: Any = None, *, block: int) -> Any:
    """Evaluate `function` on all pairs of two sets of examples, in memory that does not grow with the number of pairs.

    Blocks run one after another and are computed again for gradients, so that a gradient too takes the memory of one
    block beside its inputs and result.

    Args:
      function: from a block of each set, `(p, ...)` and `(q, ...)`, to `(p, q, ...)`; sets and values may be pytrees.
      first, second: `(n, ...)` and `(m, ...)`. `second=None` means `first`, and that an exchange of two examples
        transposes what follows the first two axes: blocks under the diagonal are then not computed, and the result is
        exactly symmetric.
      block: examples of each set in a block, at least 1.

    Returns:
      `(n, m, ...)`.

    Raises:
      ValueError: if `block` is less than 1.
    """
    check_block(block)
    symmetric = second is None
    (rows, n), (columns, m) = _split(first, block), _split(first if symmetric else second, block)
    shape = tuple(len(jax.tree.leaves(split)[0]) for split in (rows, columns))
    i, j = np.triu_indices(shape[0]) if symmetric else np.indices(shape).reshape(2, -1)

    @jax.checkpoint
    def one(pair):
        row, column = pair
        return function(jax.tree.map(lambda a: a[row], rows), jax.tree.map(lambda a: a[column], columns))

    values = jax.lax.map(one, (jnp.asarray(i), jnp.asarray(j)))
    position = np.zeros(shape, np.int32)
    position[i, j] = np.arange(len(i))
    return jax.tree.map(lambda blocks: _assemble(blocks[position], n, m, symmetric), values)


def check_block(block: int | None, what: str = "block") -> None:
    """Raises a ValueError if a block is less than 1; whoever computes before it is used asks first."""
    if block is not None and block < 1:
        raise ValueError(f"{what} must be at least 1, got {block}")


def _split(tree, block):
    """Leaves `(n, ...)` as `(blocks, block, ...)`, the last example repeated to fill the last block; and n."""
    n = len(jax.tree.leaves(tree)[0])
    block = min(block, n)
    missing = -n % block

    def split(leaf):
        filled = jnp.concatenate([leaf, jnp.broadcast_to(leaf[-1:], (missing, *leaf.shape[1:]))])
        return filled.reshape(-1, block, *leaf.shape[1:])

    return jax.tree.map(split, tree), n


def _assemble(blocks, n, m, symmetric):
    """`(rows, columns, p, q, ...)` as `(n, m, ...)`."""
    rows, columns, p, q = blocks.shape[:4]
    whole = jnp.swapaxes(blocks, 1, 2).reshape(rows * p, columns * q, *blocks.shape[4:])[:n, :m]
    if not symmetric:
        return whole
    trailing = range(whole.ndim - 1, 1, -1)
    mirrored = whole.transpose(1, 0, *trailing)
    row, column = (a.reshape(n, n, *[1] * (whole.ndim - 2)) for a in np.indices((n, n)))
    return jnp.where(row < column, whole, jnp.where(row > column, mirrored, (whole + mirrored) / 2))
