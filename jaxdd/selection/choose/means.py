"""Points that stand for a mean: herding, moderate ones, centres of k-means."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdd.errors import JaxddError
from jaxdd.selection.choose import _metric
from jaxdd.selection.choose._columns import columns_ahead
from jaxdd.selection.choose._points import length, number, points
from jaxdd.types import Array, Key

_AHEAD = 16


def herding(features: ArrayLike, k: int, *, mask: ArrayLike | None = None) -> Array:
    """Greedily the points that bring the mean of those chosen closest to the mean of all.

    The t-th is `argmin_x |t μ - S - φ(x)|²` among those not chosen yet, S the sum of those before (Welling 2009,
    "Herding Dynamical Weights to Learn"; so Rebuffi et al. 2017, algorithm 4). Nothing is random; of equal ones it is
    the lowest row.

        rows = herding(features, 10)

    Args:
      features: `(n, d)`, in whose space means are compared; computed in float32.
      k: how many, 1 to n.
      mask: bool `(n,)`, the points that count; None for all.

    Returns:
      int32 `(k,)` in order of choice.

    Raises:
      JaxddError: if k is not between 1 and the number of points that count, or features are not finite `(n, d)`.
    """
    values, counted = points(features, mask)
    k = number(k, counted)
    return _herding(values, counted, k, length=length(k, len(values)))[:k]


@functools.partial(jax.jit, static_argnames="length")
def _herding(values: Array, mask: Array, k: Array, *, length: int) -> Array:
    # Around the mean the criterion is |z|² + 2 <z, sum of those chosen>: a column of products for every choice.
    z = _metric.centred(values, mask)
    start = jnp.where(mask, -jnp.sum(jnp.square(z), axis=1), -jnp.inf)
    return columns_ahead(
        lambda rows, among: _metric.product(z[rows], (z if among is None else z[among]).T),
        lambda criterion, column: criterion - 2 * column,
        start,
        k,
        length=length,
        ahead=_AHEAD,
    )


def moderate(features: ArrayLike, k: int, *, mask: ArrayLike | None = None) -> Array:
    """The points whose distance to the mean is closest to the median of all such distances (Xia et al. 2023).

    Neither the most typical nor the strangest ones ("Moderate Coreset: A Universal Method of Data Selection for
    Real-world Data-efficient Deep Learning"). Of equal ones it is the lowest row.

        rows = moderate(features_of_class, 50)

    Args:
      features: `(n, d)` of one class; computed in float32.
      k: how many, 1 to n.
      mask: bool `(n,)`, the points that count; None for all.

    Returns:
      int32 `(k,)`, the closest to the median first.

    Raises:
      JaxddError: as `herding`.
    """
    values, counted = points(features, mask)
    k = number(k, counted)
    return _moderate(values, counted)[:k]


@jax.jit
def _moderate(values: Array, mask: Array) -> Array:
    distance = jnp.sqrt(jnp.sum(jnp.square(_metric.centred(values, mask)), axis=1))
    ordered, count = jnp.sort(jnp.where(mask, distance, jnp.inf)), jnp.sum(mask)
    median = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return jnp.argsort(jnp.where(mask, jnp.abs(distance - median), jnp.inf), stable=True).astype(jnp.int32)


def k_means(features: ArrayLike, k: int, key: Key, *, mask: ArrayLike | None = None) -> Array:
    """The real points nearest to the k centres of scikit-learn's k-means, no point twice.

    On the host. Where a point is nearest to two centres, the second one takes the nearest of those that are left.

        rows = k_means(features, 10, jax.random.key(0))

    Args:
      features: `(n, d)`; computed in float32.
      k: how many, 1 to n.
      key: for the first centres.
      mask: bool `(n,)`, the points that count; None for all.

    Returns:
      int32 `(k,)`, those of the largest clusters first.

    Raises:
      JaxddError: as `herding`, and if scikit-learn is not installed.
    """
    values, counted = points(features, mask)
    k = number(k, counted)
    try:
        from sklearn.cluster import KMeans
    except ImportError as error:
        raise JaxddError("k-means centres are scikit-learn's: pip install 'jaxdd[selection]'.") from error
    there = np.flatnonzero(np.asarray(counted))
    of_those = np.asarray(values)[there]
    options: dict[str, Any] = {"n_init": 1, "random_state": int(jax.random.bits(key, dtype=jnp.uint32))}
    fitted = KMeans(k, **options)
    owner = np.asarray(fitted.fit_predict(of_those))
    largest_first = np.argsort(-np.bincount(owner, minlength=k), kind="stable")
    squares, free, chosen = np.square(of_those).sum(1), np.ones(len(there), bool), []
    for centre in fitted.cluster_centers_[largest_first]:
        chosen.append(int(np.argmin(np.where(free, squares - 2 * of_those @ centre, np.inf))))
        free[chosen[-1]] = False
    return jnp.asarray(there[chosen], jnp.int32)
