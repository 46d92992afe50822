"""What lifts a rule over one group of points to one over classes, where nothing is known but shapes."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdd.types import Array, Indices, Key, Labels, PyTree


def of_every_class(
    rule: Callable[[PyTree, Array, Key], Indices], described: PyTree, labels: Labels, key: Key
) -> Indices:
    """Rows that a rule chooses of every class, in the whole set, class after class; everything may be traced.

    What `by_class` is for arrays at hand, with a key of its own for each class. Every class is filled up to the largest
    one, and one program serves all, one after the other: it is for a method's `init`.

        rows = of_every_class(lambda points, mask, key: choose.herding(points, 10, mask=mask), features, labels, key)

    Args:
      rule: `rule(points, mask, key) -> int32 (k,)`, places among the points; the mask says which of them count.
      described: leaves `(n, ..)`.
      key: is split over the classes.

    Returns:
      int32 `(classes * k,)`.
    """
    places = jnp.arange(max(labels.counts))

    def of_class(arguments: tuple[Array, Array, Key]) -> Indices:
        start, count, own = arguments
        rows = labels.order[start + places % count]
        return rows[rule(jax.tree.map(lambda leaf: leaf[rows], described), places < count, own)]

    starts, counts = (jnp.asarray(each, jnp.int32) for each in (labels.starts, labels.counts))
    return jax.lax.map(of_class, (starts, counts, jax.random.split(key, labels.num_classes))).reshape(-1)
