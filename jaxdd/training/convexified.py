"""Straight ways between a few points of a training: what MCT walks along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.errors import JaxddError
from jaxdd.training.experts import Trajectories
from jaxdd.types import Array, Batch, Indices, Key, Labels, Method, Metrics, PyTree, RealData, Recipe, Spec, Stage


def path_lengths(name: str, where: Trajectories, *, config: Mapping[str, Any]) -> Stage:
    """A stage that measures how far experts went: what `convexified` divides a way by.

    Its product is float32 `(experts, kept epochs, parameter tensors)`: the length of the way of each tensor, the sum
    of the distances between the epochs that are kept, from the first of them to each.

    Args:
      where: the rows of a stage before, see `experts`.
      config: what these depend on, see `Stage`.
    """
    kept = np.asarray(where.in_rows)

    def bind(spec: Spec) -> Method:
        def init(key: Key, data: RealData) -> Array:
            theta, *_ = data.tables[where.name]  # or what stands for it
            return jnp.zeros((where.count, len(kept), len(jax.tree.leaves(theta))))

        def sample(key: Key, labels: Labels, step: Array) -> dict[str, Indices]:
            return {where.name: where.rows(jnp.minimum(step, where.count - 1), kept)[None]}

        def update(key: Key, state: Array, batch: Batch, *, axis_name: str | None = None) -> tuple[Array, Metrics]:
            rows = batch.rows[where.name]
            found = where.read(batch.tables[where.name], rows, batch.assets).theta
            moved = [leaf[0, 1:] - leaf[0, :-1] for leaf in jax.tree.leaves(found)]
            norms = [jnp.linalg.norm(each.reshape(len(kept) - 1, -1), axis=1) for each in moved]
            lengths = jnp.cumsum(jnp.stack(norms, axis=1), axis=0)
            expert = where.of(rows[0, 0])[0]
            return state.at[expert, 1:].set(lengths), {"loss": lengths[-1].mean()}

        return Method(init, sample, update, lambda state: state)

    return Stage(name, Recipe(bind), steps=where.count, config=config)


def way_points(networks: PyTree, epochs: Sequence[int], points: Sequence[int]) -> PyTree:
    """The points of a way, leaves `(points, ..)`, from networks at some epochs, leaves `(epochs, ..)`.

    `1/2 θ_i + 1/4 (θ_{i-1} + θ_{i+1})` where both neighbours are among the epochs, else the network itself.

    Args:
      epochs, points: static.

    Raises:
      JaxddError: for a point that is not among the epochs.
    """
    weights = np.zeros((len(points), len(epochs)), np.float32)
    for row, point in zip(weights, points, strict=True):
        if point not in epochs:
            raise JaxddError(f"epoch {point} is a point of the way, but there are networks at {tuple(epochs)} alone.")
        around = [epochs.index(each) for each in (point - 1, point + 1) if each in epochs]
        row[epochs.index(point)] = 0.5 if len(around) == 2 else 1.0
        if len(around) == 2:
            row[around] = 0.25
    return jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, 1, precision="highest"), networks)


def convexified(points: PyTree, at: Sequence[int], lengths: Array, epochs: Sequence[int], time: Array) -> PyTree:
    """Where a network is on straight ways between a few points of its training, at any time between epochs (MCT).

    Each parameter tensor goes from point to point as fast as in the training itself: at `time` it has gone the share of
    the way that it had gone there by its path length, linear within an epoch. Two points make the straight line of
    Zhong et al. 2024 (arXiv:2406.19827).

    Args:
      points: parameters at the points, leaves `(points, ..)`, see `way_points`.
      at: epochs of the points, rising; static.
      lengths: `(epochs, tensors)`, of `path_lengths`, of this network.
      epochs: those of the lengths, rising; static.
      time: in epochs, a scalar from the first point to the last.
    """
    ends, known = jnp.asarray(at, jnp.float32), jnp.asarray(epochs, jnp.float32)
    first = jnp.clip(jnp.searchsorted(ends, time, side="right") - 1, 0, len(at) - 2)

    def gone(when: Array) -> Array:
        return jax.vmap(lambda of_tensor: jnp.interp(when, known, of_tensor), in_axes=1)(lengths)

    low, high = gone(ends[first]), gone(ends[first + 1])
    share = (gone(jnp.asarray(time, jnp.float32)) - low) / jnp.where(high > low, high - low, 1)
    leaves, structure = jax.tree.flatten(points)
    moved = [leaf[first] + part * (leaf[first + 1] - leaf[first]) for leaf, part in zip(leaves, share, strict=True)]
    return jax.tree.unflatten(structure, moved)
