"""DM: its first updates by hand."""

import jax
import pytest
from matching_by_hand import (
    assert_descends,
    assert_distils,
    assert_falls,
    assert_first_images_are_real,
    assert_sees,
    keys_of,
    layers,
    over_classes,
    run,
)

from jaxdd.data import augmentation
from jaxdd.methods import DM

RATE = 0.3


@pytest.fixture(scope="module")
def ran(digits):
    return run("dm", digits, 20, learning_rate=RATE)


def test_two_updates_by_hand(ran, digits):
    method, found, network = ran
    augment = augmentation.named("dsa")

    @jax.jit
    def loss_and_slope(update):
        key_start, key_match, _ = keys_of(update)
        start = network.init(key_start)

        def of_class(images, real, label, key):
            drawn = augment.draw(key, 1)
            theirs = layers(network, start, augment.apply(real, drawn))[-2]
            return ((theirs.mean(0) - layers(network, start, augment.apply(images, drawn))[-2].mean(0)) ** 2).sum()

        return over_classes(of_class, update, jax.random.split(key_match)[0])

    assert_descends(found, loss_and_slope, RATE)
    assert_sees(method, digits)
    assert_first_images_are_real(found[0].before.params["images"], digits)


def test_what_it_minimises_falls(ran):
    method, found, _ = ran
    assert_falls(method, found)
    assert_distils(method, found, lambda stored: stored)


def test_published_settings():
    images = {"init": "real", "augmentation": "dsa", "target_per_class": 256, "learning_rate": 1.0}
    assert images.items() <= vars(DM()).items()
