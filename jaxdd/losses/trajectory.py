"""How near a student's training comes to an expert's."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp


def trajectory_matching(student: Any, start: Any, goal: Any, *, kept: Any = None) -> jax.Array:
    """`|student - goal|² / |start - goal|²` over all parameters (Cazenavette et al. 2022, arXiv:2203.11932, eq. 1).

    1 where the student has come nowhere, 0 at the goal. Where the expert has not moved at all it is the squared
    distance itself.

    Args:
      student, start, goal: parameters of one network: pytrees of equal structure and shapes.
      kept: bool, of their structure and shapes: the entries that count, above and below the line, such as
        `largest_differences` gives; all by default.

    Returns:
      A scalar.

    Raises:
      ValueError: for pytrees that do not fit each other.

    Example:
      >>> trajectory_matching({"w": jnp.ones(2)}, {"w": jnp.zeros(2)}, {"w": jnp.full(2, 2.0)})
      Array(0.25, dtype=float32)
    """
    _check(student, start, goal, *(() if kept is None else (kept,)))
    return _share(_sum(_squared(student, goal, kept)), _sum(_squared(start, goal, kept)))


def trajectory_matching_by_layer(student: Any, start: Any, goal: Any) -> jax.Array:
    """The mean over the leaves of what `trajectory_matching` is of each, so that small ones count as much as large.

    Args and errors are those of `trajectory_matching`. It is a definition of this library: the published methods of the
    family divide the distance of all parameters by one number.

    Returns:
      A scalar.
    """
    _check(student, start, goal)
    pairs = zip(_squared(student, goal), _squared(start, goal), strict=True)
    return jnp.stack([_share(left, moved) for left, moved in pairs]).mean()


def intermediate_trajectory_matching(students: Any, start: Any, goals: Any, weights: jax.Array) -> jax.Array:
    """`trajectory_matching` at several places of the way, and the weighted sum of these (AST).

    Shen, Yang & Lan 2023 (arXiv:2310.10541): a student is also measured at places between, each by the distance from
    the expert's start to the expert there.

    Args:
      students: parameters with a leading axis of K places, `(K, ..)`.
      start: the expert's where the student started, without that axis.
      goals: the expert's at these places, `(K, ..)`.
      weights: `(K,)`.

    Returns:
      A scalar.

    Raises:
      ValueError: for pytrees that do not fit each other, or another number of weights.
    """
    _check(students, goals)
    weights = jnp.asarray(weights)
    if {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(students)} != {weights.shape}:
        raise ValueError(f"students and goals must have a leading axis of {weights.shape} places, one for each weight")
    each = jax.vmap(trajectory_matching, in_axes=(0, None, 0))(students, start, goals)
    return jnp.sum(weights * each)


def largest_differences(student: Any, goal: Any, drop: float) -> Any:
    """Which entries are left when the smallest differences between two networks are left out (PAD).

    Li et al. 2024 (arXiv:2408.03360, section 3.2): the single parameters whose squared difference is among the smallest
    `floor(drop * P)` of all P are left out, of equal ones the first.

    Args:
      student, goal: parameters of one network.
      drop: the share in [0, 1) that is left out; static.

    Returns:
      bool, of their structure and shapes; a constant to the gradient.

    Raises:
      ValueError: for pytrees that do not fit each other, or a share that is none.
    """
    _check(student, goal)
    if not 0 <= drop < 1:
        raise ValueError(f"the share of parameters that is left out must be in [0, 1), got {drop}")
    leaves, structure = jax.tree.flatten(jax.tree.map(lambda a, b: jnp.square(a - b), student, goal))
    sizes = [leaf.size for leaf in leaves]
    differences = jax.lax.stop_gradient(jnp.concatenate([leaf.ravel() for leaf in leaves]))
    order = jnp.argsort(differences, stable=True)
    kept = jnp.ones(sum(sizes), bool).at[order[: math.floor(drop * sum(sizes))]].set(False)
    ends = [sum(sizes[:k]) for k in range(len(sizes) + 1)]
    parts = [kept[a:b].reshape(leaf.shape) for a, b, leaf in zip(ends, ends[1:], leaves, strict=False)]
    return jax.tree.unflatten(structure, parts)


def nearest_step(students: Any, goal: Any) -> jax.Array:
    """The step of a student's way at which it is nearest to a goal, by the sum of absolute differences (ATT).

    Liu et al. 2024 (arXiv:2407.14245, section 3.2): where the distance is taken is the best of all steps, of equal ones
    the last.

    Args:
      students: parameters with a leading axis of N steps, `(N, ..)`.
      goal: parameters of one network.

    Returns:
      int32, from 0 to N - 1; a constant to the gradient.
    """
    pairs = zip(jax.tree.leaves(students), jax.tree.leaves(goal), strict=True)
    each = [jnp.abs(a - b[None]).reshape(len(a), -1).sum(1) for a, b in pairs]
    backwards = jnp.sum(jnp.stack(each), axis=0)[::-1]
    return jnp.int32(len(backwards) - 1 - jnp.argmin(backwards))


def _check(*trees: Any) -> None:
    if len({jax.tree.structure(tree) for tree in trees}) > 1 or len(set(map(_shapes, trees))) > 1:
        raise ValueError("student, start and goal must be parameters of one network")


def _shapes(tree: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(jnp.shape(leaf) for leaf in jax.tree.leaves(tree))


def _squared(a: Any, b: Any, kept: Any = None) -> list[jax.Array]:
    """The squared distance of each leaf."""
    apart = [jnp.square(x - y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]
    if kept is not None:
        apart = [jnp.where(counts, each, 0) for counts, each in zip(jax.tree.leaves(kept), apart, strict=True)]
    return [jnp.sum(each) for each in apart]


def _sum(parts: list[jax.Array]) -> jax.Array:
    return sum(parts, jnp.zeros(()))


def _share(left: jax.Array, moved: jax.Array) -> jax.Array:
    return left / jnp.where(moved > 0, moved, 1.0)
