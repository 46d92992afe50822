"""CAFE: its first updates by hand."""

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
    by_class,
    cross_entropy,
    keys_of,
    layers,
    run,
)
from toys import updates

from jaxdd import methods
from jaxdd.data import augmentation
from jaxdd.errors import JaxddError
from jaxdd.methods import CAFE

RATE, QUERY, DRAWS, WINDOW = 0.1, 8, 3, 3
# Accuracies on 8 examples of each of 4 classes, and what these say, are exact.
OPTIONS = {
    "learning_rate": RATE,
    "early_weight": 0.3,
    "discrimination_weight": 0.02,
    "query": QUERY,
    "query_draws": DRAWS,
    "augmentation": "cutout",
    "window": WINDOW,
    "renewal": 2 / 32,
    "change": 3 / 32,
    "max_epochs": 6,
    "network_learning_rate": 0.4,
}


@pytest.fixture(scope="module")
def ran(digits):
    return run("cafe", digits, 20, depth=2, **OPTIONS)


def test_two_updates_of_the_images_by_hand(ran, digits):
    method, found, network = ran

    augment = augmentation.named("cutout")

    @jax.jit
    def loss_and_slope(update):
        start = update.before.networks.theta, update.before.networks.stats
        key_draw = jax.random.split(keys_of(update)[1])[0]
        draws = [augment.draw(key, 1) for key in jax.random.split(key_draw, CLASSES)]

        def seen(images):
            return jnp.stack([augment.apply(each, drawn) for each, drawn in zip(by_class(images), draws, strict=True)])

        real = seen(update.batch.images)

        def loss(stored):
            theirs = jax.lax.map(lambda images: tuple(layers(network, start, images)), real)
            ours = jax.lax.map(lambda images: layers(network, start, images), seen(stored))
            # Of two nonlinearities the first counts less; the features count again in what tells classes apart.
            weighted = zip(theirs[:3], ours[:3], (0.3, 1.0, 1.0 + 1.0), strict=True)
            total = sum(weight * ((a.mean(1) - b.mean(1)) ** 2).sum() for a, b, weight in weighted)
            scores = jnp.einsum("cbd,kd->cbk", theirs[2], ours[2].mean(1))
            right = jnp.einsum("cbc->cb", scores)
            return total - 0.02 * (right - jax.scipy.special.logsumexp(scores, axis=2)).sum()

        return jax.value_and_grad(loss)(update.before.params["images"])

    assert_descends(found, loss_and_slope, RATE)
    rows = jax.jit(method.sample)(jax.random.key(5), digits.labels)["examples/further"]
    assert rows.shape == (CLASSES * QUERY, DRAWS) and len(np.unique(rows)) > CLASSES * QUERY
    labels = np.repeat(np.arange(CLASSES), QUERY)[:, None]
    np.testing.assert_array_equal(np.asarray(digits.labels.values)[rows], np.broadcast_to(labels, rows.shape))
    assert_first_images_are_noise(found[0].before.params["images"])


def test_the_network_is_trained_while_that_changes_it_slowly_and_renewed_once_it_has_settled(ran):
    _, found, network = ran
    labels = np.repeat(np.arange(CLASSES), IPC)

    augment = augmentation.named("cutout")

    def right(theta, stats, update, draw):
        images, labels = (leaf[:, draw % DRAWS] for leaf in update.batch.tables["examples/further"])
        return (network.apply(theta, images, stats)[0].argmax(1) == labels).mean()

    @jax.jit
    def before(update):
        """The accuracy of the network that was matched, and what a new one would begin with."""
        networks = update.before.networks
        begun = network.init(jax.random.split(keys_of(update)[2])[0])
        return right(networks.theta, networks.stats, update, 0), begun

    @jax.jit
    def epoch(theta, stats, update, count):
        key = jax.random.fold_in(jax.random.split(keys_of(update)[2])[1], count)
        images = augment.apply(update.after.params["images"], augment.draw(key, len(labels)))

        def loss(theta):
            logits, after = network.apply(theta, images, stats, train=True)
            return cross_entropy(logits, labels), after

        grads, after = jax.grad(loss, has_aux=True)(theta)
        theta = jax.tree.map(lambda leaf, g: leaf - 0.4 * g, theta, grads)
        return theta, after, right(theta, after, update, count + 1)

    lengths, seen = [], []
    for update in found:
        accuracy, (theta, stats) = before(update)
        seen = [*seen, float(accuracy)][-WINDOW:]
        if len(seen) == WINDOW and max(seen) - min(seen) < 2 / 32:
            seen, within = [], []
        else:
            theta, stats, within = update.before.networks.theta, update.before.networks.stats, []
            while len(within) < 6 and not (len(within) >= WINDOW and np.ptp(within[-WINDOW:]) > 3 / 32):
                theta, stats, accuracy = epoch(theta, stats, update, len(within))
                within.append(float(accuracy))
        lengths.append(len(within))
        assert_close((update.after.networks.theta, update.after.networks.stats), (theta, stats))
        np.testing.assert_array_equal(update.after.networks.accuracies, [-1] * (WINDOW - len(seen)) + seen)
    assert {0, 6} < set(lengths)  # renewed, trained to the end, and stopped before it


def test_a_network_is_kept_until_the_window_of_accuracies_is_full(digits):
    """Whatever these are; where all that is asked for is that they lie within more than one of each other."""
    method = methods.build("cafe", model="mlp(width=2, depth=1)", target_per_class=1, query=8, window=3, renewal=2.0,
                           max_epochs=1)  # fmt: skip
    full = [(np.asarray(update.after.networks.accuracies) >= 0).sum() for update in updates(method, digits, 7)]
    assert full == [1, 2, 0, 1, 2, 0, 1]


def test_what_it_minimises_falls(ran):
    method, found, _ = ran
    assert_falls(method, found)
    assert_distils(method, found, lambda stored: stored)


def test_published_settings():
    images = {"init": "noise", "augmentation": "none", "target_per_class": 256, "learning_rate": 0.1}
    loss = {"early_weight": 0.1, "discrimination_weight": 0.01}
    networks = {"query": 128, "renewal": 0.04, "change": 0.03, "window": 10, "network_learning_rate": 0.01}
    assert {**images, **loss, **networks}.items() <= vars(CAFE()).items()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"early_weight": -0.1}, "early_weight of CAFE must be at least 0"),
        ({"discrimination_weight": -0.1}, "discrimination_weight of CAFE must be at least 0"),
        ({"query": 0}, "query of CAFE must be at least 1"),
        ({"query_draws": 0}, "query_draws of CAFE must be at least 1"),
        ({"renewal": -0.1}, "renewal of CAFE must be at least 0"),
        ({"change": -0.1}, "change of CAFE must be at least 0"),
        ({"window": 1}, "window of CAFE must be at least 2"),
        ({"max_epochs": 0}, "max_epochs of CAFE must be at least 1"),
        ({"network_learning_rate": 0.0}, "network_learning_rate of CAFE must be positive"),
    ],
)
def test_bad_hyper_parameters(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build("cafe", **options)
