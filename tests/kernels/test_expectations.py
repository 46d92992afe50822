"""Gaussian expectations of activations."""

import math

import jax
import numpy as np
import pytest

from jaxdd.kernels.expectations import expectations

K, Q1, Q2 = np.array([-0.4, 0.1, 0.9]), np.array([0.7, 1.3, 1.1]), np.array([0.5, 0.8, 2.0])


def relu(u):
    return np.maximum(u, 0), (u > 0).astype(float)


def erf(u):
    return np.vectorize(math.erf)(u), 2 / math.sqrt(math.pi) * np.exp(-(u**2))


# Quadrature is exact to rounding for what is smooth, poor for a step.
@pytest.mark.parametrize(("activation", "of", "within"), [("relu", relu, (1e-3, 2e-2)), ("erf", erf, (1e-6, 1e-6))])
def test_they_are_integrals_over_two_correlated_gaussians(activation, of, within):
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    weights = weights / weights.sum()
    for k, q1, q2 in zip(K, Q1, Q2, strict=True):
        u = np.sqrt(q1) * nodes[:, None]
        v = k / np.sqrt(q1) * nodes[:, None] + np.sqrt(q2 - k**2 / q1) * nodes[None]
        expected = [np.einsum("i,j,ij->", weights, weights, a * b) for a, b in zip(of(u), of(v), strict=True)]
        for found, wanted, atol in zip(expectations(activation).between(k, q1, q2), expected, within, strict=True):
            np.testing.assert_allclose(found, wanted, atol=atol)


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_their_slopes_in_all_three_inputs_are_those_of_finite_differences(activation):
    between, step = expectations(activation).between, 1e-6
    with jax.enable_x64(True):
        slopes = jax.jit(jax.jacfwd(lambda *at: sum(between(*at)), argnums=(0, 1, 2)))
        for at in zip(K, Q1, Q2, strict=True):
            for which, slope in enumerate(slopes(*at)):
                above, below = (np.add(at, sign * step * np.eye(3)[which]) for sign in (1, -1))
                expected = (sum(between(*above)) - sum(between(*below))) / (2 * step)
                np.testing.assert_allclose(slope, expected, rtol=1e-7, err_msg=f"{activation}, input {which}")


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_coincident_inputs_are_the_limit(activation):
    found = expectations(activation)
    np.testing.assert_allclose(found.coincident(Q1), found.between(Q1, Q1, Q1), rtol=2e-3)
