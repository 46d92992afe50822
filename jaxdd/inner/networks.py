"""Many networks in one step: one knob from sequential to batched, and the devices of a run outside of it."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun
from jax.sharding import Mesh, PartitionSpec

from jaxdd.types import PyTree

# Whose devices share the networks; part of the key of `jax.jit`'s caches, so that nothing traced for one is used for
# another.
_MESH = jax.make_user_context(None)


def map_networks(
    function: Callable[[PyTree], PyTree], over: PyTree, *, batch_size: int | None = None, axis_name: str | None = None
) -> PyTree:
    """The mean of `function` over the leading axis of `over` (network keys, expert ids).

    Call it with `function = value_and_grad(..)` inside, not with the gradient outside: then the memory is that of
    `batch_size` networks.

    In a run of the engine (or under `share_networks`) the devices share the networks if they divide evenly, and what
    `function` closes over is whole on each of them. Networks that do not divide are computed by every device: slower,
    never wrong.

    Args:
      function: from one element of `over` to a pytree of floats. It runs on one device, so it must hold no
        collectives and no shardings.
      over: a pytree whose leaves share their first axis.
      batch_size: networks side by side on a device; 1 is one after the other, the fast and lean choice on CPU, None
        all at once, the fast choice on an accelerator.
      axis_name: of a `jax.pmap` or `jax.vmap(axis_name=..)` around the caller: the mean is then over that axis too.
    """

    def mean(results: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0, keepdims=True), results)

    result = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), _map(function, over, batch_size, mean))
    return result if axis_name is None else jax.lax.pmean(result, axis_name)


def each_network(function: Callable[[PyTree], PyTree], over: PyTree, *, batch_size: int | None = None) -> PyTree:
    """The results of `function` over the leading axis of `over`, stacked: `map_networks` without the mean."""
    return _map(function, over, batch_size, lambda results: results)


def _map(function, over: PyTree, batch_size: int | None, reduce: Callable[[PyTree], PyTree]) -> PyTree:
    """What each device makes of its networks' results, one device after the other along the first axis."""
    mesh: Mesh | None = _MESH.value
    if mesh is not None and len(jax.tree.leaves(over)[0]) % mesh.size:
        mesh = None

    def on_device(over: PyTree) -> PyTree:
        if batch_size is None or batch_size >= len(jax.tree.leaves(over)[0]):
            return reduce(jax.vmap(function)(over))
        return reduce(jax.lax.map(function, over, batch_size=batch_size if batch_size > 1 else None))

    if mesh is None:
        return on_device(over)
    # The device axis is the outer one, because the partitioner gathers `lax.map`, blocked convolutions and FFI
    # calls and runs them whole on every device. `check_vma` would turn gradients that are taken inside into sums
    # over the devices.
    split = PartitionSpec(mesh.axis_names)
    with _MESH(None):  # networks inside of `function` have one device
        return jax.shard_map(on_device, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)(over)


def share_networks(function: Callable[..., PyTree], mesh: Mesh) -> Callable[..., PyTree]:
    """`function`, with every `map_networks` in it shared by the devices of `mesh`.

    Args:
      function: a pure function of arrays, for one the `update` of a method; it needs to know nothing of devices.
      mesh: its axes are all for the networks. One of a single device changes nothing.
    """
    if mesh.size == 1:
        return function

    @functools.wraps(function)
    def call(*args):
        # Traced on bare shapes: a function inside `shard_map` may close over arrays only if their types say nothing of
        # a mesh (`jax.nn.one_hot` for one refuses others), as those of arguments that lie on several devices do.
        bare = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, weak_type=x.weak_type), args)
        with _MESH(mesh):
            traced, shapes = jax.make_jaxpr(function, return_shape=True)(*bare)
        leaves = jaxpr_as_fun(traced)(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shapes), leaves)

    return call
