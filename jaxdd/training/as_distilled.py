"""Networks trained as their sets were distilled for."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdd import inner, models
from jaxdd._jax import key_of
from jaxdd.errors import JaxddError
from jaxdd.types import Array, Distilled, Indices, Key, Network, NetworkState, PyTree, leaves_by_path


def fit_as_distilled(
    network: Network, sets: Sequence[Distilled], factors: ArrayLike, keys: Key, *, members: ArrayLike
) -> NetworkState:
    """Train networks by gradient descent as their sets were distilled for: schedule, learned rates, initialisation.

    Args:
      sets: of equal size; how the first is to be trained on holds for all.
      factors: `(k,)`, what the learned rates are multiplied by.
      keys: `(k,)`, of fresh initialisations.
      members: int `(k,)`, the set of each network.

    Returns:
      The trained networks, stacked along a first axis. Their running statistics are those of the batches of the plan's
      last epoch, at the last weights.

    Raises:
      JaxddError: as `check_as_distilled`.
    """
    first = sets[0]
    check_as_distilled(network, first)
    images = jnp.stack([jnp.asarray(s.images, jnp.float32) for s in sets])
    labels = jnp.stack([jnp.asarray(s.labels) for s in sets])
    arrays = (images, labels, first.schedule, first.learning_rates, first.theta0)
    return _fit_as_distilled(
        arrays, jnp.asarray(factors, jnp.float32), keys, np.asarray(members, np.int32), network=network
    )


def check_as_distilled(network: Network, distilled: Distilled) -> None:
    """Check that a set, or its shapes, says how networks are to be trained on it, and that this network can be.

    Raises:
      JaxddError: for a set without a schedule and learned rates, with labels that cross-entropy cannot use, or for one
        initialisation of another network.
    """
    if "descent" not in distilled.training.ways:
        raise JaxddError(
            "this set has learned no learning rates, so there is no way it was distilled for; "
            'evaluate it by another protocol, "default" for one.'
        )
    if distilled.label_convention in ("centred", "features"):
        what = "centred labels" if distilled.label_convention == "centred" else "features"
        raise JaxddError(f"{what} are for squared error, not for gradient descent on cross-entropy.")
    if distilled.theta0 is not None:
        expected = leaves_by_path(jax.eval_shape(network.init, key_of(0))[0])
        shapes = [{name: leaf.shape for name, leaf in leaves.items()} for leaves in (expected, distilled.theta0)]
        if shapes[0] != shapes[1]:
            raise JaxddError("this set was distilled for one initialisation of another network: name that model.")


@functools.partial(jax.jit, static_argnames="network")
def _fit_as_distilled(arrays, factors, keys, members, *, network):
    images, labels, schedule, learning_rates, theta0 = arrays

    def fit_one(arguments):
        factor, key, member = arguments
        theta, stats = network.init(key)
        if theta0 is not None:
            theta = jax.tree.unflatten(jax.tree.structure(theta), [theta0[name] for name in leaves_by_path(theta)])
        feed = inner.planned((images[member], labels[member]), schedule, factor * learning_rates)
        trained = inner.unroll(inner.classification(network, stats), inner.sgd(), theta, feed, len(schedule))
        return NetworkState(trained.theta, running_statistics(network, trained.theta, images[member], stats, schedule))

    return inner.each_network(fit_one, (factors, keys, members))


def running_statistics(network: Network, theta: PyTree, images: Array, stats: PyTree, schedule: Indices) -> PyTree:
    """Running statistics of a network trained on a schedule: the mean of its last batches' own, for one epoch.

    At the last weights, since a schedule may be too short for moving averages to arrive (Wu & Johnson 2021), and in the
    batches of the schedule, since by these the network was normalised.
    """
    if not jax.tree.leaves(stats):
        return stats
    last = schedule[-max(1, len(images) // schedule.shape[1]) :]
    found = jax.lax.map(lambda rows: models.frozen_statistics(network, theta, images[rows], stats), last)
    floating = jax.tree.map(lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating), stats)
    return jax.tree.map(lambda leaf, own, mean: leaf.mean(0) if mean else own, found, stats, floating)
