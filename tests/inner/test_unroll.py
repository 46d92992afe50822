"""Meta-gradients: against finite differences, and the same in every memory mode."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdd.inner import adam, epoch_plan, sgd, unroll, window_start
from jaxdd.losses import cross_entropy

OPTIMIZERS = {
    "sgd": sgd(),
    "momentum": sgd(0.9),
    "nesterov": sgd(0.9, nesterov=True),
    "adam": adam(),
}
# Each with the others behind the marker.
SOME_OPTIMIZERS = [
    name if name in ("momentum", "adam") else pytest.param(name, marks=pytest.mark.endurance) for name in OPTIMIZERS
]
STEPS = 7


def network(key, dtype, inputs=6, width=5, classes=3):
    key_a, key_b = jax.random.split(key)
    return {
        "a": jax.random.normal(key_a, (inputs, width), dtype) / np.sqrt(inputs),
        "b": jax.random.normal(key_b, (width, classes), dtype) / np.sqrt(width),
    }


def logits(theta, x):
    return jnp.tanh(x @ theta["a"]) @ theta["b"]


def loss(theta, batch):
    images, labels = batch
    return cross_entropy(logits(theta, images), labels).mean()


def problem(dtype=jnp.float32):
    """Synthetic images, soft labels, log learning rates by step; a held-out batch; a plan of mini-batches."""
    keys = jax.random.split(jax.random.key(0), 5)
    params = {
        "images": jax.random.normal(keys[0], (4, 6), dtype),
        "labels": jax.nn.softmax(jax.random.normal(keys[1], (4, 3), dtype)),
        "rates": jnp.log(jnp.full((STEPS,), 0.1, dtype)),
    }
    real = jax.random.normal(keys[2], (16, 6), dtype), jnp.arange(16) % 3
    return params, network(keys[3], dtype), real, epoch_plan(keys[4], 4, 2, STEPS)


def outer(params, theta0, real, plan, optimizer, steps=STEPS, **options):
    def feed(t):
        rows = plan[t]
        return (params["images"][rows], params["labels"][rows]), jnp.exp(params["rates"][t])

    return loss(unroll(loss, optimizer, theta0, feed, steps, **options).theta, real)


@pytest.mark.parametrize("name", SOME_OPTIMIZERS)
@pytest.mark.parametrize("gradient", ["reverse", "fwdrev"])
def test_gradients_equal_finite_differences(x64, name, gradient):
    """In images, labels and learning rates, in float64."""
    # Adam's first step is the sign of a gradient, smoothed over sqrt(eps_root): make that wider than the differences.
    optimizer = adam(eps_root=1e-4) if name == "adam" else OPTIMIZERS[name]
    with x64():
        params, theta0, real, plan = problem(jnp.float64)

        @jax.jit
        def function(params):
            return outer(params, theta0, real, plan, optimizer, gradient=gradient)

        grads = jax.jit(jax.grad(function))(params)
        for leaf, index in [
            ("images", (0, 0)),
            ("images", (3, 5)),
            ("labels", (1, 2)),
            ("rates", (0,)),
            ("rates", (6,)),
        ]:
            h = 1e-5
            up, down = ({**params, leaf: params[leaf].at[index].add(s * h)} for s in (1, -1))
            expected = (function(up) - function(down)) / (2 * h)
            np.testing.assert_allclose(grads[leaf][index], expected, rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize("name", SOME_OPTIMIZERS)
def test_all_memory_modes_agree(name):
    params, theta0, real, plan = problem()

    @functools.partial(jax.jit, static_argnums=(1, 2))
    def grads(params, gradient, remat):
        return jax.grad(outer)(params, theta0, real, plan, OPTIMIZERS[name], gradient=gradient, remat=remat)

    reference = grads(params, "reverse", "none")
    for modes in itertools.product(("reverse", "fwdrev"), ("none", "step", "sqrt")):
        for a, b in zip(jax.tree.leaves(grads(params, *modes)), jax.tree.leaves(reference), strict=True):
            assert jnp.abs(a - b).max() <= 1e-5 * jnp.abs(b).max(), modes


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_a_python_loop(name):
    params, theta0, _, plan = problem()
    optimizer, theta = OPTIMIZERS[name], theta0
    state = optimizer.init(theta)

    @jax.jit
    def step(theta, state, batch, rate, t):
        return optimizer.step(theta, state, jax.grad(loss)(theta, batch), jnp.exp(rate), t)

    for t in range(STEPS):
        batch = params["images"][plan[t]], params["labels"][plan[t]]
        theta, state = step(theta, state, batch, params["rates"][t], t)

    def feed(t):
        return (params["images"][plan[t]], params["labels"][plan[t]]), jnp.exp(params["rates"][t])

    for prefix in (0, 3):
        end = jax.jit(lambda p, prefix=prefix: unroll(loss, optimizer, p, feed, STEPS - prefix, prefix=prefix))(theta0)
        chex.assert_trees_all_close(end.theta, theta, rtol=1e-5, atol=1e-6)


def test_window_differentiates_only_its_own_steps():
    """A prefix carries no gradient: the window has the gradient of full backpropagation from the end of the prefix."""
    params, theta0, real, plan = problem()
    optimizer = OPTIMIZERS["sgd"]
    windowed = jax.jit(lambda p: jax.grad(outer)(p, theta0, real, plan, optimizer, 4, prefix=3))(params)
    middle = unroll(loss, optimizer, theta0, lambda t: ((params["images"][plan[t]], params["labels"][plan[t]]), 0.1), 3)

    def rest(params):
        def feed(t):
            return (params["images"][plan[t + 3]], params["labels"][plan[t + 3]]), jnp.exp(params["rates"][t + 3])

        return loss(unroll(loss, optimizer, middle.theta, feed, 4).theta, real)

    chex.assert_trees_all_close(windowed, jax.jit(jax.grad(rest))(params), rtol=1e-4, atol=1e-6)
    assert not jnp.any(windowed["rates"][:3]) and jnp.all(windowed["rates"][3:] != 0)


def test_what_a_loss_closes_over_has_no_gradient_from_a_prefix_either():
    _, theta0, real, plan = problem()

    def closed(scale, prefix):
        def scaled(theta, batch):
            return scale * loss(theta, batch)

        def feed(t):
            return (real[0][plan[t]], real[1][plan[t]]), 0.1

        return loss(unroll(scaled, OPTIMIZERS["sgd"], theta0, feed, 2, prefix=prefix).theta, real)

    middle = unroll(loss, OPTIMIZERS["sgd"], theta0, lambda t: ((real[0][plan[t]], real[1][plan[t]]), 0.1), 3).theta

    def rest(scale):
        def feed(t):
            return (real[0][plan[t + 3]], real[1][plan[t + 3]]), 0.1 * scale

        return loss(unroll(loss, OPTIMIZERS["sgd"], middle, feed, 2).theta, real)

    slopes = jax.jit(jax.grad(closed))(1.0, 3), jax.jit(jax.grad(rest))(1.0)
    np.testing.assert_allclose(*slopes, rtol=1e-4)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (sgd(0.9), optax.sgd(0.1, momentum=0.9)),
        (sgd(0.9, nesterov=True), optax.sgd(0.1, momentum=0.9, nesterov=True)),
        (adam(eps_root=0.0), optax.adam(0.1)),
    ],
    ids=["momentum", "nesterov", "adam"],
)
def test_steps_are_those_of_optax(ours, theirs):
    _, theta0, real, _ = problem()
    grads = jax.grad(loss)(theta0, real)
    theta, state = theta0, ours.init(theta0)
    expected, opt_state = theta0, theirs.init(theta0)
    for t, scale in enumerate((1.0, -0.5, 0.1)):
        scaled = jax.tree.map(lambda g, scale=scale: scale * g, grads)
        theta, state = ours.step(theta, state, scaled, 0.1, t)
        updates, opt_state = theirs.update(scaled, opt_state)
        expected = optax.apply_updates(expected, updates)
    chex.assert_trees_all_close(theta, expected, rtol=1e-4)


def test_window_of_full_length_is_full_backpropagation():
    params, theta0, real, plan = problem()
    full = jax.jit(lambda p: jax.grad(outer)(p, theta0, real, plan, OPTIMIZERS["adam"]))(params)
    traced = jax.jit(jax.grad(lambda p, n: outer(p, theta0, real, plan, OPTIMIZERS["adam"], prefix=n)))(params, 0)
    chex.assert_trees_all_close(traced, full, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gradient", ["reverse", "fwdrev"])
def test_one_trace_for_all_window_positions(gradient):
    params, theta0, real, plan = problem()

    @jax.jit
    @chex.assert_max_traces(1)
    def grads(params, prefix):
        return jax.grad(outer)(params, theta0, real, plan, OPTIMIZERS["momentum"], 3, prefix=prefix, gradient=gradient)

    chex.clear_trace_counter()
    results = [grads(params, prefix)["images"] for prefix in range(5)]
    assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(results))


def test_windows():
    key = jax.random.key(0)
    assert window_start("full", key, 5, 5) == 0
    assert window_start("last", key, 2, 9) == 7
    assert window_start("fixed", key, 2, 9, start=3) == 3
    starts = jax.vmap(lambda k: window_start("random", k, 2, 6, start=1))(jax.random.split(key, 200))
    assert set(starts.tolist()) == {1, 2, 3, 4}
    for bad in (("full", 4, 5, 0), ("last", 6, 5, 0), ("random", 3, 5, 3), ("middle", 1, 5, 0)):
        with pytest.raises(ValueError, match="window"):
            window_start(bad[0], key, bad[1], bad[2], start=bad[3])


def test_forward_mode_through_reverse_gradients():
    params, theta0, real, plan = problem()
    direction = jax.tree.map(jnp.ones_like, params)

    def function(p):
        return outer(p, theta0, real, plan, OPTIMIZERS["adam"])

    slope, grads = jax.jit(lambda p: (jax.jvp(function, (p,), (direction,))[1], jax.grad(function)(p)))(params)
    expected = sum(jnp.sum(g) for g in jax.tree.leaves(grads))
    np.testing.assert_allclose(slope, expected, rtol=1e-4)


def test_adam_is_finite_through_a_gradient_of_zero():
    """A dead unit has no gradient; without `eps_root` the meta-gradient through it is NaN."""
    theta0, data = jnp.ones(2), jnp.array([1.0, 0.0])

    def finite(optimizer):
        def function(x):
            end = unroll(lambda theta, batch: jnp.sum(theta * batch), optimizer, theta0, lambda t: (x * data, 0.1), 2)
            return jnp.sum(end.theta**2)

        return jnp.all(jnp.isfinite(jax.jit(jax.grad(function))(jnp.ones(2))))

    assert finite(adam()) and not finite(adam(eps_root=0.0))


def test_memory_grows_with_the_root_of_the_steps():
    def temp(steps, remat):
        theta0 = network(jax.random.key(0), jnp.float32, 64, 256, 10)
        real = jnp.ones((4, 64)), jnp.zeros(4, int)

        def function(x):
            end = unroll(loss, sgd(), theta0, lambda t: ((x, jnp.zeros(4, int)), 0.1), steps, remat=remat)
            return loss(end.theta, real)

        compiled = jax.jit(jax.grad(function)).lower(jnp.ones((4, 64))).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    step, root = (temp(400, remat) / temp(25, remat) for remat in ("step", "sqrt"))
    assert step > 8  # one set of parameters for each step
    assert root < 5  # 4 times as many segments and steps in a segment


@pytest.mark.parametrize("options", [{"gradient": "forward"}, {"remat": "all"}, {"steps": 0}])
def test_bad_arguments(options):
    params, theta0, real, plan = problem()
    with pytest.raises(ValueError, match=r"must be one of|at least one step"):
        outer(params, theta0, real, plan, sgd(), **options)
