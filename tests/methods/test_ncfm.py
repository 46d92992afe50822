"""NCFM: its first updates by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matching_by_hand import (
    CLASSES,
    assert_close,
    assert_distils,
    assert_falls,
    assert_sees,
    cross_entropy,
    keys_of,
    layers,
    over_classes,
    real_layers,
    run,
    tiles,
)

from jaxdd import methods
from jaxdd.data import augmentation
from jaxdd.errors import JaxddError
from jaxdd.methods import NCFM
from jaxdd.types import bound

RATE, NETWORKS, STEPS, BATCH, FREQUENCIES = 0.2, 3, 4, 16, 32
OPTIONS = {
    "ipc": 2,
    "augmentation": "cutout",
    "learning_rate": RATE,
    "frequencies": FREQUENCIES,
    "matching_weight": 30.0,
    "amplitude_weight": 0.3,
    "calibration_weight": 2.0,
    "networks": NETWORKS,
    "network_steps": STEPS,
    "network_batch": BATCH,
    "network_learning_rate": 0.02,
}


@pytest.fixture(scope="module")
def ran(digits):
    return run("ncfm", digits, 20, **OPTIONS)


def test_its_networks_are_trained_on_real_examples_before_the_first_update(ran, digits):
    _, found, network = ran

    @jax.jit
    def by_hand(key):
        key_init, key_train = jax.random.split(key)
        first = network.init(key_init)

        def step(now, place):
            theta, stats, velocity = now
            rows = jax.random.randint(jax.random.fold_in(key_train, place), (BATCH,), 0, len(digits.images))

            def loss(theta):
                logits, after = network.apply(theta, digits.images[rows], stats, train=True)
                return cross_entropy(logits, digits.labels.values[rows]), after

            grads, after = jax.grad(loss, has_aux=True)(theta)
            velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, grads)
            return (jax.tree.map(lambda leaf, v: leaf - 0.02 * v, theta, velocity), after, velocity), ()

        (theta, stats, _), _ = jax.lax.scan(step, (*first, jax.tree.map(jnp.zeros_like, first[0])), jnp.arange(STEPS))
        return first, (theta, stats)

    key_networks = jax.random.split(jax.random.split(jax.random.key(0))[0])[1]
    networks = [by_hand(key) for key in jax.random.split(key_networks, NETWORKS)]
    assert_close(found[0].before.networks, jax.tree.map(lambda *leaves: np.stack(leaves), *networks))
    assert_close(found[-1].after.networks, found[0].before.networks, 0)


def characteristic(features, frequencies):
    """The mean of exp(i <t, f>), of features of length one."""
    features = features / jnp.sqrt((features**2).sum(1, keepdims=True))
    return jnp.exp(1j * features @ frequencies.T).mean(0)


def test_three_updates_by_hand(ran, digits):
    method, found, network = ran
    augment = augmentation.named("cutout")

    @jax.jit
    def by_hand(update):
        """Loss, slope, and which network it is."""
        key_start, key_match, _ = keys_of(update)
        key_choose, key_place = jax.random.split(key_start)
        chosen, place = jax.random.randint(key_choose, (), 0, NETWORKS), jax.random.uniform(key_place)
        start, trained = jax.tree.map(lambda leaf: leaf[chosen], update.before.networks)
        between = jax.tree.map(lambda a, b: (1 - place) * a + place * b, start, trained)
        key_layers, key_calibration = jax.random.split(key_match)
        key_draw, key_frequencies = jax.random.split(key_layers)

        def of_class(stored, real, label, key, key_calibration):
            images, drawn = tiles(stored), augment.draw(key, 1)
            theirs = real_layers(network, between, augment.apply(real, drawn))[-2]
            ours = layers(network, between, augment.apply(images, drawn))[-2]
            frequencies = jax.random.normal(key_frequencies, (FREQUENCIES, ours.shape[1]))
            p, q = characteristic(theirs, frequencies), characteristic(ours, frequencies)
            amplitude = (jnp.abs(p) - jnp.abs(q)) ** 2
            phase = 2 * (jnp.abs(p) * jnp.abs(q) - (p * q.conj()).real)
            distance = jnp.sqrt(0.3 * amplitude + 0.7 * phase).mean()
            images = augment.apply(images, augment.draw(key_calibration, 1))
            logits = network.apply(trained[0], images, trained[1])[0]
            return 30 * distance + 2 * cross_entropy(logits, jnp.full(len(images), label))

        return over_classes(of_class, update, key_draw, key_calibration), chosen

    mean, square, used = 0.0, 0.0, set()
    lowest, highest = float(np.min(digits.images)), float(np.max(digits.images))
    for count, update in enumerate(found[:3], 1):
        (loss, slope), chosen = by_hand(update)
        slope = np.asarray(slope)
        used.add(int(chosen))
        assert_close(update.metrics["loss"], loss)
        assert_close(update.metrics["gradient_norm"], np.sqrt((slope**2).sum()), 1e-4)
        # AdamW: the moments, then a step that does not depend on the size of the slope, and the decay.
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        moments = [np.asarray(optax.tree.get(update.after.opt_state, name)["images"]) for name in ("mu", "nu")]
        assert_close(moments, [mean, square], 1e-4)
        # In single precision, which matters: the second of these is 0.001 at first.
        shares = (1 - np.float32(decay) ** np.float32(count) for decay in (0.9, 0.999))
        first, second = (moment / share for moment, share in zip(moments, shares, strict=True))
        before = np.asarray(update.before.params["images"])
        after = before - RATE * (first / (np.sqrt(second) + 1e-8) + 5e-4 * before)
        assert_close(update.after.params["images"], np.clip(after, lowest, highest), 2e-7)
        np.testing.assert_array_equal(update.after.params["labels"], update.before.params["labels"])
    assert len(used) > 1
    assert (after < lowest).any() and ((after > lowest) & (after < highest)).mean() > 0.1  # clipped, some
    assert_sees(method, digits)


def test_what_it_minimises_falls(ran):
    method, found, _ = ran
    assert_falls(method, found)
    assert_distils(method, found, tiles, per_class=8)


def test_whole_images_are_stored_one_by_one(digits):
    method = bound(methods.build("ncfm", factor=1, ipc=3), digits)
    distilled = jax.eval_shape(lambda key: method.distilled(method.init(key, digits)), jax.random.key(0))
    assert distilled.images.shape == distilled.params["images"].shape == (CLASSES * 3, 14, 14, 1)


def test_published_settings():
    images = {"init": "real", "factor": 2, "augmentation": "idc-match", "target_per_class": 1024}
    loss = {"frequencies": 4096, "matching_weight": 300.0, "amplitude_weight": 0.5, "calibration_weight": 1.0}
    networks = {
        "networks": 20,
        "network_batch": 256,
        "network_steps": 60 * (50_000 // 256),
        "network_learning_rate": 0.01,
    }
    assert {**images, **loss, **networks}.items() <= vars(NCFM()).items()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"factor": 0}, "factor of NCFM must be at least 1"),
        ({"frequencies": 0}, "frequencies of NCFM must be at least 1"),
        ({"matching_weight": 0.0}, "matching_weight of NCFM must be positive"),
        ({"amplitude_weight": 1.5}, "amplitude_weight of NCFM must be between 0 and 1"),
        ({"calibration_weight": -0.1}, "calibration_weight of NCFM must be at least 0"),
        ({"networks": 0}, "networks of NCFM must be at least 1"),
        ({"network_steps": 0}, "network_steps of NCFM must be at least 1"),
        ({"network_batch": 0}, "network_batch of NCFM must be at least 1"),
        ({"network_learning_rate": 0.0}, "network_learning_rate of NCFM must be positive"),
    ],
)
def test_bad_hyper_parameters(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build("ncfm", **options)
