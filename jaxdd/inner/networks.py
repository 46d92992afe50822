"""Many networks or examples in one step, and the devices of a run outside of them."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxdd._jax import evaluate
from jaxdd.inner.axes import pmean
from jaxdd.types import Array, PyTree

# Whose devices share the networks; part of the key of `jax.jit`'s caches, so that nothing traced for one is used for
# another.
_MESH = jax.make_user_context(None)


def map_networks(
    function: Callable[[PyTree], PyTree], over: PyTree, *, batch_size: int | None = None, axis_name: str | None = None
) -> PyTree:
    """The mean of `function` over the leading axis of `over` (network keys, expert ids).

    Call it with `function = value_and_grad(..)` inside, not with the gradient outside: then the memory is that of
    `batch_size` networks.

    In a run of the engine (or under `share_networks`) the devices share the networks, and what `function` closes over
    is whole on each of them. Where networks do not divide evenly some devices compute the last one too, which counts
    once. A single one is computed by every device, and they share the blocks of examples in it.

    Args:
      function: from one element of `over` to a pytree of floats. It runs on one device, so it must hold no
        collectives and no shardings.
      over: a pytree whose leaves share their first axis.
      batch_size: networks side by side on a device; 1 is one after the other, the fast and lean choice on CPU, None
        all at once, the fast choice on an accelerator.
      axis_name: of a `jax.pmap` or `jax.vmap(axis_name=..)` around the caller: the mean is then over that axis too.
    """
    count, padded = _length(over), _padded(over)

    def one(element_and_counts: tuple[PyTree, Array]) -> PyTree:
        element, counts = element_and_counts
        return jax.tree.map(lambda leaf: jnp.where(counts, leaf, 0), function(element))

    def total(results: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0, keepdims=True), results)

    sums = _map(one, (padded, jnp.arange(_length(padded)) < count), batch_size, total)
    return pmean(jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0) / count, sums), axis_name)


def each_network(function: Callable[[PyTree], PyTree], over: PyTree, *, batch_size: int | None = None) -> PyTree:
    """The results of `function` over the leading axis of `over`, stacked: `map_networks` without the mean."""
    count = _length(over)
    results = _map(function, _padded(over), batch_size, lambda results: results)
    return jax.tree.map(lambda leaf: leaf[:count], results)


def _map(function, over: PyTree, batch_size: int | None, reduce: Callable[[PyTree], PyTree]) -> PyTree:
    """What each device makes of its networks' results, one device after the other along the first axis."""

    def on_device(over: PyTree) -> PyTree:
        count = _length(over)
        if count == 1:  # `vmap` would turn each `cond` in it into a choice between two results, both computed
            return reduce(jax.tree.map(_stacked, function(jax.tree.map(_first, over))))
        if batch_size is None or batch_size >= count:
            return reduce(jax.vmap(function)(over))
        return reduce(jax.lax.map(function, over, batch_size=batch_size if batch_size > 1 else None))

    return shared(on_device, over)


def _padded(over: PyTree) -> PyTree:
    """`over` with its last element repeated until the devices of a run can share it evenly; a single one as it is."""
    mesh, count = _MESH.value, _length(over)
    if mesh is None or count == 1 or count % mesh.size == 0:
        return over
    rows = np.minimum(np.arange(count + -count % mesh.size), count - 1)
    return jax.tree.map(lambda leaf: leaf[rows], over)


def _length(over: PyTree) -> int:
    return len(jax.tree.leaves(over)[0])


def _first(leaf: Array) -> Array:
    return leaf[0]


def _stacked(leaf: Array) -> Array:
    return leaf[None]


def shared(function: Callable[[PyTree], PyTree], over: PyTree) -> PyTree:
    """`function` of `over`: in a run of the engine each device calls it on its share of the first axis.

    What does not divide over the devices is computed whole by each.

    Args:
      function: its results, one device after the other along their first axis, are those of the whole. It runs on one
        device, so it must hold no collectives and no shardings; what it closes over is whole on each of them.
      over: a pytree whose leaves share their first axis.
    """
    mesh: Mesh | None = _MESH.value
    if mesh is None or _length(over) % mesh.size:
        return function(over)
    # The device axis is the outer one, because the partitioner gathers `lax.map`, blocked convolutions and FFI
    # calls and runs them whole on every device. `check_vma` would turn gradients that are taken inside into sums
    # over the devices.
    split = PartitionSpec(mesh.axis_names)
    with _MESH(None):  # what is mapped inside of `function` has one device
        return jax.shard_map(function, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)(over)


def mesh_of_run() -> Mesh | None:
    """Whose devices share what is mapped; None on one device, inside of what is mapped, and in somebody's `pmap`."""
    return _MESH.value


def on_one_device(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """`function`, in which nothing is shared, as what runs in a `jax.shard_map` over the devices of a run must be."""

    @functools.wraps(function)
    def call(*args, **options):
        with _MESH(None):
            return function(*args, **options)

    return call


def share_networks(function: Callable[..., PyTree], mesh: Mesh) -> Callable[..., PyTree]:
    """`function`, with every `map_networks` and `map_blocks` in it shared by the devices of `mesh`.

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
        leaves = evaluate(traced, *jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shapes), leaves)

    return call
