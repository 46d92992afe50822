"""DM: its first updates by hand."""

import functools

import jax
import numpy as np
import pytest
from matching_by_hand import (
    CLASSES,
    assert_descends,
    assert_distils,
    assert_falls,
    assert_first_images_are_real,
    assert_sees,
    by_class,
    keys_of,
    real_layers,
    run,
    summed,
)

from jaxdd.data import augmentation
from jaxdd.methods import DM

RATE = 0.3


@pytest.fixture(scope="module")
def ran(digits):
    return run("dm", digits, 20, learning_rate=RATE)


def test_two_updates_by_hand(ran, digits):
    method, found, network = ran
    augment, init = augmentation.named("dsa"), jax.jit(network.init)

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=2)
    def of_class(start, real, images, key):
        drawn = augment.draw(key, 1)
        features = real_layers(network, start, augment.apply(real, drawn))[-2]
        ours = network.layers(start[0], augment.apply(images, drawn), start[1], train=True)[0][-2]
        return ((features.mean(0) - ours.mean(0)) ** 2).sum()

    def loss_and_slope(update):
        key_start, key_match, _ = keys_of(update)
        start = init(key_start)
        draws = jax.random.split(jax.random.split(key_match)[0], CLASSES)
        sides = by_class(update.batch.images), by_class(update.before.params["images"])
        return summed(of_class, [start] * CLASSES, *sides, draws)

    assert_descends(found, loss_and_slope, RATE)
    assert_sees(method, digits)
    assert_first_images_are_real(found[0].before.params["images"], digits)


def test_what_it_minimises_falls(ran):
    method, found, _ = ran
    assert_falls(method, found)
    np.testing.assert_array_equal(assert_distils(method, found).images, found[-1].after.params["images"])


def test_published_settings():
    images = {"init": "real", "augmentation": "dsa", "target_per_class": 256, "learning_rate": 1.0}
    assert images.items() <= vars(DM()).items()
