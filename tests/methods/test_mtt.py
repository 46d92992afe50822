"""MTT: its experts and its first updates by hand."""

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxdd import inner, methods, models
from jaxdd.data import augmentation
from jaxdd.engine.stages import foretold
from jaxdd.errors import JaxddError
from jaxdd.types import bound

MLP, CLASSES = "mlp(width=12, depth=1)", 4
OPTIONS = {
    "ipc": 2,
    "model": MLP,
    "steps": 3,
    "span": 2,
    "max_start": 2,
    "batch": 4,
    "augmentation": "cutout",
    "learning_rate": 5.0,
    "rate_learning_rate": 1e-3,
    "inner_learning_rate": 0.05,
    "experts_per_update": 2,
    "experts": 3,
    "expert_epochs": 3,
    "expert_batch": 120,
    "expert_learning_rate": 0.1,
}
BATCHES, ROWS = 4, 4


@pytest.fixture(scope="module")
def done(digits):
    return toys.updates(methods.mtt(**OPTIONS), digits, 30)


def test_an_update_sees_starts_and_goals_of_experts(done, digits):
    """Of networks that were trained on the real digits, batch after batch."""
    network, augment = models.build(MLP, (14, 14, 1), CLASSES), augmentation.named("cutout")
    keys = jax.random.split(jax.random.key(0), 3)
    labels = digits.labels.values

    @jax.jit
    def trajectory(part):
        theta, _ = network.init(jax.random.fold_in(keys[0], part))

        def epoch(theta, number):
            def step(t, theta):
                place = (part * 3 + number) * BATCHES + t
                order = jax.random.permutation(jax.random.fold_in(keys[1], place // BATCHES), len(labels))
                rows = jax.lax.dynamic_slice_in_dim(order, t * 120, 120)
                images = augment.apply(digits.images[rows], augment.draw(jax.random.fold_in(keys[2], place), 120))

                def loss(theta):
                    logits = network.apply(theta, images, {}, train=True)[0]
                    return by_hand.cross_entropy(logits, jax.nn.one_hot(labels[rows], CLASSES))

                return jax.tree.map(lambda leaf, g: leaf - 0.1 * g, theta, jax.grad(loss)(theta))

            theta = jax.lax.fori_loop(0, BATCHES, step, theta)
            return theta, theta

        after = jax.lax.scan(epoch, theta, jnp.arange(3))[1]
        return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), theta, after)

    whole = [trajectory(part) for part in range(3)]
    starts = set()
    for update in done:
        rows = np.asarray(update.batch.rows["experts"])
        assert rows.shape == (2, 2) and len(set(rows[:, 0] // ROWS)) == 2  # two different experts
        np.testing.assert_array_equal(rows[:, 1] - rows[:, 0], 2)
        for k, (first, goal) in enumerate(rows):
            starts.add(int(first % ROWS))
            at = np.array([first % ROWS, goal % ROWS])
            expected = jax.tree.map(lambda leaf, at=at: leaf[at], whole[first // ROWS])
            seen = jax.tree.map(lambda leaf, k=k: leaf[k], update.batch.tables["experts"].theta)
            for a, b in zip(jax.tree.leaves(seen), jax.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert starts == {0, 1}


@jax.jit
@jax.value_and_grad
def plainly(learned, update):
    """The mean over two experts of what is left of the way, by a student's three steps."""
    network, augment = models.build(MLP, (14, 14, 1), CLASSES), augmentation.named("cutout")
    labels = jnp.repeat(jnp.arange(CLASSES), 2)

    def left(expert, key):
        theta, goal = (jax.tree.map(lambda leaf, k=k: leaf[k], expert.theta) for k in (0, 1))
        first, (key_plan, key_draw) = theta, jax.random.split(key)
        plan = inner.epoch_plan(key_plan, 8, 4, 3)
        for t, key_step in enumerate(jax.random.split(key_draw, 3)):
            images = augment.apply(learned["images"][plan[t]], augment.draw(key_step, 4))

            def loss(theta, images=images, t=t):
                logits = network.apply(theta, images, {}, train=True)[0]
                return by_hand.cross_entropy(logits, jax.nn.one_hot(labels[plan[t]], CLASSES))

            slope = jax.grad(loss)(theta)
            theta = jax.tree.map(lambda leaf, g: leaf - learned["learning_rates"] * g, theta, slope)

        def squared(a, b):
            return sum(jnp.sum((x - y) ** 2) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))

        return squared(theta, goal) / squared(first, goal)

    keys = jax.random.split(update.key, 2)
    experts = [jax.tree.map(lambda leaf, k=k: leaf[k], update.batch.tables["experts"]) for k in (0, 1)]
    return (left(experts[0], keys[0]) + left(experts[1], keys[1])) / 2


def test_updates_are_those_of_the_formula(done):
    """By gradient descent with momentum 0.5; the step size is the number itself."""
    rates, velocity = {"images": 5.0, "learning_rates": 1e-3}, dict.fromkeys(("images", "learning_rates"), 0.0)
    assert done[0].before.params["learning_rates"] == np.float32(0.05)
    for update in done[:3]:
        learned = {leaf: update.before.params[leaf] for leaf in rates}
        loss, slopes = plainly(learned, update)
        assert float(update.metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
        for leaf, rate in rates.items():
            velocity[leaf] = np.asarray(slopes[leaf]) + 0.5 * velocity[leaf]
            expected = np.asarray(learned[leaf]) - rate * velocity[leaf]
            by_hand.assert_near(update.after.params[leaf], expected, 1e-4)
        assert update.metrics["step_size"] == update.after.params["learning_rates"] > 0


def test_what_it_minimises_falls(done):
    losses = [float(update.metrics["loss"]) for update in done]
    assert np.mean(losses[-8:]) < 0.95 * np.mean(losses[:8])


def test_published_settings(digits):
    published = {
        "steps": 30,
        "span": 2,
        "max_start": 20,
        "learning_rate": 100.0,
        "rate_learning_rate": 1e-5,
        "inner_learning_rate": 0.001,
        "experts": 100,
        "expert_epochs": 50,
        "expert_batch": 256,
        "expert_learning_rate": 0.01,
        "augmentation": "dsa",
    }
    assert published.items() <= methods.fields("mtt").items()
    recipe = methods.mtt(ipc=1, model=MLP)
    data = foretold(recipe, digits)
    assert len(jax.tree.leaves(data.tables["experts"])[0]) == 100 * 51
    method = bound(recipe, data)
    distilled = jax.eval_shape(lambda key: method.product(method.init(key, data)), jax.random.key(0))
    assert distilled.learning_rates.shape == () and distilled.num_bits > 32 * 4 * 14 * 14


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": 0}, "steps of MTT must be at least 1"),
        ({"span": 51}, "span of MTT must be from 1 to expert_epochs, 50"),
        ({"max_start": 50}, "max_start of MTT must be from 1 to 49, so that the goal is among the epochs"),
        ({"experts_per_update": 101}, "experts_per_update of MTT must be from 1 to experts, 100"),
        ({"learning_rate": 0.0}, "learning_rate of MTT must be positive"),
        ({"augmentation": "blur"}, "blur"),
    ],
)
def test_bad_hyper_parameters_say_what_would_be_right(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.mtt(**options)
