"""DataDAM: its first updates by hand."""

import jax
import jax.numpy as jnp
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

from jaxdd import methods
from jaxdd.data import augmentation
from jaxdd.errors import JaxddError
from jaxdd.methods import DataDAM

RATE = 0.1
OPTIONS = {
    "augmentation": "color",
    "learning_rate": RATE,
    "exponent": 3.0,
    "attention_weight": 30.0,
    "feature_weight": 0.5,
}


@pytest.fixture(scope="module")
def ran(digits):
    return run("datadam", digits, 20, depth=2, **OPTIONS)


def attention(maps):
    """The mean over images of where they are active, at length one."""
    maps = (jnp.abs(maps) ** 3).sum(-1).reshape(len(maps), -1)
    return (maps / jnp.sqrt((maps**2).sum(1, keepdims=True))).mean(0)


def test_two_updates_by_hand(ran, digits):
    method, found, network = ran
    augment = augmentation.named("color")

    @jax.jit
    def loss_and_slope(update):
        key_start, key_match, _ = keys_of(update)
        start = network.init(key_start)

        def of_class(images, real, label, key):
            drawn = augment.draw(key, 1)
            theirs = layers(network, start, augment.apply(real, drawn))
            ours = layers(network, start, augment.apply(images, drawn))
            # The first of two nonlinearities, and the features.
            by_attention = ((attention(theirs[0]) - attention(ours[0])) ** 2).sum()
            return 30 * (by_attention + 0.5 * ((theirs[2].mean(0) - ours[2].mean(0)) ** 2).sum())

        return over_classes(of_class, update, jax.random.split(key_match)[0])

    assert_descends(found, loss_and_slope, RATE)
    assert_sees(method, digits)
    assert_first_images_are_real(found[0].before.params["images"], digits)


def test_what_it_minimises_falls(ran):
    method, found, _ = ran
    assert_falls(method, found)
    assert_distils(method, found, lambda stored: stored)


def test_published_settings():
    images = {"init": "real", "augmentation": "dsa", "target_per_class": 64, "learning_rate": 1.0}
    loss = {"exponent": 1.0, "attention_weight": 100.0, "feature_weight": 0.01}
    assert {**images, **loss}.items() <= vars(DataDAM()).items()


def test_a_network_without_two_maps_is_one_sentence(digits):
    with pytest.raises(JaxddError, match="datadam needs a convolutional network of at least two layers"):
        run("datadam", digits, 1, depth=1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"exponent": 0.0}, "exponent of DataDAM must be positive"),
        ({"attention_weight": 0.0}, "attention_weight of DataDAM must be positive"),
        ({"feature_weight": -0.1}, "feature_weight of DataDAM must be at least 0"),
    ],
)
def test_bad_hyper_parameters(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build("datadam", **options)
