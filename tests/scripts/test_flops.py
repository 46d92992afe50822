"""Counted operations against counts by hand, before a run and in one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmark.flops import count_flops, executed_flops, of_each_step
from jax import lax

from jaxdd import engine, inner, kernels
from jaxdd.data import uniform_sampler
from jaxdd.models import conv2d
from jaxdd.models.conv import IMPLEMENTATIONS
from jaxdd.types import Labels, Method, RealData


def executed(function, *args):
    return int(jax.jit(executed_flops(function))(*args))


def both(function, *args):
    """What is known before a run, which must be what the run does."""
    known = count_flops(function, *args)
    assert known.exact and executed(function, *args) == known.count
    return known.count


A, B, SQUARE = jnp.ones((3, 5)), jnp.ones((5, 7)), jnp.eye(4)
PRODUCT = 2 * 3 * 5 * 7


def test_products():
    assert both(jnp.matmul, A, B) == PRODUCT
    assert both(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), jnp.ones((2, 3, 5)), jnp.ones((2, 5, 7))) == 2 * PRODUCT
    assert both(lambda a: jnp.sin(a).sum(), A) == 0


def test_shapes_are_enough():
    shapes = (jax.ShapeDtypeStruct(of.shape, of.dtype) for of in (A, B))
    assert count_flops(jnp.matmul, *shapes) == (PRODUCT, True)


def test_loops_of_known_length_and_calls():
    def repeated(c):
        c = lax.scan(lambda c, _: (c @ SQUARE, None), c, length=6)[0]
        c = lax.fori_loop(0, 3, lambda i, c: c @ SQUARE, c)
        return jax.jit(jax.checkpoint(lambda c: c @ SQUARE))(c)

    assert both(repeated, SQUARE) == (6 + 3 + 1) * 2 * 4**3
    assert both(lambda rows: lax.map(lambda row: row @ SQUARE, rows), SQUARE) == 4 * 2 * 4**2


def mlp(theta, x):
    return jnp.sum(jax.nn.relu(x @ theta[0]) @ theta[1])


def test_gradients_and_what_they_recompute():
    theta, x, forward = (jnp.ones((5, 7)), jnp.ones((7, 2))), jnp.ones((3, 5)), 2 * 3 * (5 * 7 + 7 * 2)
    hidden, backward = 2 * 3 * 5 * 7, forward + 2 * 3 * 7 * 2  # to every weight, and to the hidden units
    assert both(jax.value_and_grad(mlp), theta, x) == forward + backward
    assert both(jax.grad(mlp), theta, x) == hidden + backward  # nobody needs the second layer's result
    assert both(jax.value_and_grad(jax.checkpoint(mlp)), theta, x) == forward + hidden + backward
    gradient = inner.fwdrev_grad(mlp)  # a custom derivative
    assert both(gradient, theta, x) == both(jax.grad(mlp), theta, x)


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize("impl", [name for name in IMPLEMENTATIONS if name != "onednn"])
def test_a_convolution_and_its_gradients_take_the_same(impl, strides):
    images, kernel, maps = jnp.ones((2, 6, 6, 4)), jnp.ones((3, 3, 4, 8)), (6 // strides[0]) ** 2
    convolve = functools.partial(conv2d, window_strides=strides, padding=((1, 1), (1, 1)), impl=impl)
    once = 2 * 2 * maps * 9 * 4 * 8
    assert both(convolve, images, kernel) == once
    assert both(jax.grad(lambda x, w: convolve(x, w).sum()), images, kernel) == once
    assert both(jax.grad(lambda x, w: convolve(x, w).sum(), 1), images, kernel) == once
    # `vmap` of images folds into them, of both is an axis of networks.
    assert both(jax.vmap(convolve, (0, None)), images[None].repeat(3, 0), kernel) == 3 * once
    assert both(jax.vmap(convolve), images[None].repeat(3, 0), kernel[None].repeat(3, 0)) == 3 * once


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_native_convolutions(strides):
    """As accelerators have them, in groups too; the gradient of a strided one sees a dilated input."""
    images, kernel, maps = jnp.ones((2, 8, 8, 4)), jnp.ones((2, 2, 2, 8)), (8 // strides[0]) ** 2

    def convolve(x, w):
        return lax.conv_general_dilated(
            x, w, strides, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2
        )

    once = 2 * 2 * maps * 4 * 2 * 8
    assert both(convolve, images, kernel) == once
    assert both(jax.grad(lambda x, w: convolve(x, w).sum()), images, kernel) == once
    assert both(jax.grad(lambda x, w: convolve(x, w).sum(), 1), images, kernel) == once


def test_a_choice_is_its_larger_part_before_and_its_own_in_a_run():
    def choose(index):
        return lax.switch(index, [lambda: SQUARE, lambda: SQUARE @ SQUARE, lambda: SQUARE @ SQUARE @ SQUARE])

    assert count_flops(choose, 0) == (4 * 4**3, False)
    assert [executed(choose, i) for i in range(3)] == [0, 2 * 4**3, 4 * 4**3]
    assert both(lambda p: lax.cond(p, lambda: SQUARE @ SQUARE, lambda: SQUARE.T @ SQUARE), True) == 2 * 4**3


def test_a_loop_of_unknown_length_is_one_turn_before_and_all_of_them_in_a_run():
    def loop(turns):
        return lax.fori_loop(0, turns, lambda i, c: c @ SQUARE, SQUARE)

    assert count_flops(loop, 3) == (2 * 4**3, False)
    assert [executed(loop, turns) for turns in (0, 1, 5)] == [0, 2 * 4**3, 10 * 4**3]
    # Side by side they all go on until the last is done; in a loop each ends by itself.
    assert executed(jax.vmap(loop), jnp.array([1, 4])) == 2 * 4 * 2 * 4**3
    assert executed(lambda turns: lax.map(loop, turns), jnp.array([1, 4])) == (1 + 4) * 2 * 4**3
    # Whoever decides with a product pays for it once more than for the body.
    assert executed(lambda c: lax.while_loop(lambda c: (A[:, :4] @ c).sum() < 40, lambda c: 2 * c, c), SQUARE) == (
        3 * 2 * 3 * 4 * 4
    )
    assert count_flops(lambda n: lax.fori_loop(0, n, lambda i, c: c + 1, 0), 3) == (0, True)


def test_a_scan_hands_on_its_constants_its_carry_and_its_rows():
    def all_turns(matrix, rows):
        def step(carry, more):
            c, turns = carry
            return (lax.fori_loop(0, turns + more, lambda i, c: c @ matrix, c), turns + 1), None

        return lax.scan(step, (SQUARE, 1), rows)[0]

    assert executed(all_turns, SQUARE, jnp.array([0, 2, 1])) == ((1 + 0) + (2 + 2) + (3 + 1)) * 2 * 4**3


def test_only_what_decides_is_computed():
    def update(x):
        big = jnp.sin(x) @ x
        return lax.fori_loop(0, x[0, 0].astype(int), lambda i, c: c @ c, big)

    text = jax.jit(executed_flops(update)).lower(SQUARE).compile().as_text()
    assert " dot(" not in text and "sine" not in text


def test_a_solve_by_cholesky_and_its_gradient():
    k, y, n, m = jnp.eye(6), jnp.ones((6, 2)), 6, 2
    factor, solve = n**3 // 3, 2 * n**2 * m
    assert both(lambda k, y: kernels.kernel_ridge_solve(k, y), k, y) == factor + solve
    # Once more with the same factor, and the product y x^T.
    back = both(jax.grad(lambda y, k: kernels.kernel_ridge_solve(k, y).sum()), y, k)
    assert factor + 2 * solve - solve <= back <= factor + 2 * solve


def test_a_solve_by_conjugate_gradients_is_as_long_as_it_is():
    matrix, right = jnp.diag(jnp.array([1.0, 2.0, 4.0, 8.0])), jnp.ones(4)

    def solve(steps):
        return jax.scipy.sparse.linalg.cg(lambda v: matrix @ v, right, maxiter=steps, tol=0.0)[0]

    one, two, three = (executed(solve, steps) for steps in (1, 2, 3))
    assert three - two == two - one >= 2 * 4**2
    assert not count_flops(solve, 3).exact


@pytest.mark.parametrize(
    ("factorise", "leading"),
    [
        (jnp.linalg.cholesky, 1 / 3),
        (lambda a: jax.scipy.linalg.lu_factor(a)[0], 2 / 3),
        (lambda a: jnp.linalg.qr(a)[0], 8 / 3),
        (lambda a: jnp.linalg.eigh(a)[1], 9),
        (lambda a: jnp.linalg.svd(a)[0], 22),
    ],
)
def test_factorisations_by_their_leading_terms(factorise, leading):
    assert count_flops(factorise, jax.ShapeDtypeStruct((2, 30, 30), jnp.float32)).count == round(leading * 30**3) * 2


def test_devices_count_together():
    mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jnp.ones((8, 5))
    shared = jax.shard_map(lambda rows: rows @ B, mesh=mesh, in_specs=jax.P("d"), out_specs=jax.P("d"))
    assert both(shared, rows) == 2 * 8 * 5 * 7


def test_results_of_the_run_do_not_change():
    """The counting run decides on the very values of the function."""

    def update(x):
        for _ in range(2):
            x = lax.while_loop(lambda x: x.sum() < 100, lambda x: jnp.tanh(x) @ x + x, x + 1.0)
        return x

    x, turns = np.full((4, 4), 0.5, np.float32), 0
    for _ in range(2):
        x = x + 1
        while x.sum() < 100:
            x, turns = np.tanh(x) @ x + x, turns + 1
    assert executed(update, jnp.full((4, 4), 0.5)) == turns * 2 * 4**3


def stepping(turns) -> Method:
    """A method whose update multiplies a square `turns(steps that have been done)` times."""

    def update(key, done, batch):
        product = lax.fori_loop(0, turns(done), lambda i, c: jnp.tanh(c @ c), batch.images[0, :, :, 0])
        return done + 1, {"product": product.sum()}

    return Method(lambda key, data: jnp.int32(0), uniform_sampler(8), update, lambda done: done)


def test_steps_of_a_run_are_counted_as_they_are_timed():
    data = RealData.of(jnp.ones((20, 4, 4, 1)), Labels.index(np.arange(20) % 2))
    for turns, expected in ((lambda done: 3, 3), (lambda done: done, (1 + 2) / 2)):  # the first step is not timed
        cost = engine.plan(stepping(turns), data, count=of_each_step, devices=jax.devices()[:1])
        assert (cost.measured_steps, cost.flops) == (2, expected * 2 * 4**3)
