"""Networks trained as a set was distilled for, and baselines that are treated the same way."""

import dataclasses

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import data, evaluation, inner, models
from jaxdd.errors import JaxddError
from jaxdd.evaluation import random_real
from jaxdd.evaluation.accuracy import accuracy
from jaxdd.evaluation.baselines import teach
from jaxdd.synthetic import DistilledDataset
from jaxdd.training import Protocol, fit_as_distilled, protocols
from jaxdd.training.as_distilled import check_as_distilled
from jaxdd.types import Distilled, Examples, leaves_by_path

ONE_RATE = Protocol("one", "", (1.0,), as_distilled=True)


@pytest.fixture(scope="module")
def mnist(mnist):
    return [mnist.train, mnist.validation, mnist.test]


def two_of_each(real):
    """Images and labels, class after class."""
    labels = np.asarray(real.labels.values)
    rows = np.concatenate([np.flatnonzero(labels == label)[:2] for label in range(10)])
    return np.asarray(real.images)[rows], labels[rows]


@pytest.fixture(scope="module")
def mlp():
    return models.build("mlp(width=16, depth=1)", (28, 28, 1), 10)


@pytest.fixture(scope="module")
def distilled(mnist, mlp):
    theta, _ = jax.jit(mlp.init)(jax.random.key(5))
    images, labels = map(jax.device_put, two_of_each(mnist[0]))
    return Distilled(
        images=images,
        labels=labels,
        learning_rates=jax.device_put(np.float32([0.1, 0.2, 0.05])),
        plan=jax.device_put(np.int32([[0, 2, 4, 6], [1, 3, 5, 7], [10, 12, 14, 19]])),
        theta0=leaves_by_path(theta),
    )


def test_training_follows_plan_rates_and_initialisation(mnist, mlp, distilled):
    score = evaluation.evaluate(
        mlp, distilled, None, mnist[2].examples, ONE_RATE, num_networks=7, key=jax.random.key(0)
    )

    @jax.jit
    def right(key, distilled, test):
        theta, stats = mlp.init(key)
        loss = inner.classification(mlp, stats)
        for rows, rate in zip(distilled.plan, distilled.learning_rates, strict=True):
            grads = jax.grad(loss)(theta, (distilled.images[rows], distilled.labels[rows]))
            theta = jax.tree.map(lambda p, g, rate=rate: p - rate * g, theta, grads)
        return (jnp.argmax(mlp.apply(theta, test.images, stats)[0], axis=1) == test.labels).mean()

    expected = float(right(jax.random.key(5), distilled, mnist[2].examples))
    assert score.accuracies == pytest.approx((expected,), abs=1.5e-3)  # once: nothing is random


def test_running_statistics_are_those_of_the_last_epoch(mnist):
    """Of its batches, at the last weights: a network that learned its images must know them in evaluation."""
    network = models.from_linen(by_hand.Normed(10), (28, 28, 1))
    images, labels = two_of_each(mnist[0])
    images += 3
    plan = np.array([[*range(0, 10)], [*range(0, 20, 2)], [*range(1, 20, 2)]] * 12, np.int32)[:35]
    images, labels, plan = jax.device_put((images, labels, plan))
    distilled = Distilled(images, labels, learning_rates=jax.device_put(np.full(35, 0.3, np.float32)), plan=plan)
    trained = fit_as_distilled(network, [distilled], [1.0, 0.5], jax.random.split(jax.random.key(1), 2), members=[0, 0])
    theta, stats = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64)[0], trained)
    hidden = np.float64(images).reshape(20, -1) @ theta["hidden"]["kernel"] + theta["hidden"]["bias"]
    batches = [hidden[rows] for rows in np.asarray(plan)[-2:]]
    for leaf, of in (("mean", np.mean), ("var", np.var)):
        expected = np.mean([of(batch, 0) for batch in batches], 0)
        np.testing.assert_allclose(stats["batch_stats"]["norm"][leaf], expected, rtol=1e-3, atol=1e-3)
    first = jax.jit(jax.vmap(lambda key: network.init(key)[1]))(jax.random.split(jax.random.key(1), 2))
    by_first = accuracy(network, trained._replace(stats=first), Examples(images, labels))
    assert accuracy(network, trained, Examples(images, labels))[0] > 0.7 > 0.4 > by_first[0]


