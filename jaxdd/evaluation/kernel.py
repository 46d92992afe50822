"""The accuracy of kernel ridge regression from a distilled set."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import inner, kernels, models
from jaxdd._jax import key_of
from jaxdd.errors import JaxddError
from jaxdd.evaluation.accuracy import share_right
from jaxdd.evaluation.arrays import blocks, check_has_classes
from jaxdd.kernels import kernel_ridge_solve
from jaxdd.losses import centred_labels
from jaxdd.types import RANDOM_FEATURES, TRAINED_FEATURES, Array, Distilled, Examples, Key

_FEATURE_BLOCK = 64  # images whose features are computed at once: bounds memory at any size of network


class Predictor(NamedTuple):
    """How a kernel method predicts: by kernel ridge regression from the distilled set.

    Attributes:
      kernel: `kernel(x1, x2=None) -> (n, m)`; None if it is that of the features of networks trained on the set.
        Programs are compiled once for each kernel object, see `kernels.build`.
      ridge: relative to the mean diagonal of the support's kernel.
      float64: solve in float64.
    """

    kernel: Callable[..., Array] | None
    ridge: float = 1e-6
    float64: bool = False

    @classmethod
    def of(
        cls, facts: Mapping[str, Any] | None, image_shape: tuple[int, int, int], num_classes: int
    ) -> Predictor | None:
        """From `Training.kernel` or the header of a file; None for a set of no kernel method."""
        if not facts:
            return None
        options = dict(facts)
        solver = {name: options.pop(name) for name in ("ridge", "float64") if name in options}
        name = options.pop("name")
        if name == TRAINED_FEATURES:
            return cls(None, **solver)
        if name != RANDOM_FEATURES:
            return cls(kernels.build(name, **options), **solver)
        network = models.build(options.pop("model"), image_shape, num_classes)
        keys = jax.random.split(key_of(options.pop("seed")), options.pop("networks"))

        def features(key: Key, images: Array) -> Array:
            theta, stats = network.init(key)
            return inner.map_blocks(lambda rows: network.features(theta, rows, stats)[0], images, _FEATURE_BLOCK)

        return cls(kernels.conjugate_kernel(features, keys, **options), **solver)


def kernel_accuracy(predictor: Predictor, distilled: Distilled, test: Examples) -> float:
    """The share of test images that kernel ridge regression from the distilled set classifies rightly, a fraction.

    Arguments and errors are those of `kernel_predictions`.
    """
    return float(share_right(kernel_predictions(predictor, distilled, test), test))


def kernel_predictions(predictor: Predictor, distilled: Distilled, test: Examples) -> np.ndarray:
    """The classes of test images by kernel ridge regression from the distilled set.

    Args:
      predictor: one with a kernel.
      distilled: the support; labels of any convention but "features".
      test: real images in the same space, on host or device; kernels are evaluated in blocks of at most 500.

    Returns:
      int32 `(n,)`.

    Raises:
      JaxddError: if the solve fails: the kernel is not positive definite at this precision, or the set not finite;
        and if its labels are features.
    """
    check_has_classes(distilled)
    kernel, ridge, float64 = predictor
    labels = jnp.asarray(distilled.labels)
    num_classes = labels.shape[1] if labels.ndim == 2 else int(max(labels.max(), np.max(test.labels))) + 1
    support = jnp.asarray(distilled.images, jnp.float32)
    labels = centred_labels(labels, distilled.label_convention, num_classes)
    coefficients, finite = _solve(support, labels, ridge, kernel=kernel, float64=float64)
    if not finite:
        precision, remedy = ("float64", "") if float64 else ("float32", " or float64")
        raise JaxddError(
            "kernel ridge regression failed: the support's kernel is not positive definite at "
            f"{precision}; use a larger ridge{remedy}."
        )
    found = [np.asarray(_predict(support, coefficients, images, kernel=kernel)) for images, _ in blocks(test)]
    return np.concatenate(found)[: len(test.labels)]


@functools.partial(jax.jit, static_argnames=("kernel", "float64"))
def _solve(support, labels, ridge, *, kernel, float64):
    coefficients = kernel_ridge_solve(kernel(support), labels, ridge=ridge, float64=float64)
    return coefficients, jnp.isfinite(coefficients).all()


@functools.partial(jax.jit, static_argnames="kernel")
def _predict(support, coefficients, images, *, kernel):
    return jnp.matmul(kernel(images, support), coefficients, precision="highest").argmax(-1)
