"""The accuracy of trained networks on large sets, by themselves or by regression on their features."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import inner, kernels
from jaxdd.errors import JaxddError
from jaxdd.evaluation.arrays import blocks
from jaxdd.training import Fitted, few_at_a_time
from jaxdd.types import Array, Examples, Network, NetworkState


def predictions(network: Network, trained: Fitted | NetworkState, test: Examples) -> np.ndarray:
    """The class of the largest logit for each test image, int32 `(k, n)`, a row for each trained network.

    The test set may lie on the host; it is sent to the device in blocks of at most 500 images.
    """
    found = [np.asarray(predict(trained, images, network=network)) for images, _ in blocks(test)]
    return np.concatenate(found, axis=1)[:, : len(test.labels)]


def accuracy(network: Network, trained: Fitted | NetworkState, test: Examples) -> np.ndarray:
    """The share of test images whose largest logit is their label, float64 `(k,)`, one for each trained network."""
    return share_right(predictions(network, trained, test), test)


def share_right(predicted: np.ndarray, test: Examples) -> np.ndarray:
    """The share of test images that were taken for what they are, float64 `(..)`, from classes `(.., n)`."""
    return (predicted == np.broadcast_to(np.asarray(test.labels), predicted.shape)).mean(-1)


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
    """Classes by kernel ridge regression on the features of trained networks (Zhou, Nezhadarya & Ba 2022).

    Args:
      trained: `k` networks.
      images, labels: `(k, m, h, w, c)` and `(k, m, classes)`, what each was trained on; labels around zero.
      ridge: relative to the mean diagonal of the support's conjugate kernel.
      float64: solve in float64.

    Returns:
      int32 `(k, n)`.

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
    found = [
        np.asarray(_predict_regressed(trained, support, coefficients, images, network=network))
        for images, _ in blocks(test)
    ]
    return np.concatenate(found, axis=1)[:, : len(test.labels)]


@functools.partial(jax.jit, static_argnames="network")
def predict(trained, images, *, network):
    def of_network(one):
        return few_at_a_time(lambda rows: network.apply(one.theta, rows, one.stats)[0].argmax(-1), images)

    return inner.each_network(of_network, trained)


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
def _predict_regressed(trained, support, coefficients, images, *, network):
    def of_network(arguments):
        one, support, coefficients = arguments
        targets = few_at_a_time(lambda rows: network.features(one.theta, rows, one.stats)[0], images)
        return jnp.matmul(kernels.feature_kernel(targets, support), coefficients, precision="highest").argmax(-1)

    return inner.each_network(of_network, (trained, support, coefficients))
