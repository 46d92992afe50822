"""IDC: its first updates by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matching_by_hand import (
    CLASSES,
    COMMON,
    assert_close,
    assert_descends,
    assert_distils,
    assert_falls,
    assert_sees,
    by_class,
    cross_entropy,
    gradient,
    keys_of,
    real_gradient,
    run,
    summed,
)

from jaxdd import inner, methods
from jaxdd.data import augmentation, cutmix
from jaxdd.errors import JaxddError
from jaxdd.methods import IDC

RATE, STEPS, BATCH = 1.0, 3, 8
OPTIONS = {
    "ipc": 2,
    "learning_rate": RATE,
    "distance": "l1",
    "matching_steps": 3,
    "network_examples": 20,  # three batches of eight
    "network_batch": BATCH,
    "network_learning_rate": 0.05,
    "network_momentum": 0.8,
    "network_weight_decay": 0.1,
}


@pytest.fixture(scope="module")
def ran(digits):
    return run("idc", digits, 20, **OPTIONS)


def one(leaves):
    """The only network of a pool."""
    return jax.tree.map(lambda leaf: leaf[0], leaves)


def tiles(images):
    """The quarters of each stored image, as large as the whole."""
    quarters = [stored[i : i + 7, j : j + 7] for stored in images for i in (0, 7) for j in (0, 7)]
    return jax.image.resize(jnp.stack(quarters), (len(quarters), 14, 14, 1), "linear")


def test_two_updates_of_the_images_by_hand(ran, digits):
    method, found, network = ran
    augment = augmentation.siamese("color_crop_cutout", always="color_crop_cutout")

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=3)
    def of_class(start, real, label, stored, key):
        drawn = augment.draw(key, 1)
        theirs = real_gradient(network, start, augment.apply(real, drawn), label)
        ours = gradient(network, start, augment.apply(tiles(stored), drawn), label)
        return jnp.abs(theirs["conv_0"]["kernel"] - ours["conv_0"]["kernel"]).sum()  # no biases, no dense layer

    def loss_and_slope(update):
        start = one((update.before.networks.theta, update.before.networks.stats))
        sides = by_class(update.batch.images[: CLASSES * 6]), by_class(update.before.params["images"])
        draws = jax.random.split(keys_of(update)[1], CLASSES)
        return summed(of_class, [start] * CLASSES, sides[0], range(CLASSES), sides[1], draws)

    lowest, highest = float(digits.images.min()), float(digits.images.max())
    assert_descends(found, loss_and_slope, RATE, onto=lambda images: np.clip(images, lowest, highest))
    stored = np.asarray(found[1].after.params["images"])
    assert (stored == lowest).any() and (stored == highest).any() and len(np.unique(stored)) > 100  # clipped, some
    assert_sees(method, digits, rest=STEPS * BATCH)


def test_the_distance_of_colour_images_is_the_squared_one(ran):
    """Of the loss alone, without an augmentation, which is compiled in a moment."""
    _, found, network = ran
    update, start = found[0], one((found[0].before.networks.theta, found[0].before.networks.stats))
    method = methods.build("idc", **{**COMMON, **OPTIONS, "model": network, "distance": "mse", "augmentation": "none"})
    loss = jax.jit(lambda *arguments: method.update(*arguments)[1]["loss"])(update.key, update.before, update.batch)

    @jax.jit
    def of_class(real, label, stored):
        sides = real_gradient(network, start, real, label), gradient(network, start, tiles(stored), label)
        theirs, ours = (side["conv_0"]["kernel"] for side in sides)
        return ((theirs - ours) ** 2).sum()

    sides = by_class(update.batch.images[: CLASSES * 6]), by_class(update.before.params["images"])
    assert_close(loss, sum(of_class(sides[0][label], label, sides[1][label]) for label in range(CLASSES)))


def test_whole_images_are_stored_one_by_one(digits):
    method = methods.build("idc", factor=1, ipc=3)
    distilled = jax.eval_shape(lambda key: method.distilled(method.init(key, digits)), jax.random.key(0))
    assert distilled.images.shape == distilled.params["images"].shape == (CLASSES * 3, 14, 14, 1)


def test_the_network_is_trained_on_real_examples_until_a_new_one_begins(ran):
    _, found, network = ran
    augment = augmentation.siamese("color_crop", always="color_crop")

    @jax.jit
    def step(theta, stats, velocity, images, labels, key):
        key_augment, key_mix = jax.random.split(key)
        images = augment.apply(images, augment.draw(key_augment, BATCH))
        images, labels = cutmix(key_mix, images, jax.nn.one_hot(labels, CLASSES), probability=0.5)

        def loss(theta):
            logits, after = network.apply(theta, images, stats, train=True)
            return cross_entropy(logits, labels), after

        grads, after = jax.grad(loss, has_aux=True)(theta)
        velocity = jax.tree.map(lambda v, g, leaf: 0.8 * v + g + 0.1 * leaf, velocity, grads, theta)
        return jax.tree.map(lambda leaf, v: leaf - 0.05 * v, theta, velocity), after, velocity, (labels % 1 > 0).any()

    mixed = []
    velocity = jax.tree.map(jnp.zeros_like, one(found[0].before.networks.theta))
    for update in found[:2]:
        key_plan, key_networks = jax.random.split(keys_of(update)[2])
        key = jax.random.split(key_networks, 1)[0]
        theta, stats = one((update.before.networks.theta, update.before.networks.stats))
        images, labels = (leaf[CLASSES * 6 :] for leaf in update.batch)
        for t, rows in enumerate(inner.epoch_plan(key_plan, STEPS * BATCH, BATCH, STEPS)):
            key_step = jax.random.fold_in(key, t)
            theta, stats, velocity, some = step(theta, stats, velocity, images[rows], labels[rows], key_step)
            mixed.append(bool(some))
        assert_close(one(update.after.networks.theta), theta)
        assert_close(one(update.after.networks.stats), stats)
        assert_close(one(optax.tree.get(update.after.networks.opt_state, "trace")), velocity)
    assert 0 < sum(mixed) < len(mixed)  # or CutMix would not be seen
    assert [int(update.after.networks.age[0]) for update in found[:7]] == [3, 6, 0, 3, 6, 0, 3]
    begun = jax.random.split(jax.random.split(keys_of(found[2])[2])[1], 1)[0]
    assert_close(one(found[2].after.networks[:2]), network.init(begun))
    assert not any(leaf.any() for leaf in jax.tree.leaves(optax.tree.get(found[2].after.networks.opt_state, "trace")))


def test_what_it_minimises_falls(ran):
    method, found, _ = ran
    assert_falls(method, found)
    distilled = assert_distils(method, found, per_class=8)
    assert_close(distilled.images, tiles(found[-1].after.params["images"]), 1e-5)


def test_first_images_are_mosaics_of_real_ones(ran, digits):
    small = np.asarray(digits.images)[:, ::2, ::2]  # by nearest neighbour
    for stored, label in zip(ran[1][0].before.params["images"], np.repeat(np.arange(CLASSES), 2), strict=True):
        for i, j in ((0, 0), (0, 7), (7, 0), (7, 7)):
            same = (small == stored[None, i : i + 7, j : j + 7]).all((1, 2, 3))
            assert (same & (np.asarray(digits.labels.values) == label)).any()


def test_published_settings():
    images = {
        "ipc": 10,
        "init": "real",
        "factor": 2,
        "distance": "mse",
        "augmentation": "idc-match",
        "target_per_class": 64,
    }
    networks = {
        "matching_steps": 100,
        "network_examples": 2000,
        "network_batch": 64,
        "network_learning_rate": 0.01,
        "network_momentum": 0.9,
        "network_weight_decay": 5e-4,
        "network_augmentation": "idc-train",
        "cutmix": 0.5,
    }
    assert {**images, **networks}.items() <= vars(IDC()).items()
    assert IDC().learning_rate == pytest.approx(5e-3 / np.mean(np.square([0.2023, 0.1994, 0.2010])), rel=1e-2)
    assert [IDC(network_examples=count).network_steps for count in (500, 512, 513, 2000)] == [8, 8, 9, 32]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"distance": "cosine"}, "distance of IDC 'cosine'.* l1, mse"),
        ({"factor": 0}, "factor of IDC must be at least 1"),
        ({"matching_steps": 0}, "matching_steps of IDC must be at least 1"),
        ({"network_examples": 0}, "network_examples of IDC must be at least 1"),
        ({"network_batch": 0}, "network_batch of IDC must be at least 1"),
        ({"network_learning_rate": 0.0}, "network_learning_rate of IDC must be positive"),
        ({"network_momentum": 1.0}, "network_momentum of IDC must be at least 0 and under 1"),
        ({"network_weight_decay": -0.1}, "network_weight_decay of IDC must be at least 0"),
        ({"network_augmentation": "colour_crop"}, "did you mean 'color'"),
        ({"cutmix": 1.5}, "cutmix of IDC must be between 0 and 1"),
    ],
)
def test_bad_hyper_parameters(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build("idc", **options)
