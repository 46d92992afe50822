"""Experts: networks trained on the real data, and what they are at each epoch, rows of a stage."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd._numbers import rising, whole
from jaxdd.data import epoch_steps
from jaxdd.errors import JaxddError, unknown
from jaxdd.types import (
    Array,
    Batch,
    Indices,
    Key,
    Method,
    Metrics,
    NetworkState,
    PyTree,
    RealData,
    Recipe,
    Record,
    Spec,
    Stage,
)

STORES = ("float32", "int16", "int8")


class Compact(NamedTuple):
    """A network as whole numbers: how far its parameters are from the first ones."""

    steps: PyTree
    """int8 or int16, of their shapes: differences in units of the scales."""
    scales: PyTree
    """float32, of each output channel, the last axis, and one of a vector; of as many axes as `steps`."""
    stats: PyTree
    """As they are."""


@dataclasses.dataclass(frozen=True)
class Trajectories:
    """Which epochs of which networks are the rows of a table, and in what form.

        where = Trajectories("experts", count=10, epochs=20, kept=(0, 1, 2, 20), store="int8")
        networks = where.read(batch.tables["experts"], batch.rows["experts"], batch.assets)

    Attributes:
      name: of the table, and of the stage that fills it.
      count: networks.
      epochs: that each is trained for.
      kept: those after which there is a row, rising, 0 for the initialisation; all of them by default.
      store: "float32", what networks are; "int16" or "int8", `compact`: half and a quarter of that, with the first
        networks beside it.

    Raises:
      JaxddError: for another store, and for epochs that are none of the training's.
    """

    name: str
    count: int
    epochs: int
    kept: tuple[int, ...] | None = None
    store: str = "float32"

    def __post_init__(self):
        for name in ("count", "epochs"):
            object.__setattr__(self, name, whole(getattr(self, name), name))
        if self.store not in STORES:
            raise unknown("form of experts' rows", self.store, STORES)
        if self.kept is not None:
            object.__setattr__(self, "kept", rising(self.kept, "the epochs that are kept"))
            if self.in_rows[-1] > self.epochs:
                raise JaxddError(f"the epochs that are kept go up to {self.epochs}, got {self.in_rows[-1]}.")

    @property
    def in_rows(self) -> tuple[int, ...]:
        """The epochs of a network's rows, rising."""
        return tuple(range(self.epochs + 1)) if self.kept is None else self.kept

    def rows(self, expert: Any, epoch: Any) -> Indices:
        """Numbers of rows, of arrays that broadcast; an epoch that is not kept counts as the next that is."""
        places = np.minimum(np.searchsorted(self.in_rows, np.arange(self.epochs + 1)), len(self.in_rows) - 1)
        return jnp.asarray(expert) * len(self.in_rows) + jnp.asarray(places)[jnp.asarray(epoch)]

    def of(self, rows: Indices) -> tuple[Indices, Indices]:
        """The experts and the epochs of rows."""
        return rows // len(self.in_rows), jnp.asarray(self.in_rows)[rows % len(self.in_rows)]

    def read(self, table: PyTree, rows: Indices, assets: Mapping[str, PyTree]) -> NetworkState:
        """Networks `(.., ..)` from rows that were taken out of the table, and their numbers `(..,)`."""
        if self.store == "float32":
            return table
        first = jax.tree.map(lambda leaf: jnp.asarray(leaf)[self.of(rows)[0]], assets[self.name])
        moved = jax.tree.map(lambda start, steps, unit: start + steps * unit, first, table.steps, table.scales)
        return NetworkState(moved, table.stats)


def experts(
    where: Trajectories,
    recipe: Recipe,
    spec: Spec,
    *,
    batch_size: int,
    config: Mapping[str, Any],
    network: Callable[[Any], NetworkState] = lambda state: state.network,
) -> Stage:
    """A stage that trains networks and keeps them at each epoch: what trajectory matching walks along.

    Rows are `NetworkState`s: of each network the initialisation, and one after every epoch (Cazenavette et al. 2022,
    arXiv:2203.11932), or those that `where` keeps.

        recipe = training.supervised("convnet", optax.sgd(0.01), batch_size=256, augment="dsa")
        where = training.Trajectories("experts", count=10, epochs=20)
        stage = training.experts(where, recipe, Spec.of(real), batch_size=256, config={..})

    Args:
      where: how many networks, for how many epochs, and what is kept. Each has an initialisation and an order of its
        own.
      recipe: of the training of one, in batches of an epoch.
      spec: of the real data.
      batch_size: a last batch of an epoch that is not whole is left out.
      config: everything that they depend on beside data and seed, see `Stage`.
      network: of the recipe's state.
    """
    batches = epoch_steps(spec.length(), batch_size)
    plain, of = where.store == "float32", network
    if not plain:
        recipe, config = _with_its_first(recipe, network), {**config, "store": where.store}
        of = functools.partial(_compact, network, where.store)
    return Stage(
        where.name,
        recipe,
        steps=where.epochs * batches,
        parts=where.count,
        config=config,
        record=Record(batches, of, kept=where.kept),
        join=None if plain else lambda products, assets: products,
    )


def compact(network: NetworkState, first: PyTree, store: str) -> Compact:
    """A network by its distance from `first`, parameters of its shapes.

    Differences are rounded to the nearest of 127 steps ("int8"), or 32,767 ("int16"), on either side of zero, of the
    largest of an output channel: so none is wrong by more than half of such a step. docs/trajectories.md says what
    that is of the way between two epochs.

    Raises:
      JaxddError: for another store than these two.
    """
    if store not in STORES[1:]:
        raise unknown("compact form", store, STORES[1:])
    kind = np.dtype(store)

    def scale(leaf: Array, start: Array) -> Array:
        axes = tuple(range(leaf.ndim - 1)) if leaf.ndim > 1 else None
        return jnp.max(jnp.abs(leaf - start), axis=axes, keepdims=True) / np.iinfo(kind).max

    def steps(leaf: Array, start: Array, unit: Array) -> Array:
        return jnp.round((leaf - start) / jnp.where(unit > 0, unit, 1)).astype(kind)

    scales = jax.tree.map(scale, network.theta, first)
    return Compact(jax.tree.map(steps, network.theta, first, scales), scales, network.stats)


class _Begun(NamedTuple):
    """The state of a training, and the parameters that it began with."""

    state: Any
    first: PyTree


def _compact(network: Callable[[Any], NetworkState], store: str, state: _Begun) -> Compact:
    return compact(network(state.state), state.first, store)


def _with_its_first(recipe: Recipe, network: Callable[[Any], NetworkState]) -> Recipe:
    """A training whose product is what it began with."""

    def bind(spec: Spec) -> Method:
        method = recipe.bind(spec)

        def init(key: Key, data: RealData) -> _Begun:
            state = method.init(key, data)
            return _Begun(state, network(state).theta)

        def update(key: Key, state: _Begun, batch: Batch, *, axis_name: str | None = None) -> tuple[_Begun, Metrics]:
            after, metrics = method.update(key, state.state, batch, axis_name=axis_name)
            return _Begun(after, state.first), metrics

        return Method(init, method.sample, update, lambda state: state.first)

    return dataclasses.replace(recipe, bind=bind)
