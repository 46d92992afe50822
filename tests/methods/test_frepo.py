"""FRePo: kernel ridge regression on the features of a pool."""

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxdd import evaluation, methods, models
from jaxdd.errors import JaxddError
from jaxdd.types import TRAINED_FEATURES, Batch, bound

NORMED = models.from_linen(by_hand.Normed(), (14, 14, 1))
OPTIONS = {
    "model": NORMED, "pool": 3, "max_age": 3, "pool_learning_rate": 0.01, "networks": 2, "target_batch": 20,
    "block": 8, "learning_rate": 0.1, "decay_steps": 4, "ridge": 1e-2,
}  # fmt: skip


@pytest.fixture(scope="module")
def done(digits):
    """From labels so small that the margin pulls them, none like another, and a pool of which one network is old."""

    def start(state):
        params = {**state.params, "labels": 0.1 * state.params["labels"] + 0.01 * jnp.arange(4)[None]}
        return state._replace(params=params, pool=state.pool._replace(age=jnp.array([0, 3, 0])))

    return toys.updates(toys.build("frepo", **OPTIONS, flip=True), digits, 40, start=start)


@jax.jit
def plainly(params, theta, stats, batch):
    """Loss, accuracy and gradient of one network, on images and their mirror images, in evaluation mode."""

    def loss(params):
        support = jnp.concatenate([params["images"], jnp.flip(params["images"], 2)])
        f_s, f_t = (NORMED.features(theta, images, stats)[0] for images in (support, batch.images))
        kernel = f_s @ f_s.T
        kernel += 1e-2 * jnp.trace(kernel) / 8 * jnp.eye(8)
        predictions = f_t @ f_s.T @ jnp.linalg.solve(kernel, jnp.concatenate([params["labels"], params["labels"]]))
        error = jnp.sum((predictions - (jax.nn.one_hot(batch.labels, 4) - 1 / 4)) ** 2, axis=1)
        ordered = jnp.sort(params["labels"], axis=1)
        margin = jnp.minimum(ordered[:, -1] - ordered[:, -2], 1 / 4)
        return 0.5 * error.mean() - margin.mean(), jnp.mean(predictions.argmax(1) == batch.labels)

    return jax.value_and_grad(loss, has_aux=True)(params)


@jax.jit
def regressed(theta, stats, images, labels):
    """The gradient of half the squared error of one network in training mode, and its new statistics."""

    def loss(theta):
        outputs, after = NORMED.apply(theta, images, stats, train=True)
        return 0.5 * jnp.mean(jnp.sum((outputs - labels) ** 2, axis=1)), after

    return jax.grad(loss, has_aux=True)(theta)


@jax.jit
def drawn(key):
    """Which networks an update uses, and those that take the place of old ones."""
    key_choose, key_advance = jax.random.split(key)
    return jax.random.choice(key_choose, 3, (2,), replace=False), jax.vmap(NORMED.init)(jax.random.split(key_advance))


def of_slot(pool, slot):
    return jax.tree.map(lambda leaf: np.asarray(leaf[slot]), (pool.theta, pool.stats))


def test_labels_start_centred_and_scaled_by_the_number_of_classes(done):
    first = (np.eye(4) - 1 / 4) / np.sqrt(4 / 10)
    np.testing.assert_allclose(done[0].before.params["labels"], 0.1 * first + 0.01 * np.arange(4), atol=1e-6)


def test_updates_are_those_of_the_formula(done):
    """By LAMB at a rate that falls by a cosine to a tenth; then the chosen networks are trained on the new set."""
    optimizers = {leaf: by_hand.Lamb() for leaf in ("images", "labels")}
    of_networks = [jax.tree.map(lambda _: by_hand.Adam(), of_slot(done[0].before.pool, slot)[0]) for slot in range(3)]
    used = []
    for step, update in enumerate(done[:3]):
        chosen, fresh = drawn(update.key)
        results = [plainly(update.before.params, *of_slot(update.before.pool, s), update.batch) for s in chosen]
        (loss, accuracy), slopes = jax.tree.map(lambda *both: np.mean(both, axis=0), *results)
        assert float(update.metrics["loss"]) == pytest.approx(float(loss), rel=1e-4)
        assert float(update.metrics["batch_accuracy"]) == pytest.approx(float(accuracy), abs=1e-6)
        rate = 0.1 * (0.1 + 0.9 * (1 + np.cos(np.pi * step / 4)) / 2)
        by_hand.assert_stepped(update, slopes, optimizers, dict.fromkeys(optimizers, rate))

        images, labels = update.after.params["images"], update.after.params["labels"]
        for slot in range(3):
            theta, stats = of_slot(update.before.pool, slot)
            age = int(update.before.pool.age[slot])
            if slot in chosen and age >= 3:
                place = list(chosen).index(slot)
                theta, stats = jax.tree.map(lambda leaf, place=place: leaf[place], fresh)
                of_networks[slot], age = jax.tree.map(lambda _: by_hand.Adam(), theta), 0
            elif slot in chosen:
                slope, stats = regressed(theta, stats, images, labels)
                theta = jax.tree.map(lambda p, a, g: p - 0.01 * a.step(g), theta, of_networks[slot], slope)
                age += 1
            found = of_slot(update.after.pool, slot)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, (theta, stats))
            assert int(update.after.pool.age[slot]) == age
        used += [int(slot) for slot in chosen]
    assert used.count(1) and max(used.count(0), used.count(2)) > 1, "an old network is renewed, a young one used twice"


def test_it_learns(done):
    losses = [float(update.metrics["loss"]) for update in done]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_the_file_says_how_it_predicts_and_the_solve_may_be_in_float64(digits):
    """As the program does, here of convolutions, which sees no mirror images unless it is told."""
    method = bound(
        toys.build("frepo", **{**OPTIONS, "model": "wide_convnet(width=4, depth=1)", "float64": True}), digits
    )
    state = jax.eval_shape(method.init, jax.random.key(0), digits)
    batch = Batch.of(*(leaf[:20] for leaf in digits.examples))
    program = str(jax.make_jaxpr(method.update)(jax.random.key(0), state, batch))
    assert "f64[4,4]" in program and "f64[8,8]" not in program
    distilled = jax.eval_shape(method.distilled, state)
    assert distilled.label_convention == "centred" and dict(distilled.kernel)["name"] == TRAINED_FEATURES
    predictor = evaluation.Predictor.of(dict(distilled.kernel), (14, 14, 1), 4)
    assert predictor == evaluation.Predictor(None, 1e-2, True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pool": 0}, "pool of FRePo must be at least 1"),
        ({"networks": 4, "pool": 3}, "networks of FRePo must be at least 1 and at most the pool"),
        ({"max_age": 0}, "max_age of FRePo must be at least 1"),
        ({"ridge": -1.0}, "ridge of FRePo must be at least 0"),
        ({"ipc": 0}, "ipc of FRePo must be at least 1"),
        ({"decay_steps": 0}, "decay_steps of FRePo must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate of FRePo must be positive and finite"),
    ],
)
def test_bad_hyper_parameters(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build("frepo", **options)
