"""RCIG: implicit gradients through linearised networks whose head is solved exactly."""

import re

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxdd import methods, models
from jaxdd.errors import JaxddError
from jaxdd.types import TRAINED_FEATURES, Batch, bound

MLP = "mlp(width=8, depth=1)"
OPTIONS = {
    "model": MLP, "pool": 2, "max_age": 4, "pool_steps": 3, "pool_learning_rate": 0.01, "target_batch": 20,
    "block": 8, "learning_rate": 0.02, "scale_learning_rate": 0.05, "ema": 0.15, "ridge": 1.0,
    "inner_steps": 60, "hessian_steps": 60, "flip": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def method(digits):
    return bound(toys.build("rcig", **OPTIONS), digits)


@pytest.fixture(scope="module")
def done(method, digits):
    """From labels so small that the margin pulls them, none like another, and a pool of which one network is old."""

    def start(state):
        params = {**state.params, "labels": 0.1 * state.params["labels"] + 0.01 * jnp.arange(4)[None]}
        return state._replace(params=params, average=params, pool=state.pool._replace(age=jnp.array([4, 0])))

    return toys.updates(method, digits, 60, start=start)


def mirrored(params):
    images, labels = params["images"], params["labels"]
    return jnp.concatenate([images, jnp.flip(images, 2)]), jnp.concatenate([labels, labels])


@jax.jit
def plainly(learned, theta, batch):
    """Loss, direct gradient and implicit gradient.

    By the book: the Jacobian of the body is written out, and the change of the body that is best on the support comes
    from the normal equations in their dual form, all derivatives through that solve included.
    """
    network = models.build(MLP, (14, 14, 1), 4)
    body = theta["dense_0"]

    def tangent(x):
        jacobian = jax.jacrev(lambda body: network.apply({**theta, "dense_0": body}, x, {})[0])(body)
        jacobian = [leaf.reshape(len(x), 4, -1) for leaf in jax.tree.leaves(jacobian)]
        return network.features(theta, x, {})[0], jnp.concatenate(jacobian, axis=2)

    f_t, j_t = tangent(batch.images)

    def parts(learned):
        images, labels = mirrored(learned)
        features, jacobian = tangent(images)
        kernel = features @ features.T
        return features, jacobian, labels, kernel + jnp.trace(kernel) / 8 * jnp.eye(8)

    def best(learned):
        _, jacobian, labels, kernel = parts(learned)
        jacobian = jacobian.reshape(32, -1)
        dual = jnp.linalg.solve(jnp.kron(kernel, jnp.eye(4)) + jacobian @ jacobian.T, labels.reshape(32))
        return jacobian.T @ dual

    def outer(change, learned):
        features, jacobian, labels, kernel = parts(learned)
        head = features.T @ jnp.linalg.solve(kernel, labels - jacobian @ change)
        predictions = j_t @ change + f_t @ head
        ordered = jnp.sort(labels, axis=1)
        margin = jnp.minimum(ordered[:, -1] - ordered[:, -2], 0.5 / 4).mean()
        wanted = jax.nn.one_hot(batch.labels, 4)
        accuracy = jnp.mean(predictions.argmax(1) == batch.labels)
        return by_hand.cross_entropy(jnp.exp(learned["scale"]) * predictions, wanted) - margin, accuracy

    change, pull = jax.vjp(best, learned)
    (loss, accuracy), (of_change, direct) = jax.value_and_grad(outer, (0, 1), has_aux=True)(change, learned)
    return loss, accuracy, direct, pull(of_change)[0]


@jax.jit
def regressed(theta, params):
    """The gradient of half the mean squared error on the set and its mirror images."""
    network, (images, labels) = models.build(MLP, (14, 14, 1), 4), mirrored(params)

    def loss(theta):
        return 0.5 * jnp.mean(jnp.sum((network.apply(theta, images, {})[0] - labels) ** 2, axis=1))

    return jax.grad(loss)(theta)


@jax.jit
def drawn(key):
    """Which network, for how many steps it is trained, and which takes its place if it is old."""
    key_choose, key_steps, key_advance = jax.random.split(key, 3)
    fresh = models.build(MLP, (14, 14, 1), 4).init(jax.random.split(key_advance, 1)[0])[0]
    return jax.random.randint(key_choose, (1,), 0, 2)[0], jax.random.randint(key_steps, (), 1, 4), fresh


def test_updates_are_those_of_the_formula(done):
    """By AdaBelief; no implicit term is longer than the direct one; the average follows, at first faster."""
    optimizers, of_scale = {leaf: by_hand.AdaBelief() for leaf in ("images", "labels")}, by_hand.AdaBelief()
    average, ratios, used = done[0].before.params, [], []
    of_networks = {}
    for update, decay in zip(done[:4], (1 / 10, 0.15, 0.15, 0.15), strict=True):
        slot, steps, fresh = drawn(update.key)
        slot, steps = int(slot), int(steps)
        theta = jax.tree.map(lambda leaf, slot=slot: leaf[slot], update.before.pool.theta)
        with jax.enable_x64(True):
            given = ({**update.before.params, "scale": update.before.log_scale}, theta, update.batch)
            given = jax.tree.map(lambda a: jnp.asarray(a, "float64") if a.dtype == jnp.float32 else a, given)
            loss, accuracy, direct, implicit = jax.tree.map(np.asarray, plainly(*given))
        assert float(update.metrics["loss"]) == pytest.approx(float(loss), rel=1e-4)
        assert float(update.metrics["batch_accuracy"]) == pytest.approx(float(accuracy), abs=1e-6)
        slopes = {}
        for leaf in direct:
            limit, length = np.linalg.norm(direct[leaf]), np.linalg.norm(implicit[leaf])
            slopes[leaf] = direct[leaf] + implicit[leaf] * min(1, limit / max(length, 1e-30))
            if length:
                ratios.append(length / limit)
        by_hand.assert_stepped(update, slopes, optimizers, dict.fromkeys(optimizers, 0.02))
        moved = float(update.before.log_scale) - float(update.after.log_scale)
        assert moved == pytest.approx(0.05 * float(of_scale.step(slopes["scale"])), rel=3e-3)
        average = {leaf: decay * average[leaf] + (1 - decay) * new for leaf, new in update.after.params.items()}
        for leaf, expected in average.items():
            np.testing.assert_allclose(update.after.average[leaf], expected, atol=1e-5, err_msg=leaf)

        age = int(update.before.pool.age[slot])
        if age >= 4:
            theta, age = fresh, 0
            of_networks.pop(slot, None)
        else:
            adam = of_networks.setdefault(slot, jax.tree.map(lambda _: by_hand.Adam(), theta))
            for _ in range(steps):
                slope = regressed(theta, update.after.params)
                theta = jax.tree.map(lambda p, a, g: np.float32(p - 0.01 * a.step(g)), theta, adam, slope)
            age += steps
        expected = jax.tree.map(lambda leaf, new, slot=slot: leaf.at[slot].set(new), update.before.pool.theta, theta)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-5), update.after.pool.theta, expected)
        np.testing.assert_array_equal(update.after.pool.age, update.before.pool.age.at[slot].set(age))
        used.append(slot)
    assert min(ratios) < 0.9 and max(ratios) > 1.1, "one is cut and another is not"
    assert used.count(0) > 1 and used.count(1) > 1, "an old network is renewed, each is used twice"


