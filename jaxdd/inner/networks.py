"""Many networks in one step: one knob from sequential to batched."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdd.types import PyTree


def map_networks(function: Callable[[PyTree], PyTree], over: PyTree, *, batch_size: int | None = None) -> PyTree:
    """The mean of `function` over the leading axis of `over` (network keys, expert ids).

    Call it with `function = value_and_grad(..)` inside, not with the gradient outside: then the memory is that of
    `batch_size` networks.

    Args:
      function: from one element of `over` to a pytree of floats.
      over: a pytree whose leaves share their first axis.
      batch_size: networks side by side; 1 is one after the other, the fast and lean choice on CPU, None all at once,
        the fast choice on an accelerator.
    """
    count = len(jax.tree.leaves(over)[0])
    if batch_size is None or batch_size >= count:
        results = jax.vmap(function)(over)
    else:
        results = jax.lax.map(function, over, batch_size=batch_size if batch_size > 1 else None)
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), results)
