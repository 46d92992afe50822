"""Where arrays lie: the one module that knows about devices.

`update` is free of collectives. What is learned is replicated; the batch of real examples is split over the devices,
and XLA inserts the one sum that this needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdd.types import PyTree

AXIS = "data"


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A one-axis mesh over `devices`, by default all of them."""
    devices = list(jax.devices() if devices is None else devices)
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def split_along(mesh: Mesh, size: int, axis: int = 0) -> NamedSharding:
    """An axis of so many entries over the devices if they divide evenly, else all of it on each.

    What does not divide is computed whole by every device: slower, never wrong.
    """
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS)) if size % mesh.size == 0 else replicated(mesh)


def split_rows(tree: PyTree, mesh: Mesh) -> PyTree:
    """Arrays of some rows, or the rows' numbers, split over the devices, so that each gathers and keeps its own."""
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, split_along(mesh, len(leaf))), tree)
