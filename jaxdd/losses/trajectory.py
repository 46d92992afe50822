"""How near a student's training comes to an expert's."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def trajectory_matching(student: Any, start: Any, goal: Any) -> jax.Array:
    """`|student - goal|² / |start - goal|²` over all parameters (Cazenavette et al. 2022, arXiv:2203.11932, eq. 1).

    1 where the student has come nowhere, 0 at the goal. Where the expert has not moved at all it is the squared
    distance itself.

    Args:
      student, start, goal: parameters of one network: pytrees of equal structure and shapes.

    Returns:
      A scalar.

    Raises:
      ValueError: for pytrees that do not fit each other.

    Example:
      >>> trajectory_matching({"w": jnp.ones(2)}, {"w": jnp.zeros(2)}, {"w": jnp.full(2, 2.0)})
      Array(0.25, dtype=float32)
    """
    structures = {jax.tree.structure(tree) for tree in (student, start, goal)}
    shapes = {tuple(jnp.shape(leaf) for leaf in jax.tree.leaves(tree)) for tree in (student, start, goal)}
    if len(structures) > 1 or len(shapes) > 1:
        raise ValueError("student, start and goal must be parameters of one network")

    def squared(a: Any, b: Any) -> jax.Array:
        pairs = zip(*map(jax.tree.leaves, (a, b)), strict=True)
        return sum((jnp.sum(jnp.square(x - y)) for x, y in pairs), jnp.zeros(()))

    moved = squared(start, goal)
    return squared(student, goal) / jnp.where(moved > 0, moved, 1.0)
