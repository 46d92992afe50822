"""The running statistics of networks, taken from images."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxdd.errors import JaxddError
from jaxdd.types import Array, Network, PyTree, leaves_by_path


def frozen_statistics(network: Network, theta: PyTree, images: Array, stats: PyTree) -> PyTree:
    """Statistics with which a network in the mode "eval" normalises as it does in the mode "batch" on these images.

    Each is that of its own layer on these images, normalised by them in the layers before; nothing of the old ones is
    left. Gradient matching takes them from a batch of real images of all classes, and normalises both sides by them.

        stats = models.frozen_statistics(network, theta, images, stats)
        logits, _ = network.apply(theta, images, stats)  # those of mode="batch"

    What a network does not name among its norms is found from how training moves it: `s` to `m s + (1 - m) b`, and
    three values of that tell b (Aitken's process), to about the rounding of `s / (1 - m)`. What training does not move,
    and what is no floating-point number, stays as it is.

    Args:
      images: `(n, h, w, c)`, all in one pass, so that they are one batch.
      stats: the network's.

    Returns:
      Like `stats`; no gradient flows through it. `stats` itself for a network without any.
    """
    if not any(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(stats)):
        return stats

    def trained(stats: PyTree) -> PyTree:
        return network.apply(theta, images, stats, mode="train")[1]

    # One pass in a compiled program, where nothing but the statistics themselves depends on them in training mode.
    after = trained(stats)
    once = trained(jax.tree.map(_from_zero, stats, after))
    found = jax.tree.map(_limit, stats, after, once, trained(once))
    try:
        _, norms = network.norms(theta, images, stats, mode="batch")
    except JaxddError:  # it has none that it could name
        return jax.lax.stop_gradient(found)
    exact = {}
    for name, moments in zip(norms.names, norms.batch, strict=True):
        if norms.names.count(name) == 1:  # of one that is applied several times there is no single batch
            exact |= {f"{name}/mean": moments.mean, f"{name}/var": moments.variance}
    leaves = [exact.get(path, leaf).astype(leaf.dtype) for path, leaf in leaves_by_path(found).items()]
    return jax.lax.stop_gradient(jax.tree.unflatten(jax.tree.structure(found), leaves))


def _from_zero(stats: Array, after: Array) -> Array:
    return jnp.where(after == stats, stats, 0) if jnp.issubdtype(stats.dtype, jnp.floating) else stats


def _limit(stats: Array, after: Array, once: Array, twice: Array) -> Array:
    """Where `s -> m s + (1 - m) b` leads, from one step after `stats`, and one and two after zero."""
    if not jnp.issubdtype(stats.dtype, jnp.floating):
        return stats
    slower = 2 * once - twice  # (1 - m)² b, and `once` is (1 - m) b
    limit = once * (once / jnp.where(slower == 0, 1, slower))
    return jnp.where(after == stats, stats, limit)
