"""The compiled inner part of a run: some steps of a method in one program."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxdd._jax import key_of
from jaxdd.engine.contract import check_update
from jaxdd.engine.feed import Feed, feed
from jaxdd.engine.parts import Compiled, Groups, alone, in_groups, takes_part
from jaxdd.engine.placement import make_mesh, replicated, split_rows
from jaxdd.engine.processes import place
from jaxdd.inner.networks import share_networks
from jaxdd.models import matmul_precision
from jaxdd.types import (
    AT_ONCE,
    AUTO,
    EXAMPLES,
    Array,
    Batch,
    Execution,
    HostArray,
    Key,
    Method,
    Metrics,
    PyTree,
    RealData,
    Recipe,
    Spec,
    Stage,
    State,
    bound,
)

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


class Interpreted(NamedTuple):
    """A chunk that is not compiled, where `JAX_DISABLE_JIT` asks for that: slow, and every value can be looked at."""

    chunk: Callable[..., Chunk]

    def __call__(self, *args: Any) -> Chunk:
        return self.chunk(*args)

    def memory_analysis(self) -> None:
        return None

    def as_text(self) -> str:
        return ""


class Program(NamedTuple):
    """A run before its first step."""

    method: Method
    """As it is bound to the data."""
    mesh: Mesh
    keys: Keys
    feed: Feed
    chunk: jax.stages.Compiled | Interpreted
    """`chunk(state, first, last, keys, source) -> Chunk`, any number of steps; it donates the state. The source is what
    the feed gives for the first of them, and must serve the last."""
    groups: Groups | None
    """Of its parts, whose states are stacked; None of a run that is whole."""
    inner: Compiled
    """What a step is, not yet compiled."""
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

        def init_part(key: Key, data: RealData, part: Array) -> State:
            return inside.init(key, data.with_images(decode(data.images)), part)

        def update(key: Key, state: State, batch: Batch, **options: Any) -> tuple[State, Metrics]:
            return inside.update(key, state, batch.map_images(decode), **options)

        return inside._replace(init=init_part if takes_part(inside) else init, update=update)

    def stages(spec: Spec) -> tuple[Stage, ...]:
        if isinstance(method, Method):
            return ()
        return tuple(
            dataclasses.replace(stage, recipe=decoding(stage.recipe, decode))
            for stage in method.stages(_decoded(spec, decode))
        )

    known = isinstance(method, Recipe) and method.identity is not None
    rest: dict[str, Any] = {}
    if isinstance(method, Recipe):
        rest = {
            "parts": lambda spec: method.parts(_decoded(spec, decode)),
            "lean": method.lean,
            "most": lambda spec: method.most(_decoded(spec, decode)),
            "asked": method.asked,
        }
    return Recipe(bind, identity=(method, decode) if known else None, stages=stages, **rest)


def _decoded(spec: Spec, decode: Callable[[Array], Array]) -> Spec:
    """What the data are once they are decoded."""
    examples = spec.tables[EXAMPLES]
    images = jax.eval_shape(decode, examples.images)
    return dataclasses.replace(spec, tables={**spec.tables, EXAMPLES: examples._replace(images=images)})


def compile_program(
    method: Method | Recipe,
    data: RealData,
    *,
    seed: int,
    execution: Execution = AT_ONCE,
    devices: Sequence[Any] | None,
    groups: Groups | None = None,
) -> Program:
    """Everything that a run needs; arguments as those of `run`. Nothing is written.

    What an equal method compiled for equal data, with other seeds or numbers, serves again: see `types.Recipe`.

    Args:
      execution: without "auto".
      groups: of its parts, if it has any. They are what is side by side then, and a part is carried out lean in that.
    """
    in_part = execution if groups is None or groups.count == 1 else dataclasses.replace(execution, side_by_side=AUTO)
    precision = execution.precision
    mesh, spec = make_mesh(devices), dataclasses.replace(Spec.of(data), execution=in_part)
    keys = Keys(*jax.random.split(key_of(seed), 3))
    name = (method, spec, precision, groups, *_flags())
    reusable = _hashable(name) and not any(isinstance(leaf, HostArray) for leaf in jax.tree.leaves(data.tables))
    known = _COMPILED.get(mesh, {}).get(name) if reusable else None
    if known is None:
        ready = bound(method, spec)
        inner = alone(ready) if groups is None else in_groups(ready, groups)
    else:
        ready, inner, _ = known
    supply, keys = feed(inner, data, mesh, keys.sample), place(keys, replicated(mesh))
    began = time.perf_counter()
    if known is None:
        with matmul_precision(precision):
            known = ready, inner, _compile_chunk(inner, mesh, keys, supply, stacked=groups is not None)
    if reusable:
        _remember(mesh, name, known)
    return Program(ready, mesh, keys, supply, known[2], groups, inner, time.perf_counter() - began)


def _flags() -> tuple[Any, ...]:
    """JAX's settings that a program depends on."""
    names = (
        "enable_x64",
        "default_matmul_precision",
        "default_prng_impl",
        "threefry_partitionable",
        "numpy_dtype_promotion",
        "numpy_rank_promotion",
        "debug_nans",
        "debug_infs",
        "disable_jit",
    )
    return tuple(getattr(jax.config, f"jax_{name}") for name in names)


