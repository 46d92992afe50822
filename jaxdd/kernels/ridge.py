"""Kernel ridge regression with a relative ridge."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdd._labels import label_vectors
from jaxdd.kernels.blocked import check_block

# Coefficients are large where the kernel is nearly singular, and cancel: no TF32 here.
_matmul = functools.partial(jnp.matmul, precision="highest")


def _ridge(k_ss: jax.Array, ridge: float) -> jax.Array:
    """`ridge * mean(diag K)`: relative, so that one ridge serves every kernel scale and data set."""
    return ridge * jnp.trace(k_ss) / k_ss.shape[0]


def kernel_ridge_solve(k_ss: jax.Array, y_s: jax.Array, *, ridge: float = 1e-6, float64: bool = False) -> jax.Array:
    """Dual coefficients `(K_ss + ridge * mean(diag K_ss) I)^-1 y_s` by Cholesky (Nguyen et al. 2021, eq. 3).

    Args:
      k_ss: symmetric positive `(s, s)`.
      y_s: label vectors `(s, classes)`; integers, such as one-hot vectors, count as floats.
      ridge: relative to the mean of the diagonal.
      float64: factorise in float64 (also where JAX is in float32 mode); the result has the dtype of `k_ss`.

    Returns:
      `(s, classes)`. Not finite where the matrix is not positive definite at this precision.

    Raises:
      ValueError: for a kernel that is not square; (as JaxddError) for labels that do not fit it, or class numbers.
    """
    if k_ss.ndim != 2 or k_ss.shape[0] != k_ss.shape[1]:
        raise ValueError(f"k_ss must be square, (s, s), got {k_ss.shape}")
    y_s = label_vectors(y_s, (len(k_ss), None), "y_s", k_ss.dtype)
    dtype = jnp.dtype("float64") if float64 else k_ss.dtype
    shift = _ridge(k_ss, ridge)

    def precisely():
        return jax.enable_x64(True) if float64 else contextlib.nullcontext()

    # The solve is differentiated as a linear solve, not through the factorisation: its backward pass is then one more
    # cheap solve with the same factor.
    with precisely():
        k, diagonal = (jax.lax.stop_gradient(a).astype(dtype) for a in (k_ss, shift))
        # The lower triangle, because the upper one would cost transposed copies.
        factor = jax.scipy.linalg.cho_factor(k + diagonal * jnp.eye(len(k), dtype=dtype), lower=True)

    def solve(_, b):
        with precisely():
            return jax.scipy.linalg.cho_solve(factor, b.astype(dtype)).astype(b.dtype)

    return jax.lax.custom_linear_solve(lambda v: _matmul(k_ss, v) + shift * v, y_s, solve, symmetric=True)


def kernel_ridge_predict(
    k_ts: jax.Array, k_ss: jax.Array, y_s: jax.Array, *, ridge: float = 1e-6, float64: bool = False
) -> jax.Array:
    """Predictions of kernel ridge regression from a support to targets (Nguyen et al. 2021, eq. 3).

    Args:
      k_ts: `(t, s)`, targets against support.
      k_ss, y_s, ridge, float64: as in `kernel_ridge_solve`.

    Returns:
      `(t, classes)`.

    Raises:
      ValueError: as `kernel_ridge_solve`.
    """
    return _matmul(k_ts, kernel_ridge_solve(k_ss, y_s, ridge=ridge, float64=float64))


def label_solve(
    kernel: Callable[..., jax.Array],
    support: jax.Array,
    targets: jax.Array,
    y_t: jax.Array,
    *,
    ridge: float = 1e-6,
    block: int | None = None,
    share: Callable[[Callable[..., jax.Array], tuple[jax.Array, jax.Array]], jax.Array] | None = None,
) -> jax.Array:
    """The support labels with the least squared error on the targets (Label Solve; Nguyen et al. 2021, section 2).

    `y_s = (K_ss + λI) a` where `a` minimises `|K_ts a - y_t|^2`, so that kernel ridge regression from the support
    predicts exactly `K_ts a`. Solved through an SVD, since the normal equations would square the condition number;
    directions under `s * eps` of the largest singular value are left out.

    By blocks of targets the SVD is that of the triangular factor of `K_ts`, which a QR decomposition of itself and of
    the next rows carries on (TSQR; Demmel et al. 2012): to rounding the same singular values, in the memory of a block.

    Args:
      kernel: `kernel(x1, x2=None) -> (n, m)`.
      support: `(s, ...)` inputs.
      targets: `(t, ...)` inputs, t at least s for a determined problem.
      y_t: label vectors `(t, classes)`; integers, such as one-hot vectors, count as floats.
      ridge: the relative ridge with which the labels will be used.
      block: targets whose kernel is in memory at once, with an array `(block + s, s + classes)`: best not less than s.
        None: all, `(t, s)`.
      share: with a block, `share(function, (targets, y_t))` calls the function on parts of them; its results follow
        each other along their first axis. `inner.shared` is one, by which the devices of a run share the targets.

    Returns:
      `(s, classes)` labels.

    Raises:
      ValueError: for a block less than 1; (as JaxddError) for labels that do not fit the targets, or class numbers.
    """
    check_block(block)
    y_t = label_vectors(y_t, (len(targets), None), "y_t")
    if block is None:
        left, right = kernel(targets, support), y_t
    else:
        triangle = functools.partial(_triangle, kernel, support, block)
        factors = (share or (lambda function, rows: function(rows)))(triangle, (targets, y_t))
        factor = _factor(factors) if factors.shape[0] > factors.shape[1] else factors
        left, right = jnp.split(factor[: len(support)], [len(support)], axis=1)
    # Not the default, t * eps: with 5,000 targets and 500 images it drops 291 directions that rounding leaves intact.
    coefficients = jnp.linalg.lstsq(left, right, rcond=left.shape[1] * float(jnp.finfo(left.dtype).eps))[0]
    k_ss = kernel(support)
    return _matmul(k_ss, coefficients) + _ridge(k_ss, ridge) * coefficients


_factor = functools.partial(jnp.linalg.qr, mode="r")


def _triangle(
    kernel: Callable[..., jax.Array], support: jax.Array, block: int, rows: tuple[jax.Array, jax.Array]
) -> jax.Array:
    """`R` with `Q R` the kernel of targets, and `Qᵀ y` beside it, in the first rows of `(s + classes, s + classes)`."""

    def added(factor: jax.Array, rows: tuple[jax.Array, jax.Array]) -> jax.Array:
        return _factor(jnp.concatenate([factor, jnp.concatenate([kernel(rows[0], support), rows[1]], axis=1)]))

    targets, y_t = rows
    size = len(support) + y_t.shape[1]
    factor = jnp.zeros((size, size), jnp.result_type(jax.eval_shape(kernel, targets[:1], support), y_t))
    whole = len(targets) // block * block
    if whole:
        blocks = jax.tree.map(lambda leaf: leaf[:whole].reshape(-1, block, *leaf.shape[1:]), rows)
        factor, _ = jax.lax.scan(lambda factor, rows: (added(factor, rows), None), factor, blocks)
    return added(factor, (targets[whole:], y_t[whole:])) if whole < len(targets) else factor
