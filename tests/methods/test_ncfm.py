"""NCFM: its first updates by hand."""

import math

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
    by_class,
    cross_entropy,
    layers,
    run,
    tiles,
)

from jaxdd import methods
from jaxdd.data import augmentation
from jaxdd.engine.stages import foretold
from jaxdd.errors import JaxddError
from jaxdd.methods import NCFM
from jaxdd.types import bound

RATE, NETWORKS, STEPS, BATCH, FREQUENCIES = 0.03, 3, 4, 16, 32
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


def test_a_stage_trains_its_networks_on_real_examples(ran, digits):
    """Each from a first state of its own; batches of an epoch are of one order."""
    _, found, network = ran
    key_init, key_sample, _ = jax.random.split(jax.random.key(0), 3)
    labels, batches = digits.labels.values, len(digits.images) // BATCH

    @jax.jit
    def by_hand(part):
        first = network.init(jax.random.fold_in(key_init, part))

        def step(now, place_and_rate):
            (theta, stats, velocity), (place, rate) = now, place_and_rate
            order = jax.random.permutation(jax.random.fold_in(key_sample, place // batches), len(labels))
            rows = jax.lax.dynamic_slice_in_dim(order, place % batches * BATCH, BATCH)

            def loss(theta):
                logits, after = network.apply(theta, digits.images[rows], stats, train=True)
                return cross_entropy(logits, labels[rows]), after

            grads, after = jax.grad(loss, has_aux=True)(theta)
            velocity = jax.tree.map(lambda v, g, leaf: 0.9 * v + g + 5e-4 * leaf, velocity, grads, theta)
            return (jax.tree.map(lambda leaf, v: leaf - rate * v, theta, velocity), after, velocity), ()

        places = part * STEPS + jnp.arange(STEPS), 0.02 * jnp.array([1, 1, 0.2, 0.04])
        (theta, stats, _), _ = jax.lax.scan(step, (*first, jax.tree.map(jnp.zeros_like, first[0])), places)
        return first, (theta, stats)

    expected = [by_hand(part) for part in range(NETWORKS)]
    used = set()
    for update in found:
        rows = np.asarray(update.batch.rows["ncfm_networks"])
        (part,) = rows[:, 0] // 2
        np.testing.assert_array_equal(rows, [[2 * part, 2 * part + 1]])
        pair = update.batch.tables["ncfm_networks"]
        for leaf, *ends in zip(*map(jax.tree.leaves, (pair, *expected[part])), strict=True):
            assert_close(leaf, np.stack(ends)[None])
        used.add(int(part))
    assert used == set(range(NETWORKS))


def characteristic(features, frequencies):
    """The mean of exp(i <t, f>), of features of length one."""
    features = features / jnp.sqrt((features**2).sum(1, keepdims=True))
    return jnp.exp(1j * features @ frequencies.T).mean(0)


def test_updates_by_hand(ran, digits):
    """Two steps for each class in turn: first all that match, then all that calibrate, by one AdamW over all images."""
    _, found, network = ran
    augment = augmentation.named("cutout")
    lowest, highest = float(np.min(digits.images)), float(np.max(digits.images))

    def place(update):
        key_draw, key_calibration, key_place, key_frequencies = jax.random.split(update.key, 4)
        first, trained = (
            jax.tree.map(lambda leaf, k=k: leaf[0, k], update.batch.tables["ncfm_networks"]) for k in (0, 1)
        )
        share = jax.random.uniform(key_place)
        between = jax.tree.map(lambda a, b: (1 - share) * a + share * b, first, trained)
        return key_draw, key_calibration, key_frequencies, between, trained

    @jax.jit
    @jax.value_and_grad
    def match(stored, update, label):
        key_draw, _, key_frequencies, between, _ = place(update)
        drawn = augment.draw(jax.random.split(key_draw, CLASSES)[label], 1)
        theirs = layers(network, between, augment.apply(by_class(update.batch.images)[label], drawn))[-2]
        ours = layers(network, between, augment.apply(tiles(by_class(stored)[label]), drawn))[-2]
        frequencies = jax.random.normal(key_frequencies, (FREQUENCIES, ours.shape[1]))
        p, q = characteristic(theirs, frequencies), characteristic(ours, frequencies)
        amplitude = (jnp.abs(p) - jnp.abs(q)) ** 2
        phase = 2 * (jnp.abs(p) * jnp.abs(q) - (p * q.conj()).real)
        return 30 * jnp.sqrt(0.3 * amplitude + 0.7 * phase).mean()

    @jax.jit
    @jax.value_and_grad
    def calibrate(stored, update, label):
        _, key_calibration, _, _, trained = place(update)
        drawn = augment.draw(jax.random.split(key_calibration, CLASSES)[label], 1)
        images = augment.apply(tiles(by_class(stored)[label]), drawn)
        logits = network.apply(trained[0], images, trained[1])[0]
        return 2 * cross_entropy(logits, jnp.full(len(images), label))

    mean, square, count = 0.0, 0.0, 0
    for update in found[:2]:
        images, sums = np.asarray(update.before.params["images"]), []
        for part in (match, calibrate):
            total = 0.0
            for label in range(CLASSES):
                loss, slope = part(images, update, label)
                slope = np.asarray(slope)
                assert not slope.reshape(CLASSES, -1)[[k for k in range(CLASSES) if k != label]].any()
                mean, square, count = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2, count + 1
                # In single precision, which matters: the second of these is 0.001 at first.
                shares = (1 - np.float32(decay) ** np.float32(count) for decay in (0.9, 0.999))
                first, second = (moment / share for moment, share in zip((mean, square), shares, strict=True))
                images = images - RATE * (first / (np.sqrt(second) + 1e-8) + 5e-4 * (images - lowest))
                total += float(loss)
            sums.append(total)
        assert_close([update.metrics[name] for name in ("match", "calibration", "loss")], [*sums, sum(sums)], 1e-4)
        assert_close(optax.tree.get(update.after.opt_state, "mu")["images"], mean, 1e-3)
        # Where a slope is next to nothing its sign is rounding's, and a step of Adam is that of its sign.
        off = np.abs(update.after.params["images"] - np.clip(images, lowest, highest))
        assert (off < 1e-3).mean() > 0.99
        assert np.median(off[images > lowest + 0.5]) < 2e-5, "the decay moves each by three times that at least"
        np.testing.assert_array_equal(update.after.params["labels"], update.before.params["labels"])
        images = np.asarray(update.after.params["images"])
    assert (images == np.float32(lowest)).any()  # clipped, some


def test_what_it_minimises_falls(ran):
    method, found, _ = ran
    assert_falls(method, found, share=0.97)  # calibration is much of it, and falls little
    assert_distils(method, found, tiles, per_class=8)


def test_whole_images_are_stored_one_by_one(digits):
    recipe = methods.build("ncfm", factor=1, ipc=3)
    method = bound(recipe, foretold(recipe, digits))
    distilled = jax.eval_shape(lambda key: method.distilled(method.init(key, digits)), jax.random.key(0))
    assert distilled.images.shape == distilled.params["images"].shape == (CLASSES * 3, 14, 14, 1)


def test_published_settings():
    images = {"init": "real", "factor": 2, "augmentation": "idc-match", "target_per_class": 1024}
    loss = {"frequencies": 4096, "matching_weight": 300.0, "amplitude_weight": 0.5, "calibration_weight": 1.0}
    networks = {
        "networks": 20,
        "network_batch": 128,
        "network_steps": 60 * math.ceil(50_000 / 128),
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
