"""DC and DSA: their first updates by hand."""

import functools

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
    assert_first_images_are_real,
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
from jaxdd.data import augmentation
from jaxdd.errors import JaxddError
from jaxdd.methods import DC, DSA

OPTIONS = {"learning_rate": 1.0, "matching_steps": 3, "epochs": 2, "network_batch": 8, "network_learning_rate": 0.05}
BATCHES, BATCH = 2, 6  # of 12 images, at most 8 a step
AUGMENTATION = {"dc": "none", "dsa": "dsa"}


@pytest.fixture(scope="module", params=AUGMENTATION)
def ran(request, digits):
    method, found, network = run(request.param, digits, 20, **OPTIONS)
    return request.param, method, found, network


def one(leaves):
    """The only network of a pool."""
    return jax.tree.map(lambda leaf: leaf[0], leaves)


def by_hand(network, augment):
    """One class's loss and slope: rows of gradients by output unit, as one loop over layers."""

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=3)
    def of_class(start, real, label, images, key):
        drawn = augment.draw(key, 1)
        target = real_gradient(network, start, augment.apply(real, drawn), label)
        ours = gradient(network, start, augment.apply(images, drawn), label)
        total = 0.0
        for a, b in zip(jax.tree.leaves(target), jax.tree.leaves(ours), strict=True):
            if a.ndim > 1:
                a, b = (leaf.reshape(-1, leaf.shape[-1]) for leaf in (a, b))
                norms = jnp.sqrt((a**2).sum(0) * (b**2).sum(0))
                total += (1 - (a * b).sum(0) / (norms + 1e-6)).sum()
        return total

    def loss_and_slope(update):
        start = one((update.before.networks.theta, update.before.networks.stats))
        classes = range(CLASSES)
        return summed(
            of_class,
            [start] * CLASSES,
            by_class(update.batch.images),
            classes,
            by_class(update.before.params["images"]),
            jax.random.split(keys_of(update)[1], CLASSES),
        )

    return loss_and_slope


def test_two_updates_of_the_images_by_hand(ran, digits):
    name, method, found, network = ran
    assert_descends(found, by_hand(network, augmentation.named(AUGMENTATION[name])), 1.0)
    assert_sees(method, digits)
    first = found[0].before.params["images"]
    if name == "dsa":
        assert_first_images_are_real(first, digits)
    else:
        assert abs(float(first.mean())) < 0.1 and abs(float(first.std()) - 1) < 0.1


def test_the_network_is_trained_on_the_new_set_until_a_new_one_begins(ran):
    name, _, found, network = ran
    augment = augmentation.named(AUGMENTATION[name])
    labels = np.repeat(np.arange(CLASSES), IPC)

    @jax.jit
    def step(theta, stats, images, labels, key):
        images = augment.apply(images, augment.draw(key, BATCH))

        def loss(theta):
            logits, after = network.apply(theta, images, stats, train=True)
            return cross_entropy(logits, labels), after

        grads, after = jax.grad(loss, has_aux=True)(theta)
        return jax.tree.map(lambda leaf, g: leaf - 0.05 * g, theta, grads), after

    for update in found[:2]:
        key_plan, key_networks = jax.random.split(keys_of(update)[2])
        key = jax.random.split(key_networks, 1)[0]
        theta, stats = one((update.before.networks.theta, update.before.networks.stats))
        for t, rows in enumerate(inner.epoch_plan(key_plan, CLASSES * IPC, BATCH, 2 * BATCHES)):
            images = update.after.params["images"][rows]
            theta, stats = step(theta, stats, images, labels[rows], jax.random.fold_in(key, t))
        assert_close(one(update.after.networks.theta), theta)
        assert_close(one(update.after.networks.stats), stats)
    assert [int(update.after.networks.age[0]) for update in found[:7]] == [4, 8, 0, 4, 8, 0, 4]
    begun = jax.random.split(jax.random.split(keys_of(found[2])[2])[1], 1)[0]
    assert_close(one(found[2].after.networks[:2]), network.init(begun))


def test_what_it_minimises_falls(ran):
    _, method, found, _ = ran
    assert_falls(method, found)
    assert_distils(method, found)


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