def test_without_an_initialisation_every_network_is_another(mnist, mlp, distilled):
    free = dataclasses.replace(distilled, theta0=None)
    score = evaluation.evaluate(mlp, free, None, mnist[2].examples, ONE_RATE, num_networks=4, key=jax.random.key(0))
    assert len(set(score.accuracies)) == 4


def test_the_factor_is_selected_on_validation(mnist, mlp, distilled):
    score = evaluation.evaluate(
        mlp, distilled, mnist[1].examples, mnist[2].examples, "as-distilled", key=jax.random.key(0)
    )
    assert score.selected_on == "validation" and [rate for rate, _ in score.selection] == [0.1, 0.3, 1.0]


def test_random_real_images_are_trained_on_the_same_way(mnist, mlp, distilled):
    balanced = dataclasses.replace(distilled, plan=inner.ordered_plan(10, 2, 1, epochs=2)[:3])
    drawn = random_real(jax.random.key(1), mnist[0], 2, like=balanced)
    np.testing.assert_array_equal(drawn.plan, balanced.plan)
    np.testing.assert_array_equal(drawn.learning_rates, distilled.learning_rates)
    assert drawn.theta0 is distilled.theta0
    fewer = dataclasses.replace(distilled, images=distilled.images[:5], labels=distilled.labels[:5])
    drawn = random_real(jax.random.key(1), mnist[0], 1, like=fewer)
    np.testing.assert_array_equal(drawn.plan, np.tile(np.arange(10), (3, 1)))  # all that there are at every step


def test_a_plan_for_some_classes_is_not_put_on_images_of_all(mnist, distilled):
    """Two images of each of five classes in two steps: rows 0, 2, .. would be the even classes of a balanced ten."""
    some = dataclasses.replace(
        distilled,
        images=distilled.images[:10],
        labels=distilled.labels[:10],
        plan=inner.ordered_plan(5, 2, 1, epochs=1),
        learning_rates=jnp.ones(2),
    )
    drawn = random_real(jax.random.key(1), mnist[0], 1, like=some)
    np.testing.assert_array_equal(drawn.plan, np.tile(np.arange(10), (2, 1)))
    every = dataclasses.replace(distilled, plan=inner.ordered_plan(10, 2, 1, epochs=1), learning_rates=jnp.ones(2))
    drawn = random_real(jax.random.key(1), mnist[0], 2, like=every)
    np.testing.assert_array_equal(drawn.plan, every.plan)


def test_a_plan_of_unequal_shares_is_put_on_images_as_unequal(mnist, distilled):
    counts = (4, *[2] * 9)
    own = dataclasses.replace(
        distilled, plan=inner.ordered_plan(10, counts, (2, *[1] * 9), epochs=1), learning_rates=jnp.ones(2)
    )
    np.testing.assert_array_equal(random_real(jax.random.key(1), mnist[0], counts, like=own).plan, own.plan)
    drawn = random_real(jax.random.key(1), mnist[0], (2, 4, *[2] * 8), like=own)
    np.testing.assert_array_equal(drawn.plan, np.tile(np.arange(22), (2, 1)))


def test_learned_labels_stand_beside_a_teachers(mnist, mlp, distilled, monkeypatch):
    vectors = jax.device_put(np.eye(10, dtype="f")[np.asarray(distilled.labels)])
    soft = dataclasses.replace(distilled, labels=vectors, label_convention="raw", label_regime="learned")
    # Which takes longer to learn all that it can.
    shorter = dataclasses.replace(protocols.get("teacher"), steps=200, epochs=None)
    monkeypatch.setitem(protocols._NAMED, "teacher", shorter)
    rows = evaluation.compare(
        mlp, soft, mnist[0], mnist[1].examples, mnist[2].examples, "as-distilled", key=jax.random.key(0), num_networks=2
    )
    assert [row.name for row in rows] == ["distilled", "random real, a teacher's labels", "random real, hard labels"]
    assert [row.label_regime for row in rows] == ["learned", "learned", "hard"]
    probabilities = np.asarray(teach(mlp, mnist[0], key=jax.random.key(0))(mnist[2].images))
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert (probabilities.argmax(1) == np.asarray(mnist[2].labels.values)).mean() > 0.8


