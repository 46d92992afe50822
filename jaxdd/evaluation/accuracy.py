"""The accuracy of trained networks on large sets, by themselves or by regression on their features."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import inner, kernels
from jaxdd.errors import JaxddError
from jaxdd.evaluation.arrays import CPU_BLOCK, blocks
from jaxdd.training import Fitted
from jaxdd.types import Array, Examples, Network, NetworkState


def accuracy(network: Network, trained: Fitted | NetworkState, test: Examples) -> np.ndarray:
    """The share of test images whose largest logit is their label, float64 `(k,)`, one for each trained network.

    The test set may lie on the host; it is sent to the device in blocks of at most 500 images.
    """
    correct = np.zeros(len(jax.tree.leaves(trained)[0]), np.int64)
    for images, labels in blocks(test):
        correct += np.asarray(count_correct(trained, images, labels, network=network), np.int64)
    return correct / len(test.labels)


def feature_regression(
    network: Network,
    trained: Fitted | NetworkState,
    images: Array,
    labels: Array,
    test: Examples,
    *,
    ridge: float,
    float64: bool = False,
) -> np.ndarray:
    """Accuracy of kernel ridge regression on the features of trained networks (Zhou, Nezhadarya & Ba 2022).

    Args:
      trained: `k` networks.
      images, labels: `(k, m, h, w, c)` and `(k, m, classes)`, what each was trained on; labels around zero.
      ridge: relative to the mean diagonal of the support's conjugate kernel.
      float64: solve in float64.

    Returns:
      float64 `(k,)`.

    Raises:
      JaxddError: if the solve fails: a kernel is not positive definite in that precision.
    """
    support, coefficients = _regress(trained, images, labels, ridge, network=network, float64=float64)
    if not jnp.isfinite(coefficients).all():
        precision = "float64; use" if float64 else "float32; use float64 or"
        raise JaxddError(
            "kernel ridge regression on trained features failed: their kernel is not positive definite in "
            f"{precision} a larger ridge."
        )
    correct = np.zeros(len(images), np.int64)
    for block in blocks(test):
        correct += np.asarray(_count_regressed(trained, support, coefficients, *block, network=network), np.int64)
    return correct / len(test.labels)


def few_at_a_time(function: Callable[[Array], Array], images: Array) -> Array:
    """`function` of images that each stand for themselves: on CPUs so few at once that a network's maps stay in cache,
    in two thirds of the time."""
    return inner.map_blocks(function, images, CPU_BLOCK if jax.default_backend() == "cpu" else None)


@functools.partial(jax.jit, static_argnames="network")
def count_correct(trained, images, labels, *, network):
    def count(one):
        predicted = few_at_a_time(lambda rows: network.apply(one.theta, rows, one.stats)[0].argmax(-1), images)
        return (predicted == labels).sum()

    return inner.each_network(count, trained)


@functools.partial(jax.jit, static_argnames=("network", "float64"))
def _regress(trained, images, labels, ridge, *, network, float64):
    def solve(arguments):
        one, images, labels = arguments
        support, _ = network.features(one.theta, images, one.stats)
        return support, kernels.kernel_ridge_solve(
            kernels.feature_kernel(support), labels, ridge=ridge, float64=float64
        )

    return inner.each_network(solve, (trained, images, labels))


@functools.partial(jax.jit, static_argnames="network")
def _count_regressed(trained, support, coefficients, images, labels, *, network):
    def count(arguments):
        one, support, coefficients = arguments
        targets = few_at_a_time(lambda rows: network.features(one.theta, rows, one.stats)[0], images)
        predictions = jnp.matmul(kernels.feature_kernel(targets, support), coefficients, precision="highest")
        return (predictions.argmax(-1) == labels).sum()

    return inner.each_network(count, (trained, support, coefficients))
