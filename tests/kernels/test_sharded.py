"""Kernel ridge regression whose matrix several devices share: what one device finds, in less memory on each."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from jaxdd import kernels
from jaxdd.engine.placement import make_mesh
from jaxdd.errors import JaxddError

SIZE, RIDGE = 37, 1e-4  # divides over no number of devices


def shared(devices, kernel=kernels.ntk, *, width=8, **options):
    given = {"mesh": make_mesh(jax.devices()[:devices]), "width": width, **options}
    return functools.partial(kernels.sharded_kernel_ridge_solve, kernel, **given)


def with_gradients(solve):
    """The coefficients, and the gradients of a function of them in both arguments."""

    def loss(x, y):
        found = solve(x, y)
        return jnp.sum(jnp.cos(found)), found

    @jax.jit
    def both(x, y):
        slopes, found = jax.grad(loss, (0, 1), has_aux=True)(x, y)
        return found, *slopes

    return both


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    return jnp.array(rng.normal(size=(SIZE, 5)), jnp.float32), jnp.array(rng.normal(size=(SIZE, 3)), jnp.float32)


@pytest.fixture(scope="module")
def doubled(problem):
    """The problem in double precision, with what one device finds."""
    with jax.enable_x64(True):
        x, y = (jnp.asarray(given, jnp.float64) for given in problem)
        return x, y, with_gradients(lambda x, y: kernels.kernel_ridge_solve(kernels.ntk(x), y, ridge=RIDGE))(x, y)


@pytest.mark.parametrize(
    ("devices", "block"), [(4, 4), *(pytest.param(count, None, marks=pytest.mark.endurance) for count in (1, 2, 8))]
)
def test_solution_and_gradients_are_those_of_one_device(x64, devices, block, doubled):
    with x64():
        x, y, expected = doubled
        found = with_gradients(shared(devices, ridge=RIDGE, block=block))(x, y)
    for name, ours, whole in zip(("solution", "x", "y"), found, expected, strict=True):
        assert ours.dtype == jnp.float64
        np.testing.assert_allclose(ours, whole, atol=1e-10 * np.abs(whole).max(), err_msg=name)


def test_float64_is_more_accurate_where_the_kernel_is_nearly_singular(problem):
    """Of whole numbers, which both precisions hold exactly, and of rank 5 but for the ridge."""
    x, y = jnp.round(8 * problem[0]), problem[1]

    def linear(a, b=None):
        return jnp.matmul(a, (a if b is None else b).T)

    k = np.asarray(linear(x), np.float64)
    exact = np.linalg.solve(k + 1e-5 * np.trace(k) / SIZE * np.eye(SIZE), y)
    off = []
    for float64 in (False, True):
        found = jax.jit(shared(2, linear, ridge=1e-5, float64=float64))(x, y)
        assert found.dtype == jnp.float32
        off.append(np.linalg.norm(found - exact) / np.linalg.norm(exact))
    assert off[1] < 3e-7 and off[0] > 10 * off[1]


def test_what_is_not_positive_is_not_finite(problem):
    found = jax.jit(shared(4, lambda *xs: -kernels.ntk(*xs)))(*problem)
    assert not np.isfinite(found).any()


def test_no_device_holds_an_array_of_all_pairs():
    """Nor a share of it, but for the lower half of its own rows, and that on the way back too."""
    size, devices = 256, 4
    x, y = jnp.zeros((size, 4)), jnp.zeros((size, 2))
    compiled = with_gradients(shared(devices, width=32, block=8)).lower(x, y).compile()
    sizes = [math.prod(map(int, found.split(","))) for found in re.findall(r"\[([\d,]+)\]", compiled.as_text())]
    half = size**2 * (1 + 1 / 8) / 2
    assert max(sizes) == half / devices
    # The lower half twice at most, since one column of it is taken out; some rows for gradients.
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * (1.5 * half / devices + 12 * 8 * size)


@pytest.mark.parametrize(
    ("options", "labels", "error"),
    [
        (
            {"mesh": jax.make_mesh((1,), ("a",), axis_types=(AxisType.Explicit,))},
            (SIZE, 3),
            "axes of mesh must be Auto",
        ),
        ({"block": 0}, (SIZE, 3), "block must be at least 1"),
        ({"width": 0}, (SIZE, 3), "width must be at least 1"),
        ({}, (SIZE + 1, 3), "y_s must be label vectors"),
    ],
)
def test_bad_arguments_are_refused(problem, options, labels, error):
    with pytest.raises(ValueError if {"block", "width"} & set(options) else JaxddError, match=error):
        shared(2, **options)(problem[0], jnp.zeros(labels))
