"""DC and DSA: their first updates by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matching_by_hand import (
    CLASSES,
    IPC,
    assert_close,
    assert_descends,
    assert_distils,
    assert_falls,
    assert_first_images_are_noise,
    assert_first_images_are_real,
    assert_sees,
    cross_entropy,
    frozen,
    gradient,
    keys_of,
    one,
    over_classes,
    real_gradient,
    run,
    stacked,
    trained,
)

from jaxdd import methods
from jaxdd.data import augmentation
from jaxdd.errors import JaxddError
from jaxdd.methods import DC, DSA

RATE = 1.0
OPTIONS = {
    "learning_rate": RATE,
    "matching_steps": 3,
    "epochs": 2,
    "network_batch": 8,
    "network_learning_rate": 0.05,
}
BATCHES, BATCH = 2, 6  # of 12 images, at most 8 a step
AUGMENTATIONS = {"dc": "none", "dsa": "crop"}  # DSA's own are several such


@pytest.fixture(scope="module", params=AUGMENTATIONS)
def ran(request, digits):
    """Name, augmentation, method, updates and network."""
    named = AUGMENTATIONS[request.param]
    return request.param, augmentation.named(named), *run(request.param, digits, 20, augmentation=named, **OPTIONS)


def cosine(theirs, ours):
    """Layer by layer, one less the cosine of what belongs to each unit; without biases."""
    total = 0.0
    for a, b in zip(*map(jax.tree.leaves, (theirs, ours)), strict=True):
        if a.ndim > 1:
            a, b = (leaf.reshape(-1, leaf.shape[-1]) for leaf in (a, b))
            total += (1 - (a * b).sum(0) / (jnp.sqrt((a**2).sum(0) * (b**2).sum(0)) + 1e-6)).sum()
    return total


def test_two_updates_of_the_images_by_hand(ran, digits):
    name, augment, method, found, network = ran

    @jax.jit
    def loss_and_slope(update):
        start = one((update.before.networks.theta, update.before.networks.stats))
        start = frozen(network, start, update.batch.images)  # six of each class, none of them augmented

        def of_class(images, real, label, key):
            drawn = augment.draw(key, 1)
            theirs = real_gradient(network, start, augment.apply(real, drawn), label)
            return cosine(theirs, gradient(network, start, augment.apply(images, drawn), label))

        return over_classes(of_class, update, keys_of(update)[1])

    assert_descends(found, loss_and_slope, RATE)
    assert_sees(method, digits)
    first = found[0].before.params["images"]
    if name == "dsa":
        assert_first_images_are_real(first, digits)
    else:
        assert_first_images_are_noise(first)


def test_the_network_is_trained_on_the_new_set_until_a_new_one_begins(ran):
    _, augment, _, found, network = ran

    def step(theta, stats, nothing, images, labels, key):
        images = augment.apply(images, augment.draw(key, BATCH))

        def loss(theta):
            logits, after = network.apply(theta, images, stats, train=True)
            return cross_entropy(logits, labels), after

        grads, after = jax.grad(loss, has_aux=True)(theta)
        return jax.tree.map(lambda leaf, g: leaf - 0.05 * g, theta, grads), after, nothing

    @jax.jit
    def by_hand(update):
        examples = update.after.params["images"], jnp.repeat(jnp.arange(CLASSES), IPC)
        return trained(network, update, examples, BATCH, 2 * BATCHES, step)

    for update in found[:2]:
        (theta, stats, _), _ = by_hand(update)
        assert_close((update.after.networks.theta, update.after.networks.stats), stacked((theta, stats)))
    assert [int(np.asarray(update.after.networks.age)[0]) for update in found[:7]] == [4, 8, 0, 4, 8, 0, 4]
    assert_close((found[2].after.networks.theta, found[2].after.networks.stats), stacked(by_hand(found[2])[1]))


def test_what_it_minimises_falls(ran):
    _, _, method, found, _ = ran
    assert_falls(method, found)
    assert_distils(method, found, lambda stored: stored)


@pytest.mark.endurance
def test_it_learns_on_networks_with_batch_normalisation(digits):
    options = {**OPTIONS, "learning_rate": 0.3, "matching_steps": 1}
    method, found, _ = run("dc", digits, 15, model="convnet(width=8, depth=1, norm='batch')", **options)
    assert_falls(method, found)


@pytest.mark.parametrize(
    ("ipc", "loops"),
    [(1, (1, 1)), (9, (1, 1)), (10, (10, 50)), (12, (10, 50)), (20, (20, 25)), (30, (30, 20)), (40, (40, 15)),
     (50, (50, 10)), (100, (50, 10))],
)  # fmt: skip
def test_published_loops_and_those_of_other_ipcs(ipc, loops):
    assert DC(ipc=ipc).loops == loops
    assert DSA(ipc=ipc, matching_steps=3).loops == (3, loops[1])
    assert DC(ipc=ipc, epochs=7).loops == (loops[0], 7)


def test_published_settings():
    images = {"init": "noise", "augmentation": "none", "target_per_class": 256, "learning_rate": 0.1}
    networks = {"network_learning_rate": 0.01, "network_batch": 256}
    assert {**images, **networks}.items() <= vars(DC()).items()
    assert vars(DSA()) == {**vars(DC()), "init": "real", "augmentation": "dsa"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ipc": 0}, "ipc of DC must be at least 1"),
        ({"matching_steps": 0}, "matching_steps of DC must be at least 1 or None"),
        ({"epochs": 0}, "epochs of DC must be at least 1 or None"),
        ({"network_learning_rate": 0.0}, "network_learning_rate of DC must be positive"),
        ({"network_batch": 0}, "network_batch of DC must be at least 1"),
    ],
)
def test_bad_hyper_parameters(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build("dc", **options)
