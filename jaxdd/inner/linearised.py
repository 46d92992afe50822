"""Networks linearised around their parameters, and the minima of the quadratic losses that come of it."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdd._jax import needed
from jaxdd.types import Array, Network, NetworkState, PyTree

Body = list[Array]
"""A change of the parameters below a network's head: the leaves of `theta` that its features depend on, in order."""


def linearised_body(
    network: Network, start: NetworkState, images: Array
) -> tuple[Body, Callable[[Body, Array], tuple]]:
    """A network to first order in the parameters below its head (Loo et al. 2023).

    The tangent model `x -> features(x) v + J(x) w` with the features and the Jacobian J of the logits taken at `start`
    and held there. A squared error of it is convex in the head v, which `kernels.kernel_ridge_solve` finds exactly, and
    in the change w of the body. In evaluation mode: a network's statistics stay as they are.

    Args:
      start: `(theta, stats)`, from a pool or a source.
      images: `(n, h, w, c)`, of which only the shape counts.

    Returns:
      `(w, function)`: the change that is none, and `function(w, images) -> (features (n, d), J(images) w (n,
      classes))`, whose second result is linear in w. Both come from one pass forward.
    """
    theta, stats = start
    leaves, structure = jax.tree.flatten(theta)

    def features(leaves: list[Array]) -> Array:
        return network.features(jax.tree.unflatten(structure, leaves), images[:1], stats)[0]

    in_body = needed(jax.make_jaxpr(features)(leaves))

    def function(body: Body, images: Array) -> tuple[Array, Array]:
        change = iter(body)
        tangent = [
            next(change) if inside else jnp.zeros_like(leaf) for leaf, inside in zip(leaves, in_body, strict=True)
        ]

        def passes(theta: PyTree) -> tuple[Array, Array]:  # one, since what they share is computed once
            return network.features(theta, images, stats)[0], network.apply(theta, images, stats)[0]

        (features, _), (_, outputs) = jax.jvp(passes, (theta,), (jax.tree.unflatten(structure, tangent),))
        return features, outputs

    return [jnp.zeros_like(leaf) for leaf, inside in zip(leaves, in_body, strict=True) if inside], function


def quadratic_minimum(loss: Callable[[PyTree], Array], theta: PyTree, *, steps: int, tolerance: float = 1e-6) -> PyTree:
    """The minimum of a convex quadratic by conjugate gradients on Hessian-vector products, without a learning rate.

    Args:
      loss: `loss(theta) -> scalar`, convex and quadratic.
      theta: where to start.
      steps, tolerance: of conjugate gradients: at most so many, until the gradient is so small relative to its first.
    """
    slope, curvature = jax.linearize(jax.grad(loss), theta)
    change, _ = jax.scipy.sparse.linalg.cg(curvature, slope, maxiter=steps, tol=tolerance)
    return jax.tree.map(jnp.subtract, theta, change)
