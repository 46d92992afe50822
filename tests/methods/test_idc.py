"""IDC: its first updates by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matching_by_hand import (
    CLASSES,
    assert_close,
    assert_descends,
    assert_distils,
    assert_falls,
    assert_sees,
    cross_entropy,
    frozen,
    gradient,
    keys_of,
    one,
    over_classes,
    run,
    stacked,
    tiles,
    trained,
)

from jaxdd import methods, models
from jaxdd.data import augmentation, cutmix
from jaxdd.errors import JaxddError
from jaxdd.methods import IDC, Classes
from jaxdd.methods.match.idc import objective
from jaxdd.types import bound

RATE, STEPS, BATCH = 0.2, 3, 8
OPTIONS = {
    "ipc": 2,
    "block": None,
    "learning_rate": RATE,
    "augmentation": "cutout",
    "distance": "l1",
    "matching_steps": 3,
    "network_examples": 20,  # three batches of eight
    "network_batch": BATCH,
    "network_learning_rate": 0.05,
    "network_momentum": 0.8,
    "network_weight_decay": 0.1,
    "network_augmentation": "color",
}


@pytest.fixture(scope="module")
def ran(digits):
    return run("idc", digits, 10, **OPTIONS)


def test_two_updates_of_the_images_by_hand(ran, digits):
    method, found, network = ran
    augment = augmentation.named("cutout")

    @jax.jit
    def loss_and_slope(update):
        means = one((update.before.networks.theta, update.before.networks.stats))
        means = frozen(network, means, update.batch.images)  # none of them augmented

        def of_class(stored, real, label, key):
            drawn = augment.draw(key, 1)
            theirs = gradient(network, means, augment.apply(real, drawn), label)
            ours = gradient(network, means, augment.apply(tiles(stored), drawn), label)
            return jnp.abs(theirs["conv_0"]["kernel"] - ours["conv_0"]["kernel"]).sum()  # no biases, no dense layer

        return over_classes(of_class, update, keys_of(update)[1])

    lowest, highest = float(np.min(digits.images)), float(np.max(digits.images))
    assert_descends(found, loss_and_slope, RATE, onto=lambda images: np.clip(images, lowest, highest))
    stored = np.asarray(found[1].after.params["images"])
    assert (stored == lowest).any() and (stored == highest).any() and len(np.unique(stored)) > 100  # clipped, some
    assert_sees(method, digits, rest=STEPS * BATCH)


def test_the_distance_of_colour_images_is_the_squared_one(digits):
    """With one layer of zeros each image's gradient is itself times what the shares of four classes miss."""
    linear = models.from_functions(
        lambda key: {"kernel": jnp.zeros((14, 14, CLASSES))},
        lambda theta, images: jnp.einsum("nhwc,hwk->nk", images, theta["kernel"]),
    )
    rows = np.stack([np.flatnonzero(np.asarray(digits.labels.values) == label)[:7] for label in range(CLASSES)])
    images = digits.images[rows]
    match = objective(IDC(distance="mse", augmentation="none"))
    sides = Classes(images[:, :2], images[:, 2:])
    loss = jax.jit(lambda key: match(linear, linear.init(key), sides, key)[0])(jax.random.key(0))
    assert_close(loss, 0.75 * ((images[:, :2].mean(1) - images[:, 2:].mean(1)) ** 2).sum())


def test_whole_images_are_stored_one_by_one(digits):
    method = bound(methods.build("idc", factor=1, ipc=3), digits)
    distilled = jax.eval_shape(lambda key: method.distilled(method.init(key, digits)), jax.random.key(0))
    assert distilled.images.shape == distilled.params["images"].shape == (CLASSES * 3, 14, 14, 1)


def test_the_network_is_trained_on_real_examples_until_a_new_one_begins(ran):
    _, found, network = ran
    augment = augmentation.named("color")

    def step(theta, stats, carried, images, labels, key):
        velocity, mixed = carried
        key_augment, key_mix = jax.random.split(key)
        images = augment.apply(images, augment.draw(key_augment, BATCH))
        images, labels = cutmix(key_mix, images, jax.nn.one_hot(labels, CLASSES), probability=0.5)

        def loss(theta):
            logits, after = network.apply(theta, images, stats, train=True)
            return cross_entropy(logits, labels), after

        grads, after = jax.grad(loss, has_aux=True)(theta)
        velocity = jax.tree.map(lambda v, g, leaf: 0.8 * v + g + 0.1 * leaf, velocity, grads, theta)
        theta = jax.tree.map(lambda leaf, v: leaf - 0.05 * v, theta, velocity)
        return theta, after, (velocity, mixed + (labels % 1 > 0).any())

    @jax.jit
    def by_hand(update, carried):
        return trained(network, update, update.batch.tables["examples/further"], BATCH, STEPS, step, carried)

    carried = jax.tree.map(lambda leaf: np.zeros(leaf.shape[1:], leaf.dtype), found[0].before.networks.theta), 0
    for update in found[:2]:
        (theta, stats, carried), _ = by_hand(update, carried)
        networks = update.after.networks
        assert_close((networks.theta, networks.stats), stacked((theta, stats)))
        assert_close(optax.tree.get(networks.opt_state, "trace"), stacked(carried[0]))
    assert 0 < carried[1] < 2 * STEPS  # or CutMix would not be seen
    assert [int(np.asarray(update.after.networks.age)[0]) for update in found[:7]] == [3, 6, 0, 3, 6, 0, 3]
    begun = found[2].after.networks
    assert_close((begun.theta, begun.stats), stacked(by_hand(found[2], carried)[1]))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(optax.tree.get(begun.opt_state, "trace")))


def test_what_it_minimises_falls(ran):
    method, found, _ = ran
    assert_falls(method, found, share=0.99)  # six real examples of a class leave much that no image can match
    assert_distils(method, found, tiles, per_class=8)


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
        ({"distance": "cosine"}, "distance of IDC must be one of mse, l1, got 'cosine'"),
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