def test_it_learns_and_the_average_is_the_result(method, done):
    losses = [float(update.metrics["loss"]) for update in done]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    distilled, state = jax.jit(method.distilled)(done[-1].after), done[-1].after
    np.testing.assert_array_equal(distilled.params["images"], state.average["images"])
    assert not np.array_equal(state.average["images"], state.params["images"])
    assert dict(distilled.kernel) == {"name": TRAINED_FEATURES, "ridge": 1.0}
    assert (distilled.label_convention, distilled.iterate) == ("centred", "average")


def test_the_set_is_not_mirrored_unless_it_is_told(digits):
    """By the size of what is solved."""
    method = bound(toys.build("rcig", **{**OPTIONS, "flip": False, "ema": 0.0}), digits)
    state = jax.eval_shape(method.init, jax.random.key(0), digits)
    batch = Batch.of(*(leaf[:20] for leaf in digits.examples))
    program = str(jax.make_jaxpr(method.update)(jax.random.key(0), state, batch))
    assert set(re.findall(r":(\S+) = cholesky", program)) == {"f32[4,4]"}
    assert jax.eval_shape(method.distilled, state).iterate == "last"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ipc": 0}, "ipc of RCIG must be at least 1, got 0"),
        ({"pool": 0}, "pool of RCIG must be at least 1, got 0"),
        ({"max_age": 0}, "max_age of RCIG must be at least 1"),
        ({"pool_steps": 0}, "pool_steps of RCIG must be at least 1"),
        ({"inner_steps": 0}, "inner_steps of RCIG must be at least 1"),
        ({"hessian_steps": 0}, "hessian_steps of RCIG must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate of RCIG must be positive and finite"),
        ({"ema": 1.0}, "ema of RCIG must be at least 0 and under 1"),
        ({"ridge": -1.0}, "ridge of RCIG must be at least 0"),
        ({"networks": 2}, "option of RCIG"),
    ],
)
def test_bad_hyper_parameters(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build("rcig", **options)


def test_what_decides_a_solve_is_float32_whatever_the_policy(digits):
    """The network of the pool is trained in bfloat16; what is learned has the very bits of float32."""
    options = {**OPTIONS, "inner_steps": 5, "hessian_steps": 5, "target_precision": "float32"}
    method = bound(toys.build("rcig", **options), digits)
    exact = toys.updates(method, digits, 1)[0]
    with models.matmul_precision("bfloat16"):
        rounded = toys.updates(method, digits, 1)[0]
    toys.assert_same(rounded.after.params, exact.after.params)
    apart = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), rounded.after.pool, exact.after.pool)
    assert max(jax.tree.leaves(apart)) > 1e-5
