"""Rules over gradients: GradMatch and GLISTER."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxdd._arrays import num_rows
from jaxdd.errors import JaxddError
from jaxdd.selection.choose import _metric
from jaxdd.selection.choose._points import factor, length, number, points
from jaxdd.selection.last_layer import LastLayer
from jaxdd.types import Array


def grad_match(
    gradients: ArrayLike, k: int, *, ridge: float = 1.0, mask: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Points and weights whose weighted sum of gradients is nearest to the sum of all (GradMatch).

    Orthogonal matching pursuit of `min_w |Σ_S w_i g_i - Σ g|² + λ |w|²` with weights of at least 0 (Killamsetty et al.
    2021, arXiv 2103.00123, algorithm 2): the next point is the one whose gradient has the largest product with what is
    missing, and then all weights are solved for again, exactly (Lawson & Hanson 1974). Of equal ones it is the lowest
    row.

        rows, weights = grad_match(gradients, 10)

    Args:
      gradients: `(n, d)`; computed in float32.
      k: how many, 1 to n.
      ridge: λ, from 1e-15 to 1e15.
      mask: bool `(n,)`, the points that count; None for all.

    Returns:
      int32 `(k,)` in order of choice, and float32 `(k,)`, at least 0.

    Raises:
      JaxddError: if k is not between 1 and the number of points that count, gradients are not finite `(n, d)`, or for
        another ridge.
    """
    ridge = factor(ridge, "ridge")
    values, counted = points(gradients, mask, what="gradients")
    k = number(k, counted)
    rows, weights = _grad_match(values, counted, k, ridge, length=length(k, len(values)))
    return rows[:k], weights[:k]


@functools.partial(jax.jit, static_argnames="length")
def _grad_match(values: Array, mask: Array, k: Array, ridge: Array, *, length: int) -> tuple[Array, Array]:
    target = jnp.sum(values, axis=0)  # those that do not count are zeros

    def choose(t, carry):
        rows, weights, free, chosen, products = carry
        missing = target - _metric.product(weights, chosen)
        row = jnp.argmax(jnp.where(free, _metric.product(values, missing), -jnp.inf)).astype(jnp.int32)
        rows, free, chosen = rows.at[t].set(row), free.at[row].set(False), chosen.at[t].set(values[row])
        column = _metric.product(chosen, values[row])
        products = products.at[t].set(column).at[:, t].set(column)
        there = jnp.arange(length) <= t
        system = jnp.where(there[:, None] & there[None], products, 0) + ridge * jnp.eye(length)
        weights = non_negative(system, _metric.product(chosen, target), there, weights)
        return rows, weights, free, chosen, products

    start = (
        jnp.zeros(length, jnp.int32),
        jnp.zeros(length),
        mask,
        jnp.zeros((length, values.shape[1])),
        jnp.zeros((length, length)),
    )
    return lax.fori_loop(0, k, choose, start)[:2]


