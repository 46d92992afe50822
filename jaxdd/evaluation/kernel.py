"""The accuracy of kernel ridge regression from a distilled set."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd.evaluation.arrays import blocks, centred
from jaxdd.kernels import kernel_ridge_solve
from jaxdd.types import Array, Batch, Distilled


def kernel_accuracy(kernel: Callable[..., Array], distilled: Distilled, test: Batch, *, ridge: float = 1e-6) -> float:
    """The share of test images that kernel ridge regression from the distilled set classifies rightly.

    Args:
      kernel: `kernel(x1, x2=None) -> (n, m)`. Programs are compiled once for each kernel object.
      distilled: the support; labels of any convention.
      test: real images in the same space, on host or device; kernels are evaluated in blocks of at most 500.
      ridge: relative to the mean diagonal of the support's kernel.

    Returns:
      A fraction.
    """
    labels = jnp.asarray(distilled.labels)
    num_classes = labels.shape[1] if labels.ndim == 2 else int(max(labels.max(), np.max(test.labels))) + 1
    support = jnp.asarray(distilled.images, jnp.float32)
    coefficients = _solve(support, centred(labels, distilled.label_convention, num_classes), ridge, kernel=kernel)
    correct = sum(int(_count_correct(support, coefficients, *block, kernel=kernel)) for block in blocks(test))
    return correct / len(test.labels)


@functools.partial(jax.jit, static_argnames="kernel")
def _solve(support, labels, ridge, *, kernel):
    return kernel_ridge_solve(kernel(support), labels, ridge=ridge)


@functools.partial(jax.jit, static_argnames="kernel")
def _count_correct(support, coefficients, images, labels, *, kernel):
    return ((kernel(images, support) @ coefficients).argmax(-1) == labels).sum()
