"""Collectives of an `update` inside a user's `jax.pmap` or `jax.vmap(axis_name=..)`; elsewhere nothing happens."""

from __future__ import annotations

import jax

from jaxdd.types import PyTree


def pmean(tree: PyTree, axis_name: str | None) -> PyTree:
    """`jax.lax.pmean`; `tree` as it is for an `axis_name` of None.

    Take it of gradients. The gradient of a mean over the axis is wrong, silently, under `pmap` and `vmap`.
    """
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def all_gather(tree: PyTree, axis_name: str | None, *, axis: int = 0) -> PyTree:
    """What all devices hold, one after the other along `axis`; `tree` as it is for an `axis_name` of None."""
    return tree if axis_name is None else jax.lax.all_gather(tree, axis_name, axis=axis, tiled=True)


def own_part(tree: PyTree, axis_name: str | None) -> PyTree:
    """Of what all devices hold, as `all_gather` brings it together, this one's; `tree` for an `axis_name` of None."""
    if axis_name is None:
        return tree
    devices, own = jax.lax.axis_size(axis_name), jax.lax.axis_index(axis_name)
    return jax.tree.map(lambda leaf: leaf.reshape(devices, -1, *leaf.shape[1:])[own], tree)