def _hashable(name: Any) -> bool:
    try:
        hash(name)
    except TypeError:  # hyper-parameters of somebody's own may be anything
        return False
    return True


# Of a mesh, so that runs side by side, each on a device of its own, do not drop each other's; the newest last. A loop
# over seeds needs one; their number bounds the memory that programs keep.
_COMPILED: dict[Mesh, dict[Any, tuple[Method, Compiled, jax.stages.Compiled | Interpreted]]] = {}
_COMPILED_AT_MOST = 4
_COMPILED_LOCK = threading.Lock()


def _remember(mesh: Mesh, name: Any, known: Any) -> None:
    with _COMPILED_LOCK:
        kept = _COMPILED.setdefault(mesh, {})
        kept.pop(name, None)
        kept[name] = known
        while len(kept) > _COMPILED_AT_MOST:
            del kept[next(iter(kept))]


def _compile_chunk(
    compiled: Compiled, mesh: Mesh, keys: Keys, supply: Feed, *, stacked: bool
) -> jax.stages.Compiled | Interpreted:
    """The number of steps is a dynamic bound, so that a run cut anywhere executes the very program of one that is not.

    A step that makes anything non-finite is not taken: the loop ends with the state before it.

    Args:
      stacked: whether the state is that of several parts, which devices share within a chunk.
    """
    looked_into = getattr(jax.config, "jax_disable_jit")  # noqa: B009  (no checker knows it)
    update = compiled.update if looked_into else share_networks(compiled.update, mesh)

    def one(state: State, step: Array, keys: Keys, source: PyTree) -> tuple[State, Metrics]:
        state = split_rows(state, mesh) if stacked else state
        batch = supply.batch(source, step, keys.sample)
        return update(keys.update, step, state, batch)

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

        made = jax.eval_shape(one, state, first, keys, source)
        check_update(state, made)
        metrics = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), made[1])
        finite = jax.tree.map(lambda _: jnp.array(True), finite_of(state, metrics))
        return jax.lax.while_loop(go_on, body, Chunk(state, first, metrics, finite))

    if looked_into:
        return Interpreted(chunk)
    everywhere, step = replicated(mesh), np.int32(0)
    of_source = jax.tree.map(lambda leaf: leaf.sharding, supply.abstract)
    return (
        jax.jit(chunk, donate_argnums=0, in_shardings=(*[everywhere] * 4, of_source), out_shardings=everywhere)
        .lower(supply.state, step, step, keys, supply.abstract)
        .compile()
    )
