import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import kernels

ntk = jax.jit(kernels.ntk)
kernel_ridge_predict = jax.jit(kernels.kernel_ridge_predict, static_argnames=("ridge", "float64"))
kernel_ridge_solve = jax.jit(kernels.kernel_ridge_solve, static_argnames=("ridge", "float64"))
label_solve = jax.jit(kernels.label_solve, static_argnums=0, static_argnames=("ridge", "block", "share"))


@pytest.fixture
def problem(rng):
    x, t = rng.normal(size=(12, 5)).astype(np.float32), rng.normal(size=(40, 5)).astype(np.float32)
    return jnp.array(x), jnp.array(t), jnp.array(rng.normal(size=(12, 3)), jnp.float32)


def test_equals_numpy_in_both_precisions(problem):
    x, t, y = problem
    k_ss, k_ts = ntk(x), ntk(t, x)
    k64 = np.asarray(k_ss, np.float64)
    expected = np.asarray(k_ts, np.float64) @ np.linalg.solve(k64 + 1e-3 * np.trace(k64) / 12 * np.eye(12), y)
    for float64 in (False, True):
        predicted = kernel_ridge_predict(k_ts, k_ss, y, ridge=1e-3, float64=float64)
        assert predicted.dtype == jnp.float32
        np.testing.assert_allclose(predicted, expected, atol=1e-4)


def test_float64_solve_is_more_accurate_where_the_kernel_is_nearly_singular(rng):
    x = rng.normal(size=(30, 4)).astype(np.float32)
    x = np.concatenate([x, x + 1e-3])
    y = jnp.array(rng.normal(size=(60, 2)), jnp.float32)
    k = ntk(jnp.array(x))
    k64 = np.asarray(k, np.float64)
    exact = np.linalg.solve(k64 + 1e-6 * np.trace(k64) / 60 * np.eye(60), y)
    error = [np.linalg.norm(kernel_ridge_solve(k, y, float64=f) - exact) / np.linalg.norm(exact) for f in (False, True)]
    assert error[1] < 1e-5 < error[0]


def test_the_ridge_is_a_millionth_unless_it_is_told(problem):
    x, t, y = problem
    k_ss, k_ts = ntk(x), ntk(t, x)
    np.testing.assert_array_equal(kernel_ridge_solve(k_ss, y), kernel_ridge_solve(k_ss, y, ridge=1e-6))
    np.testing.assert_array_equal(kernel_ridge_predict(k_ts, k_ss, y), kernel_ridge_predict(k_ts, k_ss, y, ridge=1e-6))


def test_relative_ridge_ignores_the_scale_of_the_kernel(problem):
    x, t, y = problem
    k_ss, k_ts = ntk(x), ntk(t, x)
    one = kernel_ridge_predict(k_ts, k_ss, y, ridge=0.1)
    np.testing.assert_allclose(kernel_ridge_predict(1000 * k_ts, 1000 * k_ss, y, ridge=0.1), one, atol=1e-5)


@pytest.mark.parametrize("float64", [False, True])
def test_gradients_equal_finite_differences(x64, problem, float64):
    with x64():
        x, t, y = (jnp.asarray(a, jnp.float64) for a in problem)

        @jax.jit
        def loss(x, y):
            return jnp.sum(jnp.cos(kernel_ridge_predict(ntk(t, x), ntk(x), y, ridge=1e-2, float64=float64)))

        gx, gy = jax.jit(jax.grad(loss, argnums=(0, 1)))(x, y)
        h = 1e-6
        for i, j in [(0, 0), (5, 2)]:
            ex, ey = jnp.zeros_like(x).at[i, j].set(h), jnp.zeros_like(y).at[i, j].set(h)
            np.testing.assert_allclose(gx[i, j], (loss(x + ex, y) - loss(x - ex, y)) / (2 * h), rtol=1e-5)
            np.testing.assert_allclose(gy[i, j], (loss(x, y + ey) - loss(x, y - ey)) / (2 * h), rtol=1e-5)


def in_thirds(function, rows):
    """As three devices share rows."""
    targets, y = rows
    return jnp.concatenate([function((targets[place], y[place])) for place in np.split(np.arange(len(y)), 3)])


BLOCKS = [{}, {"block": 700}, {"block": 300, "share": in_thirds}]


def test_label_solve_is_the_minimum(problem, rng):
    """No labels predict the targets better: the gradient in the labels vanishes and every other choice is worse."""
    x, t, _ = problem
    y_t = jnp.array(rng.normal(size=(40, 3)), jnp.float32)

    @jax.jit
    def loss(y):
        return jnp.sum((kernel_ridge_predict(ntk(t, x), ntk(x), y, ridge=1e-3) - y_t) ** 2)

    y, slope = label_solve(ntk, x, t, y_t, ridge=1e-3), jax.jit(jax.grad(loss))
    assert jnp.abs(slope(y)).max() < 1e-3 * jnp.abs(slope(jnp.zeros_like(y))).max()
    assert all(loss(y) < loss(y + 0.1 * rng.normal(size=y.shape).astype(np.float32)) for _ in range(5))


@pytest.mark.parametrize("blocks", BLOCKS)
def test_label_solve_keeps_every_direction_above_rounding_and_none_below(rng, blocks):
    """Singular values of 1e-4 are signal however many targets there are; a support image twice is not."""
    basis = np.linalg.qr(rng.normal(size=(3000, 20)))[0]
    k_ts = jnp.asarray(basis * np.geomspace(1, 1e-4, 20), jnp.float32)
    y_t = jnp.asarray(basis.sum(1, keepdims=True), jnp.float32)

    def linear(a, b=None):
        return jnp.matmul(a, (a if b is None else b).T, precision="highest")

    coefficients = label_solve(linear, jnp.eye(20), k_ts, y_t, ridge=0.0, **blocks)
    np.testing.assert_allclose(k_ts @ coefficients, y_t, atol=1e-4)
    x = jnp.asarray(rng.normal(size=(12, 5)), jnp.float32)
    t, y_t = (jnp.asarray(rng.normal(size=(2001, size)), jnp.float32) for size in (5, 1))
    twice = label_solve(ntk, jnp.concatenate([x, x[:2]]), t, y_t, **blocks)
    np.testing.assert_allclose(twice[12:], twice[:2], rtol=1e-3)
    assert jnp.abs(twice).max() < 10


@pytest.mark.parametrize(("blocks", "most"), list(zip(BLOCKS, (40_000, 750, 350), strict=True)))
def test_label_solve_takes_targets_by_blocks(blocks, most):
    """No more of them than a block, but for the inputs, meet the support or its factor at once."""
    x, t, y = jnp.zeros((50, 5)), jnp.zeros((40_000 // 3 * 3, 5)), jnp.zeros((40_000 // 3 * 3, 1))
    text = str(jax.make_jaxpr(lambda x, t, y: label_solve(ntk, x, t, y, **blocks))(x, t, y))
    rows = [int(size) for size in re.findall(r"f32\[(\d+),5[01]\]", text)]
    assert most - 100 < max(rows) <= most + 1


def test_wrong_shapes_are_refused(problem):
    x, t, _ = problem
    with pytest.raises(ValueError, match="k_ss"):
        kernel_ridge_solve(jnp.ones((3, 2)), jnp.ones((3, 1)))
    with pytest.raises(ValueError, match="block must be at least 1"):
        kernels.label_solve(ntk, x, t, jnp.ones((40, 3)), block=0)
