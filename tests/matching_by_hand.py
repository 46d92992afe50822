"""What the tests of the matching methods share: a tiny network, and the plain arithmetic of an update."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from toys import Update, updates

from jaxdd import methods, models
from jaxdd.data import class_sampler, uniform_sampler

CLASSES, IPC, REAL = 4, 3, 6
COMMON = {"ipc": IPC, "target_per_class": REAL, "target_block": REAL // 2}


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
        features = maps.reshape(len(maps), -1)
        return (*seen, features, nn.Dense(CLASSES, name="head")(features))

    def __call__(self, images, train=False):
        return self.layers(images, train)[-1]


def tiny(depth: int = 1):
    """A convolutional network for the fixture `digits` that sees a batch otherwise than its examples, in training."""
    return models.from_linen(_Tiny(depth), (14, 14, 1))


def run(name, digits, count, depth=1, **options):
    """A method, its first updates, and the network it has."""
    network = tiny(depth)
    method = methods.build(name, **{**COMMON, "model": network, **options})
    return method, updates(method, digits, count), network


def by_class(images):
    """`(classes, per class, h, w, c)` of images that are in the order of their classes."""
    return np.asarray(images).reshape(CLASSES, -1, *images.shape[1:])


def keys_of(update: Update):
    """An update's keys: for where its network comes from, for the matching, for how networks go on."""
    return jax.random.split(update.key, 3)


def cross_entropy(logits, labels):
    """The mean, of class numbers or of shares."""
    logits = logits - jax.scipy.special.logsumexp(logits, axis=1, keepdims=True)
    return -jnp.mean(jnp.sum(logits * (jax.nn.one_hot(labels, CLASSES) if labels.ndim == 1 else labels), axis=1))


def assert_close(found, expected, tolerance=2e-5):
    """Each leaf up to a share of its largest entry."""
    found, expected = jax.tree.leaves(found), jax.tree.leaves(expected)
    assert len(found) == len(expected) > 0
    for a, b in zip(map(np.asarray, found), map(np.asarray, expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def assert_first_images_are_real(images, digits):
    """Distinct real images of each class."""
    pool, labels = np.asarray(digits.images), np.asarray(digits.labels.values)
    for label, chosen in enumerate(by_class(images)):
        found = (chosen[:, None] == pool[None, labels == label]).all((2, 3, 4))
        assert found.sum(1).min() >= 1 and len(np.unique(found.argmax(1))) == len(chosen)


def assert_sees(method, digits, rest=0):
    """As many real examples of each class, in their order; after them `rest` of all."""
    rows = method.sample(jax.random.key(5), digits.labels)
    key_classes, key_rest = jax.random.split(jax.random.key(5)) if rest else (jax.random.key(5), None)
    matched = len(rows) - rest
    np.testing.assert_array_equal(rows[:matched], class_sampler(matched // CLASSES)(key_classes, digits.labels))
    if rest:
        np.testing.assert_array_equal(rows[matched:], uniform_sampler(rest)(key_rest, digits.labels))
    np.testing.assert_array_equal(digits.labels.values[rows[:matched]], np.repeat(np.arange(CLASSES), REAL))


def assert_descends(found, loss_and_slope, rate, count=2, onto=lambda images: images):
    """The first updates are those of gradient descent with momentum 0.5.

    Args:
      loss_and_slope: `loss_and_slope(update)`, by hand.
      onto: what the images are brought back to after each step.
    """
    velocity = 0.0
    for update in found[:count]:
        loss, slope = loss_and_slope(update)
        velocity = slope + 0.5 * velocity
        assert_close(update.metrics["loss"], loss)
        assert_close(update.metrics["gradient_norm"], np.sqrt((slope**2).sum()))
        assert_close(optax.tree.get(update.after.opt_state, "trace")["images"], velocity)
        before = np.asarray(update.before.params["images"])
        assert np.abs(rate * velocity).max() > 1e-4 * np.abs(before).max()  # which it takes to see the step
        assert_close(update.after.params["images"], onto(before - rate * velocity), 1e-6)
        np.testing.assert_array_equal(update.after.params["labels"], update.before.params["labels"])


def summed(of_class, *over):
    """The sum of losses over classes, and their slopes one class after the other: `of_class(*arguments)` of each."""
    losses, slopes = zip(*(of_class(*arguments) for arguments in zip(*over, strict=True)), strict=True)
    return float(sum(np.float64(loss) for loss in losses)), np.concatenate([np.asarray(slope) for slope in slopes])


def assert_falls(method, found, share=0.95):
    """What is minimised: with the last images before the networks, real examples and draws of the first updates."""
    update, last = jax.jit(method.update), found[-1].after.params
    again = [update(each.key, each.before._replace(params=last), each.batch)[1]["loss"] for each in found[:5]]
    assert 0 < sum(map(float, again)) < share * sum(float(each.metrics["loss"]) for each in found[:5])


def assert_distils(method, found, per_class=IPC):
    """Images class after class with hard labels."""
    distilled = jax.jit(method.distilled)(found[-1].after)
    assert distilled.images.shape == (CLASSES * per_class, 14, 14, 1)
    np.testing.assert_array_equal(distilled.labels, np.repeat(np.arange(CLASSES), per_class))
    assert distilled.label_regime == "hard"
    return distilled


def gradient(network, start, images, label):
    """Of the cross-entropy of one class's images, at the network's parameters, in training mode."""
    theta, stats = start
    labels = jnp.full(len(images), label)
    return jax.grad(lambda theta: cross_entropy(network.apply(theta, images, stats, train=True)[0], labels))(theta)


def real_gradient(network, start, images, label):
    """The same of real images, which are seen in two blocks, dealt out in turn."""
    blocks = [gradient(network, start, images[first::2], label) for first in (0, 1)]
    return jax.tree.map(lambda a, b: (a + b) / 2, *blocks)


def real_layers(network, start, images):
    """What the layers give for real images, which are seen in two blocks, one after the other."""
    blocks = [network.layers(start[0], block, start[1], train=True)[0] for block in jnp.split(images, 2)]
    return [jnp.concatenate(parts) for parts in zip(*blocks, strict=True)]
