import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.inner import balanced_plan, epoch_plan, forward_gradient, fwdrev_grad, implicit_gradient, map_networks
from jaxdd.losses import cross_entropy


def loss(theta, x, y, key):
    noise = 0.1 * jax.random.normal(key, x.shape)
    return cross_entropy(jnp.tanh(x + noise) @ theta, y).mean()


def test_fwdrev_grad_is_the_gradient_with_the_same_reverse_pass():
    """With integer labels and a typed key among the arguments, which get no gradient."""
    theta, x = jax.random.normal(jax.random.key(0), (4, 3)), jax.random.normal(jax.random.key(1), (5, 4))
    rest = jnp.arange(5) % 3, jax.random.key(2)

    def meta(grad, x, theta):
        return jnp.sum(jnp.sin(grad(loss)(theta, x, *rest)))

    for argument in (1, 2):
        ours, plain = (
            jax.jit(jax.grad(meta, argument), static_argnums=0)(g, x, theta) for g in (fwdrev_grad, jax.grad)
        )
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-7)


def test_forward_gradient_is_unbiased():
    """The mean over many directions points where the gradient does; it is exact for a linear function's value."""
    params = {"a": jnp.arange(6.0), "b": jnp.ones(4)}

    def function(p):
        return jnp.sum(jnp.sin(p["a"])) + jnp.sum(p["b"] ** 3)

    value, estimate = jax.jit(lambda k: forward_gradient(function, params, k, 4096))(jax.random.key(0))
    np.testing.assert_allclose(value, function(params), rtol=1e-6)
    exact, found = (jax.flatten_util.ravel_pytree(t)[0] for t in (jax.jit(jax.grad(function))(params), estimate))
    assert jnp.vdot(exact, found) / jnp.linalg.norm(exact) / jnp.linalg.norm(found) > 0.98
    np.testing.assert_allclose(jnp.linalg.norm(found), jnp.linalg.norm(exact), rtol=0.15)


@pytest.mark.parametrize("damping", [0.0, 2.0])
def test_implicit_gradient_equals_the_closed_form(damping):
    """Ridge regression: its minimum and the derivative of it are known, and its Hessian, to which damping adds."""
    x, t = jax.random.normal(jax.random.key(0), (8, 3)), jax.random.normal(jax.random.key(1), (6, 3))
    params = {"y": jax.random.normal(jax.random.key(2), (8,)), "ridge": jnp.float32(0.3)}

    def inner(theta, p):
        return 0.5 * jnp.sum((x @ theta - p["y"]) ** 2) + 0.5 * p["ridge"] * jnp.sum(theta**2)

    def outer(theta, p):
        return jnp.sum(jnp.cos(t @ theta)) + 0.1 * p["ridge"]

    def minimum(p):
        return jnp.linalg.solve(x.T @ x + p["ridge"] * jnp.eye(3), x.T @ p["y"])

    closed, exact = jax.jit(jax.value_and_grad(lambda p: outer(minimum(p), p)))(params)
    find = jax.jit(lambda theta, p: implicit_gradient(inner, outer, theta, p, damping=damping))
    value, found = find(theta := minimum(params), params)
    np.testing.assert_allclose(value, closed, rtol=1e-6)
    hessian = x.T @ x + (params["ridge"] + damping) * np.eye(3)
    solved = np.linalg.solve(hessian, -t.T @ np.sin(t @ theta))
    expected = {"y": x @ solved, "ridge": 0.1 - theta @ solved}
    if not damping:
        for a, b in zip(*map(jax.tree.leaves, (expected, exact)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_the_implicit_term_is_no_longer_than_the_direct_one():
    """Where `inner = |theta - p|^2 / 2`, the implicit term is the outer loss's gradient in theta."""
    params = {"short": jnp.array([3.0, 4.0]), "long": jnp.array([3.0, 4.0]), "only_direct": jnp.ones(2)}
    params["only_implicit"] = jnp.ones(2)

    def inner(theta, p):
        return 0.5 * sum(jnp.sum((theta[name] - p[name]) ** 2) for name in theta)

    def outer(theta, p):
        direct = jnp.sum(p["short"]) + 100 * jnp.sum(p["long"]) + jnp.sum(p["only_direct"])
        return direct + 0.5 * sum(jnp.sum(leaf**2) for leaf in theta.values()), jnp.int32(7)

    theta = {name: params[name] for name in ("short", "long", "only_implicit")}
    (_, aux), found = jax.jit(lambda *a: implicit_gradient(inner, outer, *a, clip=True, has_aux=True))(theta, params)
    assert aux == 7
    expected = {
        "short": 1 + params["short"] * 2**0.5 / 5,
        "long": 100 + params["long"],
        "only_direct": jnp.ones(2),
        "only_implicit": jnp.zeros(2),
    }
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 4, None])
def test_one_knob_from_sequential_to_batched(batch_size):
    keys = jax.random.split(jax.random.key(0), 4)

    def one(key):
        return jax.value_and_grad(lambda x: jnp.sum(jax.random.normal(key, (3,)) * x**2))(jnp.arange(3.0))

    expected = jax.tree.map(lambda leaf: leaf.mean(0), jax.jit(jax.vmap(one))(keys))
    found = jax.jit(lambda keys: map_networks(one, keys, batch_size=batch_size))(keys)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_plans():
    plan = np.asarray(epoch_plan(jax.random.key(0), 10, 4, 7))
    assert plan.shape == (7, 4)
    for start in range(0, 6, 2):  # two batches an epoch, without repetition
        assert len(set(plan[start : start + 2].ravel())) == 8
    np.testing.assert_array_equal(epoch_plan(jax.random.key(0), 3, 3, 2), [[0, 1, 2], [0, 1, 2]])
    plan = np.asarray(balanced_plan(jax.random.key(0), 3, 5, 2, 4))
    assert plan.shape == (4, 6)
    for row in plan:
        assert len(set(row)) == 6
        np.testing.assert_array_equal(row // 5, [0, 0, 1, 1, 2, 2])
    for function, arguments in ((epoch_plan, (10, 11, 1)), (balanced_plan, (3, 5, 6, 1))):
        with pytest.raises(ValueError, match="between 1 and"):
            function(jax.random.key(0), *arguments)
