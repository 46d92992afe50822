"""The compiled inner part of a run: some steps of a method in one program."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxdd.engine.placement import replicated, split_batch, split_indices
from jaxdd.inner.networks import share_networks
from jaxdd.types import Array, Batch, Key, Method, Metrics, RealData, State


class Keys(NamedTuple):
    """Independent streams of one seed."""

    init: Key
    sample: Key
    update: Key


class Chunk(NamedTuple):
    """What some steps end in: the last good state, the next step, and whether each new leaf is finite."""

    state: State
    step: Array
    metrics: Metrics
    finite: dict[str, Array]


def keys_of(seed: int) -> Keys:
    return Keys(*jax.random.split(jax.random.key(seed), 3))


def _finite(tree) -> dict[str, Array]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        "step": jnp.array(True),  # so that there is something to look at where nothing is floating-point
    } | {
        jax.tree_util.keystr(path, simple=True, separator="."): jnp.all(jnp.isfinite(leaf))
        for path, leaf in leaves
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    }


def decoding(method: Method, decode: Callable[[Array], Array]) -> Method:
    """`method` for images as they are stored: decoded on the device, an update's batch as it is drawn.

    So a device holds uint8 images, a quarter of what their transformed floats take.

    Args:
      decode: from stored images `(b, h, w, c)` to what the method is to see; pure. A run's identity knows the stored
        images and not `decode`, so its config should say what it does.
    """

    def init(key: Key, data: RealData) -> State:
        return method.init(key, data._replace(images=decode(data.images)))

    def update(key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
        return method.update(key, state, batch._replace(images=decode(batch.images)))

    return method._replace(init=init, update=update)


def compile_chunk(method: Method, mesh: Mesh, state: State, keys: Keys, data: RealData) -> jax.stages.Compiled:
    """One program that runs any number of steps, `chunk(state, first, last, keys, data)`, and donates the state.

    The number is a dynamic bound, so that a run cut anywhere executes the very program of one that is not cut. A step
    that makes anything non-finite is not taken: the loop ends with the state before it.
    """

    update = share_networks(method.update, mesh)

    def one(state: State, step: Array, keys: Keys, data: RealData) -> tuple[State, Metrics]:
        indices = split_indices(method.sample(jax.random.fold_in(keys.sample, step), data.labels), mesh)
        batch = split_batch(Batch(data.images[indices], data.labels.values[indices]), mesh)
        return update(jax.random.fold_in(keys.update, step), state, batch)

    def chunk(state: State, first: Array, last: Array, keys: Keys, data: RealData) -> Chunk:
        def finite_of(state, metrics):
            return _finite({"state": state, "metrics": metrics})

        def body(carry: Chunk) -> Chunk:
            state, metrics = one(carry.state, carry.step, keys, data)
            finite = finite_of(state, metrics)
            good = jnp.all(jnp.stack(list(finite.values())))
            state = jax.tree.map(lambda new, old: jnp.where(good, new, old), state, carry.state)
            return Chunk(state, carry.step + good, metrics, finite)

        def go_on(carry: Chunk):
            return (carry.step < last) & jnp.all(jnp.stack(list(carry.finite.values())))

        shapes = jax.eval_shape(one, state, first, keys, data)[1]
        metrics = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        finite = jax.tree.map(lambda _: jnp.array(True), finite_of(state, metrics))
        return jax.lax.while_loop(go_on, body, Chunk(state, first, metrics, finite))

    place = replicated(mesh)
    step = jnp.int32(0)
    return (
        jax.jit(chunk, donate_argnums=0, in_shardings=place, out_shardings=place)
        .lower(state, step, step, keys, data)
        .compile()
    )