@pytest.mark.parametrize(
    ("change", "model", "sentence"),
    [
        ({"plan": None}, "mlp(width=16, depth=1)", "learned no learning rates"),
        ({"learning_rates": None}, "mlp(width=16, depth=1)", "learned no learning rates"),
        ({}, "mlp(width=8, depth=1)", "one initialisation of another network"),
        ({}, "mlp(width=16, depth=2)", "one initialisation of another network"),
    ],
)
def test_what_cannot_be_trained_as_distilled_says_so(mnist, distilled, change, model, sentence):
    network = models.build(model, (28, 28, 1), 10)
    bad = dataclasses.replace(distilled, **change)
    with pytest.raises(JaxddError, match=sentence):
        evaluation.evaluate(network, bad, None, mnist[2].examples, ONE_RATE, key=jax.random.key(0))


@pytest.mark.parametrize("convention, sentence", [("centred", "centred labels are"), ("features", "features are")])
def test_labels_for_squared_error_are_not_for_cross_entropy(distilled, convention, sentence):
    network, made = models.build("mlp(width=16, depth=1)", (28, 28, 1), 10), np.zeros((20, 10), "f")
    bad = dataclasses.replace(distilled, labels=made, label_convention=convention)
    with pytest.raises(JaxddError, match=f"{sentence} for squared error, not for gradient descent on cross-entropy"):
        check_as_distilled(network, bad)


def test_the_file_carries_plan_and_initialisation(distilled, tmp_path):
    transform = data.fit_transform("none", np.asarray(distilled.images))
    DistilledDataset.create(distilled, transform, {}).write(tmp_path / "a.safetensors")
    back = DistilledDataset.read(tmp_path / "a.safetensors").distilled()
    np.testing.assert_array_equal(back.plan, distilled.plan)
    np.testing.assert_array_equal(back.learning_rates, distilled.learning_rates)
    assert back.theta0.keys() == distilled.theta0.keys()
    for name, leaf in distilled.theta0.items():
        np.testing.assert_array_equal(back.theta0[name], leaf)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"plan": np.array([[0, 20]], np.int32), "learning_rates": np.ones(1, np.float32)}, "other rows than its 20"),
        ({"plan": np.zeros((2, 2), np.int32)}, "without as many learning rates"),
        ({"learning_rates": np.array([np.nan], np.float32), "plan": None}, "not finite"),
        ({"theta0": {"head/bias": np.array([np.inf], np.float32)}}, "its initialisation is not finite"),
    ],
)
def test_a_plan_that_does_not_fit_is_no_distilled_set(distilled, change, sentence):
    transform = data.fit_transform("none", np.asarray(distilled.images))
    with pytest.raises(JaxddError, match=sentence):
        DistilledDataset.create(dataclasses.replace(distilled, **change), transform, {})


def test_the_baseline_of_a_set_that_renders_more_than_it_stores_has_its_bits(mnist, mlp, distilled):
    """20 images that cost what 10 do stand beside 10 random ones."""
    small = dataclasses.replace(distilled, plan=None, learning_rates=None, theta0=None, num_bits=10 * 32 * 784)
    protocol = Protocol("short", "", (1e-3,), steps=2)
    rows = evaluation.compare(
        mlp, small, mnist[0], None, mnist[2].examples, protocol, key=jax.random.key(0), num_networks=1
    )
    assert [row.num_images for row in rows] == [20, 10, 10]  # and 10 herded ones
