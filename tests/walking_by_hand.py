"""Students of the trajectory family, plainly: a loop over steps, and a loop over experts."""

import by_hand
import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import inner, models
from jaxdd.data import augmentation

MLP, CLASSES, SIZE = "mlp(width=12, depth=1)", 4, (14, 14, 1)
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
ROWS = 4  # of an expert


def network():
    return models.build(MLP, SIZE, CLASSES)


def flat(theta):
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(theta)])


def left(thetas, start, goal):
    """What is left of the way at the last step."""
    return jnp.sum((flat(thetas[-1]) - flat(goal)) ** 2) / jnp.sum((flat(start) - flat(goal)) ** 2)


def ends_of(update, k, key):
    """Start and goal of the k-th expert: its two rows."""
    expert = jax.tree.map(lambda leaf: leaf[k], update.batch.tables["experts"].theta)
    return (jax.tree.map(lambda leaf, end=end: leaf[end], expert) for end in (0, 1))


def walks(learned, update, labels=None, detached=False, ends=ends_of):
    """Of each of two experts `(parameters after each step, start, goal)`.

    `labels` are vectors `(m, classes)`, or a function of the goal's parameters and the images; `detached` makes
    constants of the parameters that each gradient is taken at.
    """
    augment, found = augmentation.named("cutout"), []
    for k, key in enumerate(jax.random.split(update.key, 2)):
        start, goal = ends(update, k, key)
        own = jax.nn.one_hot(jnp.repeat(jnp.arange(CLASSES), 2), CLASSES) if labels is None else labels
        own = own(goal, learned["images"]) if callable(own) else own
        theta, thetas, (key_plan, key_draw) = start, [], jax.random.split(key)
        plan = inner.epoch_plan(key_plan, 8, 4, 3)
        for t, key_step in enumerate(jax.random.split(key_draw, 3)):
            images = augment.apply(learned["images"][plan[t]], augment.draw(key_step, 4))

            def loss(theta, images=images, rows=plan[t], own=own):
                return by_hand.cross_entropy(network().apply(theta, images, {}, train=True)[0], own[rows])

            slope = jax.grad(loss)(jax.lax.stop_gradient(theta) if detached else theta)
            theta = jax.tree.map(lambda leaf, g: leaf - learned["learning_rates"] * g, theta, slope)
            thetas.append(theta)
        found.append((thetas, start, goal))
    return found


def assert_updates(done, plainly, rates, momenta=None):
    """Updates are descent with momentum on `plainly(learned, update) -> (loss, slopes)`, 0.5 where nothing is said."""
    velocity = dict.fromkeys(rates, 0.0)
    for update in done:
        learned = {leaf: update.before.params[leaf] for leaf in rates}
        loss, slopes = plainly(learned, update)
        np.testing.assert_allclose(update.metrics["loss"], loss, rtol=1e-4)
        for leaf, rate in rates.items():
            velocity[leaf] = np.asarray(slopes[leaf]) + (momenta or {}).get(leaf, 0.5) * velocity[leaf]
            by_hand.assert_near(update.after.params[leaf], np.asarray(learned[leaf]) - rate * velocity[leaf], 1e-4)