def non_negative(system: Array, right: Array, there: Array, start: Array) -> Array:
    """The least `w'Aw/2 - b'w` with every w at least 0 (Lawson & Hanson 1974, chapter 23), from a w that is near.

    Args:
      system: A, symmetric positive definite `(m, m)`.
      right: b, `(m,)`.
      there: bool `(m,)`, the weights that are asked for; the others stay zero.
      start: weights `(m,)`, at least 0, zero but where `there`; those above zero solve their own equations, or are
        near to it.
    """
    m = len(right)
    tolerance = 1e-6 * jnp.max(jnp.abs(right))

    def solved(active: Array) -> Array:
        both = active[:, None] & active[None]
        matrix = jnp.where(both, system, 0) + jnp.diag((~active).astype(system.dtype))
        factor = jax.scipy.linalg.cho_factor(matrix, lower=True)
        return jnp.where(active, jax.scipy.linalg.cho_solve(factor, jnp.where(active, right, 0)), 0)

    def rising(weights: Array, active: Array) -> Array:
        """How much the objective falls with each weight that is zero."""
        return jnp.where(there & ~active, right - _metric.product(system, weights), -jnp.inf)

    def unfinished(carry: tuple[Array, Array, Array]) -> Array:
        weights, active, steps = carry
        return (steps < 3 * m) & (jnp.max(rising(weights, active)) > tolerance)

    def one_more(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        weights, active, steps = carry
        active = active.at[jnp.argmax(rising(weights, active))].set(True)

        def below(inner: tuple[Array, Array, Array]) -> Array:
            return jnp.any(inner[1] & (inner[2] <= 0))

        def back(inner: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            """As far towards the solution as no weight falls below zero; those that reach it are out."""
            weights, active, goal = inner
            falling = active & (goal <= 0)
            share = jnp.where(falling, weights / jnp.where(falling, weights - goal, 1), jnp.inf)
            weights = weights + jnp.min(share) * (goal - weights)
            active &= ~(falling & (share <= jnp.min(share)))
            weights = jnp.where(active, weights, 0)
            return weights, active, solved(active)

        _, active, goal = lax.while_loop(below, back, (weights, active, solved(active)))
        return goal, active, steps + 1

    weights, _, _ = lax.while_loop(unfinished, one_more, (start, start > 0, jnp.int32(0)))
    return weights


def glister(
    points: LastLayer, k: int, *, validation: LastLayer, step: float = 0.01, mask: ArrayLike | None = None
) -> Array:
    """Greedily the points whose gradient step lowers the loss on validation data the most (GLISTER).

    Killamsetty et al. 2021 (arXiv 2012.10630), in the last layer alone: the next point is the one with the largest
    `<∇L_val(θ_S), g_i>`, where `θ_S = θ - η Σ_{j in S} g_j` is the last layer after a step on those chosen before, the
    sum of their gradients as in the paper and its authors' code (DeepCore takes their mean). The gradient of the
    validation loss is taken there anew after every choice; the points' own are those at θ. Whether that loss is a sum,
    as in the paper, or a mean over validation data changes no choice. Of equal ones it is the lowest row.

        train = LastLayer.of(features, logits, labels)
        rows = glister(train, 100, validation=LastLayer.of(features_val, logits_val, labels_val))

    Args:
      points: features `(n, d)`, logits `(n, classes)` and targets of the points, all float32.
      k: how many, 1 to n.
      validation: the same of validation data, `(m, ..)`.
      step: η, from 1e-15 to 1e15; the authors take the learning rate of training, 0.01.
      mask: bool `(n,)`, the points that count; None for all.

    Returns:
      int32 `(k,)` in order of choice.

    Raises:
      JaxddError: if k is not between 1 and the number of points that count, something is not finite, for another
        step, or if validation data have other features or classes.
    """
    step = factor(step, "step")
    points, counted = _checked(points, mask, "")
    validation, _ = _checked(validation, None, "validation ")
    shapes = [(part.features.shape[1], part.logits.shape[1]) for part in (points, validation)]
    if shapes[0] != shapes[1]:
        raise JaxddError(f"validation data have other features and classes, {shapes[1]}, than the points, {shapes[0]}.")
    k = number(k, counted)
    return _glister(points, validation, counted, k, step, length=length(k, len(points.features)))[:k]


def _checked(part: LastLayer, mask: ArrayLike | None, whose: str) -> tuple[LastLayer, Array]:
    if not isinstance(part, LastLayer):
        raise JaxddError(f"{whose or 'the '}points must be a LastLayer, got {type(part).__name__}.")
    if num_rows(part, f"{whose}points") and part.targets.shape != part.logits.shape:
        raise JaxddError(f"{whose}points have logits {part.logits.shape} and targets {part.targets.shape}.")
    fields = {}
    for name, values in part._asdict().items():
        fields[name], counted = points(values, mask, what=f"{whose}{name}")
    return LastLayer(**fields), counted


@functools.partial(jax.jit, static_argnames="length")
def _glister(part: LastLayer, validation: LastLayer, mask: Array, k: Array, step: Array, *, length: int) -> Array:
    errors, features = part.errors, part.features
    d = features.shape[1]

    def choose(t, carry):
        rows, free, weights, biases = carry  # the sums of the gradients of those chosen
        moved = _metric.product(validation.features, weights) + biases[None]
        slope = validation._replace(logits=validation.logits - step * moved).errors / len(validation.logits)
        of_weights, of_biases = _metric.product(validation.features.T, slope), jnp.sum(slope, axis=0)
        gains = jnp.sum(errors * (_metric.product(features, of_weights) + of_biases[None]), axis=1)
        row = jnp.argmax(jnp.where(free, gains, -jnp.inf)).astype(jnp.int32)
        weights = weights + features[row][:, None] * errors[row][None]
        return rows.at[t].set(row), free.at[row].set(False), weights, biases + errors[row]

    classes = errors.shape[1]
    start = (jnp.zeros(length, jnp.int32), mask, jnp.zeros((d, classes)), jnp.zeros(classes))
    return lax.fori_loop(0, k, choose, start)[0]
