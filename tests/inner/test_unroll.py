"""Meta-gradients: against finite differences, and the same in every memory mode."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdd.inner import adam, gradient_norms, sgd, unroll, window_start
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
ALL_MODES = list(itertools.product(("reverse", "fwdrev"), ("none", "step", "sqrt")))


def logits(theta, x):
    return jnp.tanh(x @ theta["a"]) @ theta["b"]


def loss(theta, batch):
    images, labels = batch
    return cross_entropy(logits(theta, images), labels).mean()


def problem(dtype="f"):
    """Synthetic images, soft labels, log learning rates by step; a network; a held-out batch; mini-batches by step."""
    rng, inputs, width, classes = np.random.default_rng(0), 6, 5, 3
    labels = np.exp(rng.normal(size=(4, classes)))
    params = {
        "images": rng.normal(size=(4, inputs)),
        "labels": labels / labels.sum(1, keepdims=True),
        "rates": np.full(STEPS, np.log(0.1)),
    }
    theta0 = {
        "a": rng.normal(size=(inputs, width)) / np.sqrt(inputs),
        "b": rng.normal(size=(width, classes)) / np.sqrt(width),
    }
    params, theta0, images = jax.tree.map(
        lambda leaf: jax.device_put(leaf.astype(dtype)), (params, theta0, rng.normal(size=(16, inputs)))
    )
    plan = np.concatenate([rng.permutation(4).reshape(2, 2) for _ in range(STEPS)])[:STEPS]
    return params, theta0, (images, jax.device_put(np.arange(16) % classes)), jax.device_put(plan)


def outer(params, theta0, real, plan, optimizer, steps=STEPS, **options):
    def feed(t):
        rows = plan[t]
        return (params["images"][rows], params["labels"][rows]), jnp.exp(params["rates"][t])

    return loss(unroll(loss, optimizer, theta0, feed, steps, **options).theta, real)


@pytest.mark.parametrize("gradient", ["reverse", "fwdrev", "detached"])
def test_examples_some_at_a_time_give_the_same(gradient):
    """Blocks of one of the two rows of a step; of three, which do not divide, all at once."""
    params, theta0, real, plan = problem()

    @functools.partial(jax.jit, static_argnames="block")
    def function(params, theta0, block):
        left = functools.partial(outer, real=real, plan=plan, optimizer=sgd(0.9), gradient=gradient, block=block)
        return jax.value_and_grad(left)(params, theta0)

    expected = function(params, theta0, None)
    chex.assert_trees_all_close(function(params, theta0, 1), expected, rtol=1e-5, atol=1e-7)
    chex.assert_trees_all_equal(function(params, theta0, 3), expected)


@pytest.mark.endurance
def test_examples_some_at_a_time_before_the_window_too():
    params, theta0, *_ = problem()
    seen = set()

    def watched(theta, batch):
        seen.add(batch[0].shape[0])
        return loss(theta, batch)

    def feed(t):
        return (params["images"], params["labels"]), 0.1

    jax.eval_shape(lambda: unroll(watched, sgd(), theta0, feed, 2, prefix=3, block=2))
    assert seen == {2}
    for block in (0, -1, 1.5):
        with pytest.raises(ValueError, match="the block of an unroll must be an integer of at least 1"):
            unroll(watched, sgd(), theta0, feed, 2, block=block)


@pytest.mark.parametrize("name", SOME_OPTIMIZERS)
@pytest.mark.parametrize("gradient", ["reverse", "fwdrev"])
def test_gradients_equal_finite_differences(x64, name, gradient):
    """In images, labels and learning rates, in float64."""
    # Adam's first step is the sign of a gradient, smoothed over sqrt(eps_root): make that wider than the differences.
    optimizer = adam(eps_root=1e-4) if name == "adam" else OPTIMIZERS[name]
    with x64():
        params, theta0, real, plan = problem("d")

        def function(params):
            return outer(params, theta0, real, plan, optimizer, gradient=gradient)

        entries = [("images", (0, 0)), ("images", (3, 5)), ("labels", (1, 2)), ("rates", (0,)), ("rates", (6,))]
        h = 1e-5
        moved = {leaf: np.stack([params[leaf]] * 2 * len(entries)) for leaf in params}
        for number, (leaf, index) in enumerate(entries):
            moved[leaf][2 * number][index] += h
            moved[leaf][2 * number + 1][index] -= h
        grads, values = jax.jit(lambda params, moved: (jax.grad(function)(params), jax.vmap(function)(moved)))(
            params, moved
        )
        for (leaf, index), (up, down) in zip(entries, np.reshape(values, (-1, 2)), strict=True):
            np.testing.assert_allclose(grads[leaf][index], (up - down) / (2 * h), rtol=2e-5, atol=1e-9)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def full_gradients(given, name, gradient, remat):
    return jax.grad(outer)(*given, OPTIMIZERS[name], gradient=gradient, remat=remat)


@pytest.mark.parametrize(
    ("name", "modes"),
    # Of momentum, "step" is in the finite differences, and of Adam "fwdrev" with it.
    [("adam", [mode for mode in ALL_MODES if mode != ("fwdrev", "step")]), ("momentum", [("fwdrev", "sqrt")])]
    + [pytest.param(name, ALL_MODES, marks=pytest.mark.endurance) for name in OPTIMIZERS],
)
def test_all_memory_modes_agree(name, modes):
    given = problem()
    reference = full_gradients(given, name, "reverse", "none")
    for each in modes:
        found = full_gradients(given, name, *each)
        for a, b in zip(map(np.asarray, jax.tree.leaves(found)), jax.tree.leaves(reference), strict=True):
            assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max(), each


def test_equals_a_python_loop():
    """Each of the optimisers, with and without a prefix."""
    params, theta0, _, plan = problem()

    @jax.jit
    def step(now, batch, rate, t):
        return {
            name: OPTIMIZERS[name].step(theta, state, jax.grad(loss)(theta, batch), jnp.exp(rate), t)
            for name, (theta, state) in now.items()
        }

    now = jax.jit(lambda theta: {name: (theta, each.init(theta)) for name, each in OPTIMIZERS.items()})(theta0)
    images, labels, rows = (np.asarray(leaf) for leaf in (params["images"], params["labels"], plan))
    for t in range(STEPS):
        now = step(now, (images[rows[t]], labels[rows[t]]), np.asarray(params["rates"])[t], t)

    def feed(t):
        return (params["images"][plan[t]], params["labels"][plan[t]]), jnp.exp(params["rates"][t])

    @jax.jit
    def ends(theta0):
        return {
            name: [unroll(loss, optimizer, theta0, feed, STEPS - prefix, prefix=prefix).theta for prefix in (0, 3)]
            for name, optimizer in OPTIMIZERS.items()
        }

    for name, of_optimizer in ends(theta0).items():
        for end in of_optimizer:
            chex.assert_trees_all_close(end, now[name][0], rtol=1e-5, atol=1e-6)


def test_window_differentiates_only_its_own_steps():
    """A prefix carries no gradient: the window has the gradient of full backpropagation from the end of the prefix."""
    params, theta0, real, plan = problem()
    optimizer = OPTIMIZERS["sgd"]

    def in_middle(theta0):
        return unroll(loss, optimizer, theta0, lambda t: ((images[plan[t]], labels[plan[t]]), 0.1), 3).theta

    images, labels = params["images"], params["labels"]

    def rest(params, middle):
        def feed(t):
            return (params["images"][plan[t + 3]], params["labels"][plan[t + 3]]), jnp.exp(params["rates"][t + 3])

        return loss(unroll(loss, optimizer, middle, feed, 4).theta, real)

    @jax.jit
    def both(params):
        windowed = jax.grad(outer)(params, theta0, real, plan, optimizer, 4, prefix=3)
        return windowed, jax.grad(rest)(params, in_middle(theta0))

    windowed, expected = jax.device_get(both(params))
    chex.assert_trees_all_close(windowed, expected, rtol=1e-4, atol=1e-6)
    assert not windowed["rates"][:3].any() and (windowed["rates"][3:] != 0).all()


@pytest.mark.parametrize(
    ("gradient", "remat"), [("fwdrev", "step"), pytest.param("reverse", "sqrt", marks=pytest.mark.endurance)]
)
def test_a_shorter_length_is_an_unroll_of_so_many_steps(gradient, remat):
    """All lengths from any place by one program, also one that would end after the last step."""
    params, theta0, real, plan = problem()
    options = {"gradient": gradient, "remat": remat}

    @jax.jit
    @chex.assert_max_traces(1)
    def found(params, prefix, length):
        return jax.value_and_grad(outer)(
            params, theta0, real, plan, OPTIMIZERS["momentum"], 5, prefix=prefix, length=length, **options
        )

    chex.clear_trace_counter()
    for prefix, length in ((1, 2), (4, 3)):
        expected = shorter(problem(), length, prefix, gradient, remat)
        for a, b in zip(*map(jax.tree.leaves, (found(params, prefix, length), expected)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * np.abs(b).max())


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def shorter(given, length, prefix, gradient, remat):
    return jax.value_and_grad(outer)(
        *given, OPTIMIZERS["momentum"], length, prefix=prefix, gradient=gradient, remat=remat
    )


def test_norms_of_gradients_are_those_of_each_step():
    params, theta0, _, plan = problem()

    def feed(t):
        return (params["images"][plan[t]], params["labels"][plan[t]]), 0.1 * (t + 1)

    @jax.jit
    def plainly(theta):
        norms = []
        for t in range(3):
            slope = jax.grad(loss)(theta, feed(t)[0])
            norms.append(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in slope.values())))
            theta = jax.tree.map(lambda p, g, t=t: p - 0.1 * (t + 1) * g, theta, slope)
        return jnp.stack(norms)

    found = jax.jit(lambda theta: gradient_norms(loss, OPTIMIZERS["sgd"], theta, feed, 3))(theta0)
    np.testing.assert_allclose(found, plainly(theta0), rtol=1e-5)
    assert np.ptp(found) > 0.01


def test_what_a_loss_closes_over_has_no_gradient_from_a_prefix_either():
    _, theta0, real, plan = problem()

    def closed(scale, prefix):
        def scaled(theta, batch):
            return scale * loss(theta, batch)

        def feed(t):
            return (real[0][plan[t]], real[1][plan[t]]), 0.1

        return loss(unroll(scaled, OPTIMIZERS["sgd"], theta0, feed, 2, prefix=prefix).theta, real)

    def rest(scale, middle):
        def feed(t):
            return (real[0][plan[t + 3]], real[1][plan[t + 3]]), 0.1 * scale

        return loss(unroll(loss, OPTIMIZERS["sgd"], middle, feed, 2).theta, real)

    @jax.jit
    def slopes(scale):
        middle = unroll(loss, OPTIMIZERS["sgd"], theta0, lambda t: ((real[0][plan[t]], real[1][plan[t]]), 0.1), 3)
        return jax.grad(closed)(scale, 3), jax.grad(rest)(scale, middle.theta)

    np.testing.assert_allclose(*slopes(1.0), rtol=1e-4)


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

    @jax.jit
    def both(theta0):
        grads = jax.grad(loss)(theta0, real)
        theta, state = theta0, ours.init(theta0)
        expected, opt_state = theta0, theirs.init(theta0)
        for t, scale in enumerate((1.0, -0.5, 0.1)):
            scaled = jax.tree.map(lambda g, scale=scale: scale * g, grads)
            theta, state = ours.step(theta, state, scaled, 0.1, t)
            updates, opt_state = theirs.update(scaled, opt_state)
            expected = optax.apply_updates(expected, updates)
        return theta, expected

    chex.assert_trees_all_close(*both(theta0), rtol=1e-4, atol=1e-5)


def test_window_of_full_length_is_full_backpropagation():
    params, theta0, real, plan = problem()
    full = full_gradients(problem(), "adam", "reverse", "step")
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
    direction = jax.tree.map(np.ones_like, params)

    def function(p):
        return outer(p, theta0, real, plan, OPTIMIZERS["adam"])

    slope = jax.jit(lambda p: jax.jvp(function, (p,), (direction,))[1])(params)
    grads = jax.device_get(full_gradients(problem(), "adam", "reverse", "step"))
    expected = sum(np.sum(g) for g in jax.tree.leaves(grads))
    np.testing.assert_allclose(slope, expected, rtol=1e-4)


def test_adam_is_finite_through_a_gradient_of_zero():
    """A dead unit has no gradient; without `eps_root` the meta-gradient through it is NaN."""
    theta0, data = jnp.ones(2), jnp.array([1.0, 0.0])

    def finite(optimizer):
        def function(x):
            end = unroll(lambda theta, batch: jnp.sum(theta * batch), optimizer, theta0, lambda t: (x * data, 0.1), 2)
            return jnp.sum(end.theta**2)

        return np.isfinite(jax.jit(jax.grad(function))(jnp.ones(2))).all()

    assert finite(adam()) and not finite(adam(eps_root=0.0))


def test_memory_grows_with_the_root_of_the_steps():
    def temp(steps, remat):
        def square(theta, x):
            return jnp.sum(jnp.tanh(x @ theta) ** 2)

        def function(x, theta0):
            end = unroll(square, sgd(), theta0, lambda t: (x, 0.1), steps, remat=remat)
            return square(end.theta, x)

        shapes = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((4, 64), (64, 256)))
        compiled = jax.jit(jax.grad(function)).lower(*shapes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    step, root = (temp(400, remat) / temp(25, remat) for remat in ("step", "sqrt"))
    assert step > 8  # one set of parameters for each step
    assert root < 5  # 4 times as many segments and steps in a segment


@pytest.mark.parametrize("options", [{"gradient": "forward"}, {"remat": "all"}, {"steps": 0}])
def test_bad_arguments(options):
    params, theta0, real, plan = problem()
    with pytest.raises(ValueError, match=r"must be one of|at least one step"):
        outer(params, theta0, real, plan, sgd(), **options)


@pytest.mark.parametrize("remat", ["step", "sqrt"])
def test_detached_is_the_gradient_of_an_unroll_whose_parameters_are_constants(remat):
    """TESLA's: each gradient is taken at parameters that nothing is differentiated through."""
    given = problem()

    def plainly(params, theta0, real, plan):
        theta = theta0
        for t in range(STEPS):
            batch = (params["images"][plan[t]], params["labels"][plan[t]])
            slope = jax.grad(loss)(jax.lax.stop_gradient(theta), batch)
            theta = jax.tree.map(lambda p, g, t=t: p - jnp.exp(params["rates"][t]) * g, theta, slope)
        return loss(theta, real)

    expected = jax.jit(jax.grad(plainly))(*given)
    found = full_gradients(given, "sgd", "detached", remat)
    exact = full_gradients(given, "sgd", "reverse", "none")
    for leaf in found:
        np.testing.assert_allclose(found[leaf], expected[leaf], rtol=1e-5, atol=1e-5 * np.abs(expected[leaf]).max())
    assert np.abs(found["images"] - exact["images"]).max() > 1e-3 * np.abs(exact["images"]).max()


@pytest.mark.parametrize("remat", ["none", "sqrt"])
def test_a_walk_is_every_step(remat):
    """And a loss may be taken at any of them."""
    params, theta0, real, plan = problem()

    def ends(params, length, walk):
        def feed(t):
            return (params["images"][plan[t]], params["labels"][plan[t]]), jnp.exp(params["rates"][t])

        return unroll(loss, OPTIMIZERS["momentum"], theta0, feed, length, remat=remat, walk=walk)

    def at_four(params):
        return loss(jax.tree.map(lambda leaf: leaf[3], ends(params, STEPS, True).walk), real)

    def shorter(params):
        return loss(ends(params, 4, False).theta, real)

    whole, found, expected = jax.jit(
        lambda params: (ends(params, STEPS, True), jax.grad(at_four)(params), jax.grad(shorter)(params))
    )(params)
    for each, last in zip(*map(jax.tree.leaves, (whole.walk, whole.theta)), strict=True):
        assert len(each) == STEPS
        np.testing.assert_array_equal(each[-1], last)
    for leaf in found:
        np.testing.assert_allclose(found[leaf], expected[leaf], rtol=1e-5, atol=1e-6)
