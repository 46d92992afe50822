"""What the parts of a run leave, and what is made of it."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd._jax import key_of
from jaxdd.engine.checkpoints import held_execution
from jaxdd.engine.chunk import Program
from jaxdd.engine.execute import Executed
from jaxdd.engine.parts import Groups, first_state
from jaxdd.engine.placement import make_mesh
from jaxdd.engine.processes import on_first
from jaxdd.engine.rows import Rows
from jaxdd.types import Execution, Method, Parts, PyTree, RealData, Recipe, bound

_SIDE_BY_SIDE = "parts_side_by_side"


def groups_of(
    parts: Parts,
    steps: int,
    devices: Sequence[Any] | None,
    directory: pathlib.Path | None = None,
    side_by_side: int | None = 1,
) -> Groups | None:
    """How the parts of a run follow each other; None of a run that is whole.

    As many are side by side as there are devices, or as were when the run in this directory began.

    Args:
      side_by_side: of them on each device; None for all.
    """
    if parts.count == 1 and parts.join is None:
        return None
    size = 1
    if parts.count > 1:
        mesh = make_mesh(devices).size
        of_device = -(-parts.count // mesh)
        size = mesh * (of_device if side_by_side is None else min(side_by_side, of_device))
    if directory is not None:
        size = on_first(lambda: held_execution(directory).get(_SIDE_BY_SIDE, size))
    return Groups(parts.count, size, steps, side_by_side if parts.count > 1 else 1)


def execution_of(groups: Groups | None, execution: Execution) -> dict[str, Any]:
    """What a run's directory has to remember of how it is carried out."""
    return {**vars(execution), **({} if groups is None else {_SIDE_BY_SIDE: groups.size})}


def products(program: Program, parts: Parts, folder: pathlib.Path | None) -> Rows | None:
    """Where the products of the parts go until they are joined, if they are."""
    if parts.join is None or program.groups is None:
        return None
    return Rows(
        folder,
        program.method.product,
        jax.eval_shape(program.method.product, first_part(program.feed.state)),
        program.groups,
        stacked=True,
        every=program.groups.steps,
        mesh=program.mesh,
    )


def product_of(program: Program, parts: Parts, done: Executed, kept: Rows | None, data: RealData) -> Any:
    """What a run leaves, from its last state or from what its parts left."""
    if kept is not None and parts.join is not None:
        return parts.join(jax.tree.map(jnp.asarray, kept.all()), data.assets)
    if program.groups is None:
        return jax.jit(program.method.product)(done.state)
    last = (program.groups.count - 1) % program.groups.size
    return jax.jit(lambda state: program.method.product(jax.tree.map(lambda leaf: leaf[last], state)))(done.state)


def first_part(state: PyTree) -> PyTree:
    """By shapes: the state of a part, from those of a group."""
    return jax.eval_shape(lambda state: jax.tree.map(lambda leaf: leaf[0], state), state)


def product_shape(method: Method | Recipe, data: RealData, parts: Parts) -> Any:
    """By shapes: what a run leaves."""
    ready = bound(method, data)

    def product(key: Any) -> Any:
        of_part = ready.product(first_state(ready, data, key))
        if parts.join is None:
            return of_part
        stacked = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (parts.count, *leaf.shape)), of_part)
        return parts.join(stacked, data.assets)

    return jax.eval_shape(product, key_of(0))


def state_shape(method: Method | Recipe, data: RealData) -> PyTree:
    """By shapes: the state of a part."""
    return jax.eval_shape(lambda key: first_state(method, data, key), key_of(0))
