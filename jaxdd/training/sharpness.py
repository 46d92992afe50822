"""Gradients that lead to flat minima."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdd._numbers import positive
from jaxdd.errors import JaxddError
from jaxdd.training.step import Slope, plain
from jaxdd.types import Array, PyTree

_EPS = 1e-12  # of the authors' code


def sharpness_aware(radius: float = 0.01, surrogate: float = 0.3, *, adaptive: bool = True) -> Slope:
    """The gradient of a loss at the worst place nearby, less what of the one here leads elsewhere (GSAM).

    Zhuang et al. 2022 (arXiv:2203.08065, algorithm 1): with g the gradient here, `g'` the one at `θ + e`, it is
    `g' - α (g - cos(g, g') |g| g'/|g'|)`. What FTD trains its experts with (Du et al. 2023, arXiv:2211.11004); their
    perturbation is adaptive, `e = ρ θ² g / ‖|θ| g‖` (Kwon et al. 2021), the plain one is `ρ g / ‖g‖`. Two passes. The
    loss, the statistics and the metrics are those of the first.

        train_step(loss, optimizer, state, slope=training.sharpness_aware(0.01, 0.3))

    Args:
      radius: ρ.
      surrogate: α, at least 0; with 0 it is SAM (Foret et al. 2021).
      adaptive: see above.

    Raises:
      JaxddError: for a radius that is not positive, or a negative α.
    """
    positive(radius, "the radius of sharpness-aware training")
    if not surrogate >= 0:
        raise JaxddError(f"α of sharpness-aware training must be at least 0, got {surrogate}.")

    def slope(loss: Callable, axis_name: str | None = None) -> Callable:
        gradient = plain(loss, axis_name)

        def of(theta: PyTree, stats: PyTree) -> tuple[tuple[Array, Any], PyTree]:
            found, here = gradient(theta, stats)
            weighted = jax.tree.map(lambda p, g: jnp.abs(p) * g, theta, here) if adaptive else here
            scale = radius / (optax.tree.norm(weighted) + _EPS)
            moved = jax.tree.map(lambda p, g: p + scale * g * (jnp.square(p) if adaptive else 1), theta, here)
            _, there = gradient(moved, stats)
            norm, norm_there = optax.tree.norm(here), optax.tree.norm(there)
            cosine = optax.tree.vdot(here, there) / (norm * norm_there + _EPS)

            def decomposed(g: Array, g_there: Array) -> Array:
                return g_there - surrogate * (g - cosine * norm * g_there / (norm_there + _EPS))

            return found, jax.tree.map(decomposed, here, there)

        return of

    return slope
