"""CAFE: its first updates by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matching_by_hand import (
    CLASSES,
    IPC,
    REAL,
    assert_close,
    assert_descends,
    assert_distils,
    assert_falls,
    assert_sees,
    by_class,
    cross_entropy,
    keys_of,
    real_layers,
    run,
)
from toys import updates

from jaxdd import methods
from jaxdd.errors import JaxddError
from jaxdd.methods import CAFE

RATE, QUERY, WINDOW = 0.1, 32, 3
# Accuracies on 32 examples, and what these say, are exact.
OPTIONS = {
    "learning_rate": RATE,
    "early_weight": 0.3,
    "discrimination_weight": 0.02,
    "query": QUERY,
    "window": WINDOW,
    "renewal": 2 / 32,
    "change": 2 / 32,
    "max_epochs": 6,
    "network_learning_rate": 0.05,
}


@pytest.fixture(scope="module")
def ran(digits):
    return run("cafe", digits, 20, depth=2, **OPTIONS)


def test_two_updates_of_the_images_by_hand(ran, digits):
    method, found, network = ran

    @jax.jit
    @jax.value_and_grad
    def loss_of(images, real, theta, stats):
        theirs = [real_layers(network, (theta, stats), real[label]) for label in range(CLASSES)]
        ours = [network.layers(theta, images[label], stats, train=True)[0] for label in range(CLASSES)]
        centres = jnp.stack([layers[2].mean(0) for layers in ours])
        total = 0.0
        for label in range(CLASSES):
            # Of two nonlinearities the first counts less; the features count again in what tells classes apart.
            for layer, weight in ((0, 0.3), (1, 1.0), (2, 1.0 + 1.0)):
                total += weight * ((theirs[label][layer].mean(0) - ours[label][layer].mean(0)) ** 2).sum()
            scores = theirs[label][2] @ centres.T
            total -= 0.02 * (scores[:, label] - jax.scipy.special.logsumexp(scores, axis=1)).sum()
        return total

    def loss_and_slope(update):
        images, real = by_class(update.before.params["images"]), by_class(update.batch.images[: CLASSES * REAL])
        loss, slope = loss_of(images, real, update.before.networks.theta, update.before.networks.stats)
        return float(loss), np.concatenate(slope)

    assert_descends(found, loss_and_slope, RATE)
    assert_sees(method, digits, rest=QUERY)
    first = found[0].before.params["images"]
    assert abs(float(first.mean())) < 0.1 and abs(float(first.std()) - 1) < 0.1


def test_the_network_is_trained_while_that_changes_it_slowly_and_renewed_once_it_has_settled(ran):
    _, found, network = ran
    labels, init = np.repeat(np.arange(CLASSES), IPC), jax.jit(network.init)

    @jax.jit
    def right(theta, stats, images, labels):
        return (network.apply(theta, images, stats)[0].argmax(1) == labels).mean()

    @jax.jit
    def epoch(theta, stats, images):
        def loss(theta):
            logits, after = network.apply(theta, images, stats, train=True)
            return cross_entropy(logits, labels), after

        grads, after = jax.grad(loss, has_aux=True)(theta)
        return jax.tree.map(lambda leaf, g: leaf - 0.05 * g, theta, grads), after

    lengths, seen = [], []
    for update in found:
        query, images = [leaf[CLASSES * REAL :] for leaf in update.batch], update.after.params["images"]
        theta, stats = update.before.networks.theta, update.before.networks.stats
        seen = [*seen, float(right(theta, stats, *query))][-WINDOW:]
        if len(seen) == WINDOW and max(seen) - min(seen) < 2 / 32:
            (theta, stats), seen, epochs = init(keys_of(update)[2]), [], 0
        else:
            within, epochs = [], 0
            while epochs < 6 and not (len(within) == WINDOW and max(within) - min(within) > 2 / 32):
                theta, stats = epoch(theta, stats, images)
                within = [*within, float(right(theta, stats, *query))][-WINDOW:]
                epochs += 1
        lengths.append(epochs)
        assert_close(update.after.networks.theta, theta)
        assert_close(update.after.networks.stats, stats)
        np.testing.assert_array_equal(update.after.networks.accuracies, [-1] * (WINDOW - len(seen)) + seen)
    assert set(lengths) >= {0, WINDOW, 6}  # renewed, stopped as early as can be, and not before the longest


def test_a_network_is_kept_until_the_window_of_accuracies_is_full(digits):
    """Whatever these are; where all that is asked for is that they lie within more than one of each other."""
    method = methods.build("cafe", model="mlp(width=2, depth=1)", target_per_class=1, query=8, window=3, renewal=2.0,
                           max_epochs=1)  # fmt: skip
    full = [(np.asarray(update.after.networks.accuracies) >= 0).sum() for update in updates(method, digits, 7)]
    assert full == [1, 2, 0, 1, 2, 0, 1]


def test_what_it_minimises_falls(ran):
    method, found, _ = ran
    assert_falls(method, found)
    assert_distils(method, found)


def test_published_settings():
    images = {"init": "noise", "augmentation": "none", "target_per_class": 256, "learning_rate": 0.1}
    loss = {"early_weight": 0.1, "discrimination_weight": 0.01}
    networks = {"renewal": 0.04, "change": 0.03, "window": 10, "network_learning_rate": 0.01}
    assert {**images, **loss, **networks}.items() <= vars(CAFE()).items()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"early_weight": -0.1}, "early_weight of CAFE must be at least 0"),
        ({"discrimination_weight": -0.1}, "discrimination_weight of CAFE must be at least 0"),
        ({"query": 0}, "query of CAFE must be at least 1"),
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
