"""Ways to differentiate through training that are not plain reverse mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxdd._jax import of_constants
from jaxdd.inner.axes import pmean
from jaxdd.types import Array, Key, PyTree


def fwdrev_grad(loss: Callable[..., Array]) -> Callable[..., PyTree]:
    """`jax.grad(loss)` whose own reverse pass is one forward-over-reverse product (MixFlow-MG; Kemaev et al. 2025).

    Reverse mode through a training step needs vector products with the Hessian and the mixed derivatives of the loss.
    Differentiating `jax.grad` again stores the inner backward pass; here they are `jvp` of `grad` in the direction of
    the cotangent, since the Hessian is symmetric, so nothing of the inner pass has to be kept.

    Args:
      loss: `loss(theta, *args) -> scalar`.

    Returns:
      `grad(theta, *args)`, reverse-differentiable to first order in every floating-point argument and in what the loss
      closes over. Integers and keys get no gradient.
    """

    return _with_products(loss, through_theta=True)


def detached_grad(loss: Callable[..., Array]) -> Callable[..., PyTree]:
    """`fwdrev_grad` that is a constant in `theta`: what TESLA differentiates (Cui et al. 2023, arXiv:2211.10586).

    Of a training whose every step has such a gradient, the end depends on the data of each step through that step
    alone, and not through the parameters that later steps start from. So the reverse pass is a sum over steps of one
    product each; nothing but the parameters of each step is kept. It is not the gradient of the training: what
    TESLA's paper calls exact is this.

    Args:
      loss: `loss(theta, *args) -> scalar`.

    Returns:
      `grad(theta, *args)`, as `fwdrev_grad`'s, but for `theta`.
    """
    return _with_products(loss, through_theta=False)


def _with_products(loss: Callable[..., Array], *, through_theta: bool) -> Callable[..., PyTree]:
    def gradient(theta, *args):
        # What the loss closes over becomes an argument: a custom derivative may hold no tracers.
        traced = jax.make_jaxpr(loss)(theta, *args)
        function = of_constants(traced)

        def explicit(theta, args, constants):
            return function(constants, *jax.tree.leaves((theta, args)))[0]

        return _explicitly(explicit, through_theta)(theta, args, traced.consts)

    return gradient


def _explicitly(loss: Callable[..., Array], through_theta: bool) -> Callable[..., PyTree]:
    """`_with_products` of a loss that closes over nothing."""

    @jax.custom_vjp
    def gradient(theta, *args):
        return jax.grad(loss)(theta, *args)

    def forward(theta, *args):
        return gradient(theta, *args), (theta, args)

    def backward(residual, cotangent):
        theta, args = residual
        floating, merge = _split_floating(args)

        def gradients(theta):
            return jax.grad(lambda theta, f: loss(theta, *merge(f)), argnums=(0, 1))(theta, floating)

        of_theta, of_floating = jax.jvp(gradients, (theta,), (cotangent,))[1]
        if not through_theta:
            of_theta = jax.tree.map(jnp.zeros_like, of_theta)
        return (of_theta, *merge(of_floating, other=_no_gradient))

    gradient.defvjp(forward, backward)
    return gradient


def _no_gradient(leaf: Any) -> np.ndarray:
    return np.zeros(np.shape(leaf), jax.dtypes.float0)


def _split_floating(tree: PyTree) -> tuple[list[Array], Callable[..., PyTree]]:
    """The floating-point leaves of a tree, and how to put such leaves back among the (mapped) others."""
    leaves, structure = jax.tree.flatten(tree)
    is_floating = [jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves]

    def merge(floating: list[Array], other: Callable[[Any], Any] = lambda leaf: leaf) -> PyTree:
        rest = iter(floating)
        return jax.tree.unflatten(
            structure, [next(rest) if f else other(leaf) for leaf, f in zip(leaves, is_floating, strict=True)]
        )

    return [leaf for leaf, f in zip(leaves, is_floating, strict=True) if f], merge


def forward_gradient(
    function: Callable[[PyTree], Array], params: PyTree, key: Key, num_directions: int
) -> tuple[Array, PyTree]:
    """Value and an unbiased estimate of the gradient by forward mode (Baydin et al. 2022; FG²U, Shen et al. 2024).

    `mean_r (∂_v_r f) v_r` over standard normal directions: memory does not grow with the length of the computation, the
    variance grows with the number of parameters. For a few parameters: learning rates, labels, coefficients.

    Args:
      function: `function(params) -> scalar`, forward-differentiable.
      num_directions: R; one forward pass each, run side by side.
    """
    flat, unravel = ravel_pytree(params)
    directions = jax.random.normal(key, (num_directions, flat.size), flat.dtype)

    def along(direction):
        return jax.jvp(lambda p: function(unravel(p)), (flat,), (direction,))

    values, slopes = jax.vmap(along)(directions)
    return values[0], unravel(slopes @ directions / num_directions)


def implicit_gradient(
    inner_loss: Callable[[PyTree, PyTree], Array],
    outer_loss: Callable[[PyTree, PyTree], Any],
    theta: PyTree,
    params: PyTree,
    *,
    damping: float = 0.0,
    steps: int = 100,
    tolerance: float = 1e-6,
    clip: bool = False,
    has_aux: bool = False,
    axis_name: str | None = None,
) -> tuple[Any, PyTree]:
    """Outer loss and its gradient at a converged inner problem, by implicit differentiation (Lorraine et al. 2020).

    With `theta = argmin inner_loss(., params)`: `d/dparams outer = ∂outer/∂params - (∂²inner/∂params∂theta) H^-1
    ∂outer/∂theta`. The solve is conjugate gradients on Hessian-vector products, so memory is that of one step.

    Args:
      inner_loss, outer_loss: `(theta, params) -> scalar`.
      theta: a minimum of the inner loss at `params`.
      damping: added to the Hessian's diagonal, for minima that are flat or not quite reached.
      steps, tolerance: of conjugate gradients.
      clip: for no leaf of `params` may the norm of the implicit term, the second one, be more than that of the direct
        term, the first (Loo et al. 2023).
      has_aux: `outer_loss` returns `(scalar, aux)`.
      axis_name: of a `jax.pmap` or `jax.vmap(axis_name=..)` around the caller: the outer loss is then its mean over
        that axis.

    Returns:
      `(outer loss, gradient in params)`, the first `(outer loss, aux)` if `has_aux`.
    """
    outer = jax.value_and_grad(outer_loss, argnums=(0, 1), has_aux=has_aux)
    value, (of_theta, direct) = pmean(outer(theta, params), axis_name)
    curvature = jax.linearize(lambda t: jax.grad(inner_loss)(t, params), theta)[1]

    def hessian_product(v):
        return jax.tree.map(lambda h, x: h + damping * x, curvature(v), v)

    solved, _ = jax.scipy.sparse.linalg.cg(hessian_product, of_theta, maxiter=steps, tol=tolerance)

    def slope(p):
        return jax.jvp(lambda t: inner_loss(t, p), (theta,), (solved,))[1]

    implicit = jax.tree.map(jnp.negative, jax.grad(slope)(params))
    if clip:
        implicit = jax.tree.map(_no_longer_than, implicit, direct)
    return value, jax.tree.map(jnp.add, direct, implicit)


def _no_longer_than(vector: Array, limit: Array) -> Array:
    """The vector, scaled down to the norm of `limit` if its own is larger."""
    length = jnp.linalg.norm(vector.ravel())
    shorter = jnp.minimum(length, jnp.linalg.norm(limit.ravel()))
    return vector * (shorter / jnp.maximum(length, jnp.finfo(length.dtype).tiny))
