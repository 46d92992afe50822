"""The accuracy of kernel ridge regression from a distilled set."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.errors import JaxddError
from jaxdd.evaluation.arrays import blocks, centred
from jaxdd.kernels import kernel_ridge_solve
from jaxdd.types import Array, Batch, Distilled


def kernel_accuracy(
    kernel: Callable[..., Array], distilled: Distilled, test: Batch, *, ridge: float = 1e-6, float64: bool = False
) -> float:
    """The share of test images that kernel ridge regression from the distilled set classifies rightly.

    Args:
      kernel: `kernel(x1, x2=None) -> (n, m)`. Programs are compiled once for each kernel object.
      distilled: the support; labels of any convention.
      test: real images in the same space, on host or device; kernels are evaluated in blocks of at most 500.
      ridge: relative to the mean diagonal of the support's kernel.
      float64: solve in float64.

    Returns:
      A fraction.

    Raises:
      JaxddError: if the solve fails: the kernel is not positive definite at this precision, or the set not finite.
    """
    labels = jnp.asarray(distilled.labels)
    num_classes = labels.shape[1] if labels.ndim == 2 else int(max(labels.max(), np.max(test.labels))) + 1
    support = jnp.asarray(distilled.images, jnp.float32)
    labels = centred(labels, distilled.label_convention, num_classes)
    coefficients = _solve(support, labels, ridge, kernel=kernel, float64=float64)
    if not jnp.isfinite(coefficients).all():
        precision, remedy = ("float64", "") if float64 else ("float32", " or float64")
        raise JaxddError(
            "kernel ridge regression failed: the support's kernel is not positive definite at "
            f"{precision}; use a larger ridge{remedy}."
        )
    correct = sum(int(_count_correct(support, coefficients, *block, kernel=kernel)) for block in blocks(test))
    return correct / len(test.labels)


@functools.partial(jax.jit, static_argnames=("kernel", "float64"))
def _solve(support, labels, ridge, *, kernel, float64):
    return kernel_ridge_solve(kernel(support), labels, ridge=ridge, float64=float64)


@functools.partial(jax.jit, static_argnames="kernel")
def _count_correct(support, coefficients, images, labels, *, kernel):
    predictions = jnp.matmul(kernel(images, support), coefficients, precision="highest")
    return (predictions.argmax(-1) == labels).sum()
