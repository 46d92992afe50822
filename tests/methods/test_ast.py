"""AST: where students start, what weighs their steps, and updates by hand."""

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import toys
from walking_by_hand import CLASSES, OPTIONS, ROWS, assert_updates, flat, network

from jaxdd import engine, inner, methods
from jaxdd.data import augmentation
from jaxdd.methods.trajectory.ast import balanced, perturbed

ONE = {"span": 2, "max_start": 2, "experts_per_update": 1}
AST = OPTIONS | ONE | {"momentum": 0.8, "perturbation": 0.0, "penalty": 0.0}


@jax.jit
@jax.value_and_grad
def plainly(learned, update):
    """Three steps with momentum; half the distance to the epoch between after the first, and that to the goal."""
    (key,) = jax.random.split(update.key, 1)
    experts = jax.tree.map(lambda leaf: leaf[0], update.batch.tables["experts"].theta)
    start, between, goal = (jax.tree.map(lambda leaf, k=k: leaf[k], experts) for k in range(3))
    # The middle of the first epochs is 1: a start there weighs log_5(8), one before it 1 / log_5(9).
    late = update.batch.rows["experts"][0, 0] % ROWS == 1
    weight = jnp.where(late, np.log(8) / np.log(5), np.log(5) / np.log(9))
    augment, theta, velocity, left = augmentation.named("cutout"), start, None, 0.0
    labels = jax.nn.one_hot(jnp.repeat(jnp.arange(CLASSES), 2), CLASSES)
    key_plan, key_draw = jax.random.split(key)
    plan = inner.epoch_plan(key_plan, 8, 4, 3)
    for t, key_step in enumerate(jax.random.split(key_draw, 3)):
        images = augment.apply(learned["images"][plan[t]], augment.draw(key_step, 4))

        def loss(theta, images=images, rows=plan[t]):
            return weight * by_hand.cross_entropy(network().apply(theta, images, {}, train=True)[0], labels[rows])

        slope = jax.grad(loss)(theta)
        velocity = slope if t == 0 else jax.tree.map(lambda v, g: 0.8 * v + g, velocity, slope)
        theta = jax.tree.map(lambda leaf, v: leaf - learned["learning_rates"] * v, theta, velocity)
        for step, end, share in ((0, between, 0.5), (2, goal, 1.0)):
            if t == step:
                apart = [jnp.sum((flat(each) - flat(end)) ** 2) for each in (theta, start)]
                left += share * apart[0] / apart[1]
    return left


def test_updates_are_held_to_the_way(digits):
    done = toys.updates(methods.ast(**AST), digits, 4)
    assert {int(update.batch.rows["experts"][0, 0]) % ROWS for update in done} == {0, 1}
    assert_updates(done, plainly, {"images": 5.0, "learning_rates": 1e-3})


def test_convolutions_alone_are_perturbed_each_by_its_own_norm():
    theta = {"conv": {"kernel": jnp.full((3, 3, 2, 4), 2.0), "bias": jnp.ones(4)}, "head": {"kernel": jnp.ones((5, 3))}}
    found = perturbed(0.5, jax.random.key(0), theta)
    noise = np.asarray(found["conv"]["kernel"]) / 2 - 1
    np.testing.assert_allclose(np.linalg.norm(noise), 0.5, rtol=1e-5)
    assert abs(noise.mean()) < 0.03
    np.testing.assert_array_equal(found["head"]["kernel"], theta["head"]["kernel"])
    np.testing.assert_array_equal(found["conv"]["bias"], theta["conv"]["bias"])


def test_late_starts_weigh_more_and_early_ones_less():
    """By the logarithm to the base 5, around the middle."""
    found = [float(balanced(10, jnp.int32(epoch))) for epoch in (0, 9, 10, 17)]
    log5 = np.log([18, 9, 8, 15]) / np.log(5)
    np.testing.assert_allclose(found, [1 / log5[0], 1 / log5[1], log5[2], log5[3]], rtol=1e-5)


def test_published_settings():
    published = {"steps": 30, "span": 2, "max_start": 20, "rate_learning_rate": 1e-6, "expert_learning_rate": 0.003}
    assert published.items() <= methods.fields("ast").items()


def test_experts_have_momentum_decay_and_a_rate_that_falls(digits):
    """One batch of all in each of five epochs: the last step is of 0.6 of the rate."""
    training = {"expert_learning_rate": 0.3, "expert_momentum": 0.8, "expert_weight_decay": 0.01, "clipped_epochs": 0}
    rare = {"experts": 1, "expert_epochs": 5, "expert_batch": 480, "augmentation": "none"}
    table = engine.provide(methods.ast(**AST | rare | training), digits).tables["experts"].theta
    labels = jax.nn.one_hot(digits.labels.values, CLASSES)

    @jax.jit
    @jax.grad
    def slope(theta):
        return by_hand.cross_entropy(network().apply(theta, digits.images, {}, train=True)[0], labels)

    theta, velocity = jax.tree.map(lambda leaf: jnp.asarray(leaf[np.array([0])][0]), table), None
    for epoch in range(1, 6):
        pull = jax.tree.map(lambda g, leaf: g + 0.01 * leaf, slope(theta), theta)
        velocity = pull if velocity is None else jax.tree.map(lambda v, g: 0.8 * v + g, velocity, pull)
        rate = 0.18 if epoch == 5 else 0.3
        theta = jax.tree.map(lambda leaf, v, rate=rate: leaf - rate * v, theta, velocity)
        for leaf, row in zip(jax.tree.leaves(theta), jax.tree.leaves(table), strict=True):
            np.testing.assert_allclose(row[np.array([epoch])][0], leaf, rtol=1e-4, atol=1e-6)
