"""Which rows of the synthetic set each inner step sees: index matrices, drawn before the loop."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd._numbers import of_each
from jaxdd.types import Indices, Key


def epoch_plan(key: Key, size: int, batch_size: int, steps: int) -> Indices:
    """Mini-batches without replacement within an epoch, int32 `(steps, batch_size)`.

    Every epoch is a fresh permutation; its last incomplete batch is left out. A batch as large as the set is the set.
    """
    if not 1 <= batch_size <= size:
        raise ValueError(f"the batch size must be between 1 and the set's {size}, got {batch_size}")
    if batch_size == size:
        return jnp.tile(jnp.arange(size), (steps, 1))
    batches = size // batch_size
    epochs = math.ceil(steps / batches)
    orders = jax.vmap(lambda k: jax.random.permutation(k, size))(jax.random.split(key, epochs))
    return orders[:, : batches * batch_size].reshape(-1, batch_size)[:steps]


def balanced_plan(key: Key, num_classes: int, ipc: int, per_class: int, steps: int) -> Indices:
    """Class-balanced mini-batches of a set that is sorted by class, int32 `(steps, num_classes * per_class)`.

    Each class contributes `per_class` different rows of its `ipc` to every step.
    """
    if not 1 <= per_class <= ipc:
        raise ValueError(f"rows per class must be between 1 and the set's {ipc}, got {per_class}")
    keys = jax.random.split(key, (steps, num_classes))
    choose = jax.vmap(jax.vmap(lambda k: jax.random.permutation(k, ipc)[:per_class]))
    rows = choose(keys) + ipc * jnp.arange(num_classes)[None, :, None]
    return rows.reshape(steps, num_classes * per_class)


def ordered_plan(num_classes: int, ipc: int | Sequence[int], per_class: int | Sequence[int], epochs: int) -> Indices:
    """The same order in every epoch, as Wang et al. (2018) distil: int32 `(epochs * ipc / per_class, num_classes *
    per_class)`.

    For a set that is sorted by class: step t sees the next `per_class` rows of every class, so that each step of an
    epoch has images of its own. Classes may have numbers of their own, all of which make as many steps.
    """
    own, seen = (of_each(value, num_classes, "rows") for value in (ipc, per_class))
    if not all(1 <= k <= n and n % k == 0 for n, k in zip(own, seen, strict=True)):
        raise ValueError(f"rows per class must divide the set's {ipc}, got {per_class}")
    if len({n // k for n, k in zip(own, seen, strict=True)}) > 1:
        raise ValueError(f"{per_class} rows per class of {ipc} make more steps in one class than in another")
    starts = np.cumsum(own) - own
    rows = [start + np.arange(n).reshape(-1, k) for start, n, k in zip(starts, own, seen, strict=True)]
    return jnp.asarray(np.tile(np.concatenate(rows, axis=1), (epochs, 1)), jnp.int32)
