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
    by_class,
    cross_entropy,
    keys_of,
    real_layers,
    run,
)

from jaxdd import methods
from jaxdd.data import augmentation
from jaxdd.errors import JaxddError
from jaxdd.methods import NCFM

RATE, NETWORKS, STEPS, BATCH, FREQUENCIES = 0.05, 3, 4, 16, 32
OPTIONS = {
    "ipc": 2,
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


def tiles(images):
    """The quarters of each stored image, as large as the whole."""
    quarters = [stored[i : i + 7, j : j + 7] for stored in images for i in (0, 7) for j in (0, 7)]
    return jax.image.resize(jnp.stack(quarters), (len(quarters), 14, 14, 1), "linear")


def test_its_networks_are_trained_on_real_examples_before_the_first_update(ran, digits):
    _, found, network = ran
    init = jax.jit(network.init)

    @jax.jit
    def step(theta, stats, velocity, key):
        rows = jax.random.randint(key, (BATCH,), 0, len(digits.images))

        def loss(theta):
            logits, after = network.apply(theta, digits.images[rows], stats, train=True)
            return cross_entropy(logits, digits.labels.values[rows]), after

        grads, after = jax.grad(loss, has_aux=True)(theta)
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, grads)
        return jax.tree.map(lambda leaf, v: leaf - 0.02 * v, theta, velocity), after, velocity

    key_networks = jax.random.split(jax.random.split(jax.random.key(0))[0])[1]
    for k, key in enumerate(jax.random.split(key_networks, NETWORKS)):
        key_init, key_train = jax.random.split(key)
        theta, stats = first = init(key_init)
        velocity = jax.tree.map(jnp.zeros_like, theta)
        for t in range(STEPS):
            theta, stats, velocity = step(theta, stats, velocity, jax.random.fold_in(key_train, t))
        kept = jax.tree.map(lambda leaf, k=k: leaf[k], found[0].before.networks)
        assert_close(kept, (first, (theta, stats)))
    assert_close(found[-1].after.networks, found[0].before.networks, 0)


def test_three_updates_by_hand(ran, digits):
    method, found, network = ran
    augment = augmentation.siamese("color_crop_cutout", always="color_crop_cutout")

    def characteristic(features, frequencies):
        features = features / jnp.sqrt((features**2).sum(1, keepdims=True))
        return jnp.exp(1j * features @ frequencies.T).mean(0)

    @jax.jit
    @jax.value_and_grad
    def of_class(stored, real, label, between, trained, key, key_calibration, frequencies):
        images, drawn = tiles(stored), augment.draw(key, 1)
        theirs = real_layers(network, between, augment.apply(real, drawn))[-2]
        ours = network.layers(between[0], augment.apply(images, drawn), between[1], train=True)[0][-2]
        p, q = characteristic(theirs, frequencies), characteristic(ours, frequencies)
        amplitude = (jnp.abs(p) - jnp.abs(q)) ** 2
        phase = 2 * (jnp.abs(p) * jnp.abs(q) - (p * q.conj()).real)
        images = augment.apply(images, augment.draw(key_calibration, 1))
        logits = network.apply(trained[0], images, trained[1])[0]
        distance = jnp.sqrt(0.3 * amplitude + 0.7 * phase).mean()
        return 30 * distance + 2 * cross_entropy(logits, jnp.full(len(images), label))

    first, second, chosen = 0.0, 0.0, []
    lowest, highest = float(digits.images.min()), float(digits.images.max())
    for count, update in enumerate(found[:3], 1):
        key_start, key_match, _ = keys_of(update)
        key_choose, key_place = jax.random.split(key_start)
        chosen.append(int(jax.random.randint(key_choose, (), 0, NETWORKS)))
        place = jax.random.uniform(key_place)
        start, trained = jax.tree.map(lambda leaf: leaf[chosen[-1]], update.before.networks)
        between = jax.tree.map(lambda a, b, place=place: (1 - place) * a + place * b, start, trained)
        key_match, key_calibration = jax.random.split(key_match)
        key_draw, key_frequencies = jax.random.split(key_match)
        frequencies = jax.random.normal(key_frequencies, (FREQUENCIES, 100))
        draws, others = (jax.random.split(key, CLASSES) for key in (key_draw, key_calibration))
        before, real = by_class(update.before.params["images"]), by_class(update.batch.images)
        parts = [
            of_class(before[c], real[c], c, between, trained, draws[c], others[c], frequencies) for c in range(CLASSES)
        ]
        slope = np.concatenate([slope for _, slope in parts])
        assert_close(update.metrics["loss"], sum(loss for loss, _ in parts))
        assert_close(update.metrics["gradient_norm"], np.sqrt((slope**2).sum()), 1e-4)
        # AdamW: of gradients, of their squares, a step of a size that does not depend on theirs, and the decay.
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        moments = [optax.tree.get(update.after.opt_state, name)["images"] for name in ("mu", "nu")]
        assert_close(moments, [first, second], 1e-4)
        scaled = [np.asarray(moment) / (1 - b**count) for moment, b in zip(moments, (0.9, 0.999), strict=True)]
        before = np.asarray(update.before.params["images"])
        after = before - RATE * (scaled[0] / (np.sqrt(scaled[1]) + 1e-8) + 5e-4 * before)
        assert_close(update.after.params["images"], np.clip(after, lowest, highest), 5e-7)
        np.testing.assert_array_equal(update.after.params["labels"], update.before.params["labels"])
    assert len(set(chosen)) > 1
    assert (after < lowest).any() and ((after > lowest) & (after < highest)).mean() > 0.1
    assert_sees(method, digits)


def test_what_it_minimises_falls(ran):
    method, found, _ = ran
    assert_falls(method, found)
    distilled = assert_distils(method, found, per_class=8)
    assert_close(distilled.images, tiles(found[-1].after.params["images"]), 1e-5)


def test_whole_images_are_stored_one_by_one(digits):
    method = methods.build("ncfm", factor=1, ipc=3)
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
