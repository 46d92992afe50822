"""What the tests of the matching methods share: a tiny network, and the plain arithmetic of an update."""

from __future__ import annotations

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from toys import Update, build, updates

from jaxdd import inner, models
from jaxdd.data import class_sampler, uniform_sampler
from jaxdd.engine.stages import How, provided
from jaxdd.types import bound

CLASSES, IPC, REAL = 4, 3, 6
COMMON = {"ipc": IPC, "target_per_class": REAL, "block": REAL // 2}


class _Centred(nn.Module):
    """Maps less their mean over the batch, in evaluation less a running mean: the least that a batch norm is."""

    @nn.compact
    def __call__(self, maps, train):
        running = self.variable("batch_stats", "mean", jnp.zeros, (maps.shape[-1],))
        mean = maps.mean((0, 1, 2))
        if train and not self.is_initializing():
            running.value = 0.8 * running.value + 0.2 * mean
        return maps - (mean if train else running.value)[None, None, None]


class _Tiny(nn.Module):
    depth: int

    @nn.compact
    def layers(self, images, train=False):
        maps, seen = images, []
        for level in range(self.depth):
            maps = nn.Conv(4, (3, 3), strides=3, use_bias=False, name=f"conv_{level}")(maps)
            maps = nn.relu(_Centred(name=f"norm_{level}")(maps, train))
            seen.append(maps)
        features = nn.avg_pool(maps, (2, 2), (2, 2)).reshape(len(maps), -1)
        return (*seen, features, nn.Dense(CLASSES, name="head")(features))

    def __call__(self, images, train=False):
        return self.layers(images, train)[-1]


def tiny(depth: int = 1):
    """A convolutional network for the fixture `digits` that sees a batch otherwise than its examples, in training."""
    return models.from_linen(_Tiny(depth), (14, 14, 1))


def run(name, digits, count, depth=1, **options):
    """A method, its first updates, and the network it has."""
    network = tiny(depth)
    recipe = build(name, **{**COMMON, "model": network, **options})
    data, _ = provided(recipe, digits, {}, How(0, "default", jax.devices()[:1], 1e9, progress=False))
    method = bound(recipe, data)  # once, so that what is compiled of it serves all tests
    return method, updates(method, data, count), network


def by_class(images):
    """`(classes, per class, h, w, c)` of images that are in the order of their classes."""
    return images.reshape(CLASSES, -1, *images.shape[1:])


def keys_of(update: Update):
    """An update's keys: for where its network comes from, for the matching, for how networks go on."""
    return jax.random.split(update.key, 3)


def one(leaves):
    """The only network of a pool."""
    return jax.tree.map(lambda leaf: leaf[0], leaves)


def stacked(network):
    """As a pool of one."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], network)


def cross_entropy(logits, labels):
    """The mean, of class numbers or of shares."""
    logits = logits - jax.scipy.special.logsumexp(logits, axis=1, keepdims=True)
    return -jnp.mean(jnp.sum(logits * (jax.nn.one_hot(labels, CLASSES) if labels.ndim == 1 else labels), axis=1))


def frozen(network, start, images):
    """A network at its start with the means of these images `(.., h, w, c)` as its running ones."""
    theta, stats = start
    images = images.reshape(-1, *images.shape[-3:])
    _, after = network.apply(theta, images, jax.tree.map(jnp.zeros_like, stats), train=True)
    return theta, jax.tree.map(lambda leaf: leaf / 0.2, after)


def gradient(network, start, images, label):
    """Of the cross-entropy of one class's images, at the network's parameters, by its running statistics."""
    theta, stats = start
    labels = jnp.full(len(images), label)
    return jax.grad(lambda theta: cross_entropy(network.apply(theta, images, stats, train=False)[0], labels))(theta)


def real_gradient(network, start, images, label):
    """The same of real images, which are seen in two blocks, dealt out in turn."""
    blocks = [gradient(network, start, images[first::2], label) for first in (0, 1)]
    return jax.tree.map(lambda a, b: (a + b) / 2, *blocks)


def layers(network, start, images):
    """What they give, in training mode: all of a class together, whatever the block, as the batch normalises them."""
    return network.layers(start[0], images, start[1], train=True)[0]


def tiles(images):
    """The quarters of each stored image, as large as the whole."""
    quarters = jnp.stack([images[:, i : i + 7, j : j + 7] for i in (0, 7) for j in (0, 7)], axis=1)
    return jax.image.resize(quarters.reshape(-1, 7, 7, 1), (4 * len(images), 14, 14, 1), "linear")


def over_classes(of_class, update: Update, *keys):
    """The sum over classes of a loss, and its slope at the stored images.

    Args:
      of_class: `of_class(images, real, label, *keys)`.
      keys: each is split into one for every class.
    """
    images = update.before.params["images"]
    real = update.batch.images
    over = (by_class(images), by_class(real), jnp.arange(CLASSES), *(jax.random.split(key, CLASSES) for key in keys))
    losses, slopes = jax.lax.map(lambda arguments: jax.value_and_grad(of_class)(*arguments), over)
    return losses.sum(), slopes.reshape(images.shape)


def trained(network, update: Update, examples, per_step, steps, step, carried=()):
    """One network after its steps on batches, and what a new one would have begun with.

    Args:
      examples: images and labels; `steps` batches of `per_step` of them, without replacement within an epoch.
      step: `step(theta, stats, carried, images, labels, key) -> (theta, stats, carried)`.
    """
    key_plan, key_networks = jax.random.split(keys_of(update)[2])
    key = jax.random.split(key_networks, 1)[0]
    now = (*one((update.before.networks.theta, update.before.networks.stats)), carried)

    def body(now, rows_and_place):
        rows, place = rows_and_place
        return step(*now, *(leaf[rows] for leaf in examples), jax.random.fold_in(key, place)), ()

    plan = inner.epoch_plan(key_plan, len(examples[1]), per_step, steps)
    now, _ = jax.lax.scan(body, now, (plan, jnp.arange(steps)))
    return now, network.init(key)


def assert_close(found, expected, tolerance=2e-5):
    """Each leaf up to a share of its largest entry."""
    found, expected = jax.tree.leaves(found), jax.tree.leaves(expected)
    assert len(found) == len(expected) > 0
    for a, b in zip(map(np.asarray, found), map(np.asarray, expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def assert_first_images_are_real(images, digits):
    """Distinct real images of each class."""
    pool, labels = np.asarray(digits.images), np.asarray(digits.labels.values)
    for label, chosen in enumerate(by_class(np.asarray(images))):
        found = (chosen[:, None] == pool[None, labels == label]).all((2, 3, 4))
        assert found.sum(1).min() >= 1 and len(np.unique(found.argmax(1))) == len(chosen)


def assert_first_images_are_noise(images):
    images = np.asarray(images)
    assert abs(images.mean()) < 0.1 and abs(images.std() - 1) < 0.1


def assert_sees(method, digits, rest=0):
    """As many real examples of each class, in their order; beside them `rest` of all."""

    @jax.jit
    def rows_of(key, labels):
        key_classes, key_rest = jax.random.split(key) if rest else (key, key)
        expected = {"examples": class_sampler(REAL)(key_classes, labels)}
        if rest:
            expected["examples/further"] = uniform_sampler(rest)(key_rest, labels)
        found = method.sample(key, labels)
        return found if rest else {"examples": found}, expected

    found, expected = rows_of(jax.random.key(5), digits.labels)
    chex.assert_trees_all_equal(found, expected)
    seen = np.asarray(digits.labels.values)[np.asarray(found["examples"])]
    np.testing.assert_array_equal(seen, np.repeat(np.arange(CLASSES), REAL))


def assert_descends(found, loss_and_slope, rate, count=2, onto=lambda images: images):
    """The first updates are those of gradient descent with momentum 0.5.

    Args:
      loss_and_slope: `loss_and_slope(update)`, by hand.
      onto: what the images are brought back to after each step.
    """
    velocity = 0.0
    for update in found[:count]:
        loss, slope = map(np.asarray, loss_and_slope(update))
        velocity = slope + 0.5 * velocity
        assert_close(update.metrics["loss"], loss)
        assert_close(update.metrics["gradient_norm"], np.sqrt((slope**2).sum()))
        assert_close(optax.tree.get(update.after.opt_state, "trace")["images"], velocity)
        before = np.asarray(update.before.params["images"])
        assert np.abs(rate * velocity).max() > 1e-4 * np.abs(before).max()  # which it takes to see the step
        assert_close(update.after.params["images"], onto(before - rate * velocity), 1e-6)
        np.testing.assert_array_equal(update.after.params["labels"], update.before.params["labels"])


def assert_falls(method, found, share=0.95):
    """What is minimised: with the last images before the networks, real examples and draws of the first updates."""
    update, last = jax.jit(method.update), found[-1].after.params
    again = [update(each.key, each.before._replace(params=last), each.batch)[1]["loss"] for each in found[:5]]
    assert 0 < sum(map(float, again)) < share * sum(float(each.metrics["loss"]) for each in found[:5])


def assert_distils(method, found, images, per_class=IPC):
    """These images of the last state, class after class, with hard labels."""
    distilled, expected = jax.jit(lambda state: (method.distilled(state), images(state.params["images"])))(
        found[-1].after
    )
    assert distilled.images.shape == (CLASSES * per_class, 14, 14, 1)
    assert_close(distilled.images, expected, 1e-5)
    np.testing.assert_array_equal(distilled.labels, np.repeat(np.arange(CLASSES), per_class))
    assert distilled.label_regime == "hard"
