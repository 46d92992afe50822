"""Queries to a teacher who is wrong at times: a game against whoever decides where.

After Baykal, Trinh, Iliopoulos, Menghani & Vee 2023, "Robust Active Distillation" (arXiv 2210.01213). The closed form
is derived here, not taken from their text: how they do without the number of wrong answers is not in it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdd._numbers import whole
from jaxdd.errors import JaxddError
from jaxdd.selection.choose._points import number, points
from jaxdd.types import Array, Key


class Game(NamedTuple):
    """How both play who choose queries and wrong answers at their best."""

    marginals: np.ndarray
    """float64 `(n,)`: the probability of each point to be asked; their sum is the budget."""
    value: float
    """The gain that is expected of right answers, whichever are wrong."""


def robust_game(gains: ArrayLike, wrong: float, budget: int = 1) -> Game:
    """The max-min game between what is worth asking and what the teacher may have wrong.

    Asked are `budget` points, the i-th with probability `q_i`; an adversary, who knows these, makes the answers of
    `wrong` points worth nothing:

        max_q  min_{|S| = wrong}  Σ_{i not in S} q_i g_i     with 0 <= q_i <= 1, Σ q_i = budget

    With one point, `q_i = (1/g_i) / Σ_{j<=k} 1/g_j` for the k points of largest gain, where k maximises the value
    `(k - wrong) / Σ_{j<=k} 1/g_j`. With more points it is `min(1, c/g_i)` on the largest gains until the budget is used
    up. Of equally good ones the answer is the one that asks most different points: equal gains are asked alike. With
    nothing wrong it is the points of the largest gains.

        robust_game([4.0, 2.0, 1.0], wrong=1).marginals  # [1/3, 2/3, 0], of the value 4/3

    Args:
      gains: `(n,)`, at least 0: what each right answer is worth, as 1 minus a student's margin.
      wrong: how many answers are wrong, 0 to below n; an expected number need not be whole. Of a teacher with an error
        of 15 %, measured on labelled examples, 0.15 n.
      budget: how many points are asked, 1 to n.

    Raises:
      JaxddError: for other numbers, or gains that are negative or not finite.
    """
    gains = _gains(gains)
    n = len(gains)
    if isinstance(wrong, bool) or not isinstance(wrong, int | float | np.number) or not 0 <= wrong < n:
        raise JaxddError(f"wrong answers of {n} must be a number from 0 to below {n}, got {wrong!r}.")
    budget = whole(budget, "the budget of queries")
    if budget > n:
        raise JaxddError(f"the budget is {budget} queries, and there are only {n} points.")
    order = np.argsort(-gains, kind="stable")
    g = gains[order]
    there = g[g > 1e-12 * g[0]]  # what is worth next to nothing counts as nothing
    # For a level c each point is worth its gain until q_i g_i = c, the best ones first; the worst that the adversary
    # does is to take c of `wrong` points. In c this is concave and piecewise linear.
    inverses, sums = np.concatenate([[0.0], np.cumsum(1 / there)]), np.concatenate([[0.0], np.cumsum(there)])

    def value(c: np.ndarray) -> np.ndarray:
        level = np.searchsorted(-there, -c, side="right")  # so many reach c, the others are asked for sure
        whole_of = np.minimum(np.searchsorted(inverses, budget / c, side="right") - 1, level)
        left = np.maximum(budget - c * inverses[whole_of], 0)
        more = np.where(whole_of == level, np.minimum(np.floor(left + 1e-9), len(there) - level), 0).astype(int)
        at = np.minimum(whole_of + more, len(there) - 1)
        part = np.where(whole_of + more < len(there), np.clip(left - more, 0, np.minimum(1, c / there[at])), 0)
        return c * whole_of + sums[whole_of + more] - sums[whole_of] + part * there[at] - wrong * c

    if len(there) and budget < n:
        best = int(np.argmax(value(there)))
        reach = np.arange(1, len(there) + 1)  # so many reach a level; the optimum is where a point is whole
        near = reach[max(best - 1, 0) : best + 2]
        levels = [there, budget / inverses[reach], (budget - (n - reach)) / inverses[reach]]
        levels += [np.arange(1, budget) / inverses[j] for j in near]
        levels = np.concatenate(levels)
        levels = levels[levels > 0]
        values = value(levels)
        most = values.max()
        if most > 0:
            c = levels[values >= most * (1 - 1e-9)].min()
            q = np.zeros(n)
            q[: len(there)] = np.diff(np.minimum(np.cumsum(np.minimum(1, c / there)), budget), prepend=0.0)
            for some in (
                slice(len(there)),
                slice(n),
            ):  # what is left over does no harm, least where something is gained
                room = 1 - q[some]
                q[some] += room * min(1.0, (budget - q.sum()) / max(room.sum(), 1e-300))
            marginals = np.empty(n)
            marginals[order] = q
            return Game(marginals, float(most))
    # All are asked, or so many are wrong that nothing is worth anything: the adversary takes the largest gains.
    return Game(np.full(n, budget / n), _after(g * budget / n, wrong))


def robust(gains: ArrayLike, k: int, key: Key, *, wrong: float = 0.0, mask: ArrayLike | None = None) -> Array:
    """k different points, each with the probability that `robust_game` gives it: worth asking, and spread out.

        rows = robust(1 - scores.margin(logits), 100, key, wrong=0.15 * len(logits))

    They are drawn by systematic sampling of the points in an order by chance, so that the marginals are exact and there
    are always k (Madow 1949). On the host, in double precision.

    Args:
      gains: `(n,)`, at least 0.
      k: how many, 1 to n.
      key: for the draw.
      wrong: how many answers about the points that count are expected to be wrong; 0 to below their number.
      mask: bool `(n,)`, the points that may be asked; None for all.

    Returns:
      int32 `(k,)`, in the order of the draw.

    Raises:
      JaxddError: as `robust_game`, and if k is not between 1 and the number of points that count.
    """
    values, counted = points(gains, mask, ndim=1, what="gains")
    k = number(k, counted)
    there = np.flatnonzero(np.asarray(counted))
    marginals = robust_game(np.asarray(values)[there], wrong, k).marginals
    start, *priorities = np.asarray(jax.random.uniform(key, (len(values) + 1,)), np.float64)
    order = np.argsort(np.array(priorities)[there], kind="stable")
    ends = np.cumsum(marginals[order])
    # Where a step of length 1 ends; the last end is k but for rounding.
    drawn = np.searchsorted(ends * (k / ends[-1]), np.arange(k) + start, side="right")
    return jnp.asarray(there[order[drawn]], jnp.int32)


def _after(values: np.ndarray, wrong: float) -> float:
    """What is left of descending values without the first so many, of which the last may count in part."""
    lost = np.clip(wrong - np.arange(len(values)), 0, 1)
    return float(np.sum((1 - lost) * values))


def _gains(gains: ArrayLike) -> np.ndarray:
    array = np.asarray(gains)
    if array.ndim != 1 or not len(array) or not np.issubdtype(array.dtype, np.number):
        raise JaxddError(f"gains must be numbers of shape (n,), got {array.dtype} of shape {array.shape}.")
    array = array.astype(np.float64)
    if not np.all(np.isfinite(array) & (array >= 0)):
        raise JaxddError("gains must be finite and at least 0.")
    return array
