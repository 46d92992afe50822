"""DataDAM: its first updates by hand."""

import functools

import jax
import jax.numpy as jnp
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

from jaxdd import methods
from jaxdd.data import augmentation
from jaxdd.errors import JaxddError
from jaxdd.methods import DataDAM

RATE = 0.1
OPTIONS = {"learning_rate": RATE, "exponent": 3.0, "attention_weight": 30.0, "feature_weight": 0.5}


@pytest.fixture(scope="module")
def ran(digits):
    return run("datadam", digits, 20, depth=2, **OPTIONS)


def test_two_updates_by_hand(ran, digits):
    method, found, network = ran
    augment, init = augmentation.named("dsa"), jax.jit(network.init)

    def attention(maps):
        maps = (jnp.abs(maps) ** 3).sum(-1).reshape(len(maps), -1)
        return (maps / jnp.sqrt((maps**2).sum(1, keepdims=True))).mean(0)

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=2)
    def of_class(start, real, images, key):
        drawn = augment.draw(key, 1)
        theirs = real_layers(network, start, augment.apply(real, drawn))
        ours = network.layers(start[0], augment.apply(images, drawn), start[1], train=True)[0]
        # The first of two nonlinearities, and the features.
        by_attention = ((attention(theirs[0]) - attention(ours[0])) ** 2).sum()
        return 30 * (by_attention + 0.5 * ((theirs[2].mean(0) - ours[2].mean(0)) ** 2).sum())

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
    assert_distils(method, found)


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
