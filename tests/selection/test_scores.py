"""Scores by their definitions, gradients by finite ones of JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdd.errors import JaxddError
from jaxdd.selection import LastLayer, scores
from jaxdd.types import Network

LOGITS = np.array([[2.0, 1.0, -1.0], [0.0, 0.0, 0.0], [100.0, 0.0, -100.0]])
LABELS = np.array([0, 2, 1])
P = np.exp(LOGITS - LOGITS.max(1, keepdims=True))
P /= P.sum(1, keepdims=True)


def test_scores_of_logits():
    two = np.sort(P, axis=1)
    np.testing.assert_allclose(scores.margin(LOGITS), two[:, 2] - two[:, 1], atol=1e-6)
    np.testing.assert_allclose(scores.margin(LOGITS, LABELS), [1, 0, -100])
    entropies = -np.sum(np.where(P > 0, P * np.log(np.maximum(P, 1e-300)), 0), axis=1)
    np.testing.assert_allclose(scores.entropy(LOGITS), entropies, atol=1e-6)
    np.testing.assert_allclose(scores.least_confidence(LOGITS), 1 - P.max(1), atol=1e-6)
    one_hot = np.eye(3)[LABELS]
    np.testing.assert_allclose(scores.loss(LOGITS, LABELS), [-np.log(P[0, 0]), np.log(3), 100], rtol=1e-5)
    np.testing.assert_allclose(scores.el2n(LOGITS, LABELS), np.linalg.norm(P - one_hot, axis=1), atol=1e-6)
    np.testing.assert_allclose(scores.el2n(LOGITS, one_hot), scores.el2n(LOGITS, LABELS))


def test_grand_is_the_length_of_one_examples_gradient(key):
    def apply(theta, images, stats):
        return jnp.tanh(images.reshape(len(images), -1) @ theta["first"]) @ theta["last"], stats

    network = Network(lambda key: ({}, {}), apply, apply)
    theta = {"first": jax.random.normal(key, (4, 2)), "last": jax.random.normal(key, (2, 3))}
    images, labels = jax.random.normal(key, (5, 2, 2, 1)), jnp.array([0, 1, 2, 0, 1])

    @jax.jit
    def expected(i):
        def loss(theta):
            logits = apply(theta, images[i][None], {})[0]
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels[i][None])[0]

        return optax.tree.norm(jax.grad(loss)(theta))

    found = scores.grand(network, theta, {}, images, labels, block=2)
    np.testing.assert_allclose(found, [expected(i) for i in range(5)], rtol=1e-5)


def test_gradients_of_the_last_layer(rng):
    features, logits, labels = rng.normal(size=(3, 4)), LOGITS[:, :3], LABELS

    def loss(weights, bias, features, logits, label):
        return optax.softmax_cross_entropy_with_integer_labels(logits + features @ weights + bias, label)

    of_one = jax.jit(jax.grad(loss, (0, 1)))
    of_each = [of_one(jnp.zeros((4, 3)), jnp.zeros(3), *one) for one in zip(features, logits, labels, strict=True)]
    expected = [np.concatenate([weights.T, bias[:, None]], axis=1).ravel() for weights, bias in of_each]
    found = scores.last_layer_gradients(features, logits, labels)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    products = LastLayer.of(features, logits, labels).products()
    np.testing.assert_allclose(products, found @ found.T, atol=1e-4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: scores.margin(LOGITS[0]),
        lambda: scores.margin(LOGITS, np.eye(3)),
        lambda: scores.loss(LOGITS, LABELS[:2]),
        lambda: scores.last_layer_gradients(LOGITS[:2], LOGITS, LABELS),
        lambda: scores.grand(None, None, None, np.zeros((2, 4, 4, 1)), np.zeros(3, int)),
        lambda: scores.grand(None, None, None, np.zeros((2, 4, 4)), LABELS),
        lambda: scores.texture(np.zeros((2, 1, 4, 1))),
    ],
)
def test_other_shapes_are_one_sentence(call):
    with pytest.raises(JaxddError, match=r"shape|needs"):
        call()


@pytest.mark.parametrize("of", [scores.loss, scores.el2n, scores.margin, LastLayer.of], ids=lambda of: of.__name__)
@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (LABELS + 1, "numbers of 3 classes, from 0 on, and one is 3"),
        (LABELS - 1, "one is -1"),
        (LABELS.astype(float), "float32"),
        (LABELS > 0, "bool"),
        (LABELS[:2], r"shape \(2,\)"),
        (["one", "two", "six"], "labels must be an array of real numbers, got a list"),
        ([[1, 0, 0], [1]], "labels must be an array"),
    ],
)
def test_what_are_no_labels_is_one_sentence(of, labels, said):
    with pytest.raises(JaxddError, match=said):
        of(LOGITS, LOGITS, labels) if of == LastLayer.of else of(LOGITS, labels)


def test_labels_may_be_lists_and_what_a_network_has_no_class_for_is_none():
    np.testing.assert_array_equal(scores.el2n(LOGITS.tolist(), LABELS.tolist()), scores.el2n(LOGITS, LABELS))

    def apply(theta, images, stats):
        return images[:, 0, 0], stats

    network = Network(lambda key: ({}, {}), apply, apply)
    with pytest.raises(JaxddError, match="numbers of 2 classes"):
        scores.grand(network, {}, {}, np.zeros((3, 4, 4, 2)), LABELS)
