"""Networks that are scored by the moving average of their weights."""

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models
from jaxdd.errors import JaxddError
from jaxdd.evaluation import Predictor, evaluate
from jaxdd.training import Protocol, fit, protocols
from jaxdd.types import Distilled, Examples

NORMED = models.from_linen(by_hand.Normed(), (14, 14, 1))
STEPS = {"steps": 5, "optimizer": "sgd", "schedule": "constant"}


@pytest.fixture(scope="module")
def trained(digits):
    """Of some networks the weights, by hand and as the protocol has them, and what is not weights."""
    images, labels = digits.images[:12], digits.labels.values[:12]
    keys, rates = jax.random.split(jax.random.key(0), 2), jnp.array([0.1, 0.3])

    @jax.jit
    def by_steps(key, rate):
        theta, stats = NORMED.init(jax.random.split(key, 3)[0])

        def loss(theta, stats):
            logits, stats = NORMED.apply(theta, images, stats, train=True)
            return by_hand.cross_entropy(logits, jax.nn.one_hot(labels, 4)), stats

        def step(carry, _):
            theta, stats = carry
            slope, stats = jax.grad(loss, has_aux=True)(theta, stats)
            theta = jax.tree.map(lambda p, g: p - rate * g, theta, slope)
            return (theta, stats), (theta, stats)

        return jax.lax.scan(step, (theta, stats), length=5)[1]

    def networks(weight_average):
        protocol = Protocol("short", "", (0.1,), **STEPS, weight_average=weight_average)
        return fit(NORMED, images[None], labels[None], protocol, rates, keys)

    expected = [by_steps(*given) for given in zip(keys, rates, strict=True)]
    return expected, networks(0.0), networks(0.7)


def test_it_is_of_the_weights_after_every_step_and_not_of_the_first(trained):
    expected, last, average = trained
    for i, (thetas, stats) in enumerate(expected):
        weights = 0.7 ** np.arange(4, -1, -1)

        def mean(leaf, weights=weights):
            return np.tensordot(weights / weights.sum(), np.float64(leaf), 1)

        for found, wanted in ((last, lambda leaf: leaf[-1]), (average, mean)):
            jax.tree.map(lambda a, b, i=i, of=wanted: by_hand.assert_near(a[i], of(b)), found.theta, thetas)
            jax.tree.map(lambda a, b, i=i: by_hand.assert_near(a[i], b[-1]), found.stats, stats)
    assert np.abs(last.theta["head"]["kernel"] - average.theta["head"]["kernel"]).max() > 1e-2


def test_it_is_what_is_scored_by_its_features_too(digits):
    """By a decay of nearly one: the mean of all steps, of which the last ones are wild."""
    network = models.build("mlp(width=16, depth=1)", (14, 14, 1), 4)
    chosen = np.concatenate([np.flatnonzero(np.asarray(digits.labels.values) == label)[:5] for label in range(4)])
    labels = jax.nn.one_hot(digits.labels.values[chosen], 4) - 1 / 4
    support = Distilled(digits.images[chosen], labels, label_convention="centred")
    protocol = Protocol("p", "", (0.02,), steps=40, optimizer="sgd", schedule="constant", weight_average=0.95)
    rest = Examples(digits.images[100:], digits.labels.values[100:])
    options = {"num_networks": 2, "key": jax.random.key(0), "predictor": Predictor(None, 1e-2)}
    score = evaluate(network, support, None, rest, protocol, **options)
    thetas = fit(
        network, support.images[None], labels[None], protocol, [0.02] * 2,
        jax.random.split(jax.random.split(options["key"])[1], 2), label_convention="centred",
    ).theta  # fmt: skip
    for i in range(2):
        w, b, v, c = (
            np.float64(thetas[layer][kind][i]) for layer in ("dense_0", "head") for kind in ("kernel", "bias")
        )
        f_s, f_t = (np.maximum(np.float64(x).reshape(-1, 196) @ w + b, 0) for x in (support.images, rest.images))
        k_ss = f_s @ f_s.T
        regressed = f_t @ f_s.T @ np.linalg.solve(k_ss + 1e-2 * np.trace(k_ss) / 20 * np.eye(20), np.float64(labels))
        for accuracies, outputs in ((score.accuracies, f_t @ v + c), (score.kernel_accuracies, regressed)):
            assert accuracies[i] == pytest.approx(np.mean(outputs.argmax(1) == np.asarray(rest.labels)), abs=4e-3)
    assert min(*score.accuracies, *score.kernel_accuracies) > 0.6


def test_frepo_and_edc_have_it_and_no_other():
    averages = {name: protocols.get(name).weight_average for name in protocols.available()}
    assert {name: average for name, average in averages.items() if average} == {
        "frepo": 0.995, "frepo-digits": 0.995, "edc": 0.99, "edc-digits": 0.99,
    }  # fmt: skip


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_that_cannot_be(decay):
    with pytest.raises(JaxddError, match="needs a decay of its weights' average of at least 0 and under 1"):
        Protocol("p", "", (0.1,), steps=1, weight_average=decay)
