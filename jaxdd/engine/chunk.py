"""The compiled inner part of a run: some steps of a method in one program."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxdd.engine.feed import Feed, feed
from jaxdd.engine.placement import make_mesh, replicated
from jaxdd.engine.processes import place
from jaxdd.inner.networks import share_networks
from jaxdd.models import matmul_precision
from jaxdd.types import EXAMPLES, Array, Batch, Key, Method, Metrics, PyTree, RealData, Recipe, Spec, State, bound

CHUNK_SECONDS = 0.5  # a run stops, saves or answers a signal within about this much time


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


class Program(NamedTuple):
    """A run before its first step."""

    method: Method
    """As it is bound to the data."""
    mesh: Mesh
    keys: Keys
    feed: Feed
    chunk: jax.stages.Compiled
    """`chunk(state, first, last, keys, source) -> Chunk`, any number of steps; it donates the state. The source is what
    the feed gives for the first of them, and must serve the last."""
    compile_seconds: float


def _finite(tree) -> dict[str, Array]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        "step": jnp.array(True),  # so that there is something to look at where nothing is floating-point
    } | {
        jax.tree_util.keystr(path, simple=True, separator="."): jnp.all(jnp.isfinite(leaf))
        for path, leaf in leaves
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    }


def decoding(method: Method | Recipe, decode: Callable[[Array], Array]) -> Recipe:
    """`method` for images as they are stored: decoded on the device, an update's batch as it is drawn.

    So a device holds uint8 images, a quarter of what their transformed floats take.

    Args:
      decode: from stored images `(b, h, w, c)` to what the method is to see; pure. A run's identity knows the stored
        images and not `decode`, so its config should say what it does.
    """

    def bind(spec: Spec) -> Method:
        inside = bound(method, _decoded(spec, decode))

        def init(key: Key, data: RealData) -> State:
            return inside.init(key, data.with_images(decode(data.images)))

        def update(key: Key, state: State, batch: Batch, **options: Any) -> tuple[State, Metrics]:
            return inside.update(key, state, batch.map_images(decode), **options)

        return inside._replace(init=init, update=update)

    return Recipe(bind, identity=None if getattr(method, "identity", None) is None else (method, decode))


def _decoded(spec: Spec, decode: Callable[[Array], Array]) -> Spec:
    """What the data are once they are decoded."""
    examples = spec.tables[EXAMPLES]
    images = jax.eval_shape(decode, examples.images)
    return Spec({**spec.tables, EXAMPLES: examples._replace(images=images)}, spec.counts)


def compile_program(
    method: Method | Recipe, data: RealData, *, seed: int, precision: str, devices: Sequence[Any] | None
) -> Program:
    """Everything that a run needs; arguments as those of `run`. Nothing is written."""
    mesh, method = make_mesh(devices), bound(method, data)
    keys = Keys(*jax.random.split(jax.random.key(seed), 3))
    supply, keys = feed(method, data, mesh, keys.sample), place(keys, replicated(mesh))
    began = time.perf_counter()
    with matmul_precision(precision):
        chunk = _compile_chunk(method, mesh, keys, supply)
    return Program(method, mesh, keys, supply, chunk, time.perf_counter() - began)


def _compile_chunk(method: Method, mesh: Mesh, keys: Keys, supply: Feed) -> jax.stages.Compiled:
    """The number of steps is a dynamic bound, so that a run cut anywhere executes the very program of one that is not.

    A step that makes anything non-finite is not taken: the loop ends with the state before it.
    """
    update = share_networks(method.update, mesh)

    def one(state: State, step: Array, keys: Keys, source: PyTree) -> tuple[State, Metrics]:
        batch = supply.batch(source, step, keys.sample)
        return update(jax.random.fold_in(keys.update, step), state, batch)

    def chunk(state: State, first: Array, last: Array, keys: Keys, source: PyTree) -> Chunk:
        def finite_of(state, metrics):
            return _finite({"state": state, "metrics": metrics})

        def body(carry: Chunk) -> Chunk:
            state, metrics = one(carry.state, carry.step, keys, source)
            finite = finite_of(state, metrics)
            good = jnp.all(jnp.stack(list(finite.values())))
            state = jax.tree.map(lambda new, old: jnp.where(good, new, old), state, carry.state)
            return Chunk(state, carry.step + good, metrics, finite)

        def go_on(carry: Chunk):
            return (carry.step < last) & jnp.all(jnp.stack(list(carry.finite.values())))

        shapes = jax.eval_shape(one, state, first, keys, source)[1]
        metrics = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        finite = jax.tree.map(lambda _: jnp.array(True), finite_of(state, metrics))
        return jax.lax.while_loop(go_on, body, Chunk(state, first, metrics, finite))

    everywhere, step = replicated(mesh), np.int32(0)
    of_source = jax.tree.map(lambda leaf: leaf.sharding, supply.abstract)
    return (
        jax.jit(chunk, donate_argnums=0, in_shardings=(*[everywhere] * 4, of_source), out_shardings=everywhere)
        .lower(supply.state, step, step, keys, supply.abstract)
        .compile()
    )
