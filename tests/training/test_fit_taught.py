"""Students of labels and of a teacher at once: knowledge in pruning."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models
from jaxdd.errors import JaxddError
from jaxdd.synthetic import labelled_by
from jaxdd.training import Protocol, check_trainable, fit
from jaxdd.types import Distilled, NetworkState

TAUGHT = Protocol(
    "taught", "", (0.3,), steps=4, batch_size=2, optimizer="sgd", momentum=0.9, schedule="constant", loss="taught",
    temperature=3.0, teacher_share=0.7,
)  # fmt: skip
LINEAR = models.from_functions(
    lambda key: 0.1 * jax.random.normal(key, (16, 3)), lambda theta, x: x.reshape(len(x), -1) @ theta
)


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


@pytest.fixture
def real(rng):
    images = rng.normal(size=(2, 5, 4, 4, 1)).astype(np.float32)
    return images, np.tile(np.arange(5) % 3, (2, 1)), rng.normal(size=(2, 5, 3)).astype(np.float32)


def test_each_example_is_taught_by_its_own_logits(real, key):
    """Of its own set: the slope of the formula, step by step, with the batches that a fit draws."""
    images, labels, logits = real
    given = (images, labels, TAUGHT, [0.3] * 2, jax.random.split(key))
    found = fit(LINEAR, *given, teacher_logits=logits, sets=[1, 0])

    @jax.jit
    def begun(key):
        key_init, key_order, _ = jax.random.split(key, 3)
        orders = [jax.random.permutation(jax.random.fold_in(key_order, t), 5) for t in (0, 2)]
        return LINEAR.init(key_init)[0], jnp.concatenate([order[:4] for order in orders]).reshape(4, 2)

    for trained, key_of_network, member in zip(found.theta, jax.random.split(key), (1, 0), strict=True):
        theta, batches = jax.device_get(begun(key_of_network))
        trace = np.zeros_like(theta)
        for rows in batches:
            x, own = images[member, rows].reshape(2, -1), np.eye(3)[labels[member, rows]]
            hard = softmax(x @ theta) - own
            soft = 3 * (softmax(x @ theta / 3) - softmax(logits[member, rows] / 3))
            trace = 0.9 * trace + x.T @ (0.3 * hard + 0.7 * soft) / 2
            theta = theta - 0.3 * trace
        np.testing.assert_allclose(trained, theta, atol=1e-5)


def test_labels_of_views_teach_beside_labels(real, key):
    """Those of a stored teacher, which of images as they are says what its logits say."""
    images, labels, _ = (leaf[:1] for leaf in real)
    model = "mlp(width=2, depth=1)"
    network = models.build(model, (4, 4, 1), 3)
    theta, stats = jax.jit(network.init)(key)
    labelling, _ = labelled_by(model, NetworkState(theta, stats), jnp.asarray(images[0]), 3, views=True)
    logits = network.apply(theta, images[0], stats)[0][None]
    given = (images, labels, TAUGHT, [0.3], key[None])
    of_views, stored = fit(LINEAR, *given, labelling=labelling), fit(LINEAR, *given, teacher_logits=logits)
    np.testing.assert_allclose(of_views.theta, stored.theta, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"teacher_logits": None}, "'taught' learns from a teacher beside labels and needs teacher_logits"),
        ({"loss": "cross_entropy"}, "'taught' has no use for teacher_logits"),
        ({"teacher_logits": np.zeros((1, 4, 3))}, r"teacher_logits must be \(sets, images, classes\) for images"),
        ({"mixup": 0.8}, "'taught' mixes images, of which stored logits know nothing"),
        ({"label_convention": "centred"}, "cross-entropy, which cannot use centred labels"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(real, key, change, sentence):
    images, labels, logits = (leaf[:1] for leaf in real)
    protocol = dataclasses.replace(TAUGHT, **{name: change[name] for name in ("loss", "mixup") if name in change})
    options = {"teacher_logits": logits, **{k: v for k, v in change.items() if k not in ("loss", "mixup")}}
    labels = np.eye(3, dtype="f")[labels] if "label_convention" in change else labels
    with pytest.raises(JaxddError, match=sentence):
        fit(LINEAR, images, labels, protocol, [0.3], key[None], **options)


def test_a_set_without_labels_of_views_cannot_be_measured_by_such_a_protocol(real):
    with pytest.raises(JaxddError, match="needs teacher_logits"):
        check_trainable(LINEAR, Distilled(real[0][0], real[1][0]), TAUGHT)


def ridge_errors(rng, kept, shares, ridge_of_teacher=1.0, seen=1.0, draws=40):
    """Mean `|b - b*|²` of linear students `(kept, shares)`: 50 coefficients, 1,000 examples, noise of 3, ridge 1.

    The teacher regresses on the first `seen` of the examples; a student on the first `kept`, whose targets are
    `(1 - share) y + share * teacher`, which in squared error is what a weighted sum of both losses is.
    """
    found = np.zeros((len(kept), len(shares)))
    for _ in range(draws):
        truth, x = rng.normal(size=50), rng.normal(size=(1000, 50))
        y = x @ truth + 3 * rng.normal(size=1000)

        def regressed(count, targets, ridge, x=x):
            part = x[: round(count * 1000)]
            return np.linalg.solve(part.T @ part + ridge * np.eye(50), part.T @ targets[: len(part)])

        teacher = x @ regressed(seen, y, ridge_of_teacher)
        for i, of_kept in enumerate(kept):
            targets = np.stack([(1 - share) * y + share * teacher for share in shares], 1)
            found[i] += np.square(regressed(of_kept, targets, 1.0) - truth[:, None]).sum(0) / draws
    return found


def test_knowledge_in_pruning_in_closed_form(rng):
    """What a teacher of all examples is worth to a student of few, and not to one of all; and the more it has seen."""
    found = ridge_errors(rng, (0.06, 0.1, 0.3, 0.7, 1.0), (0.0, 0.5, 1.0))
    expected = [[24.97, 7.27, 1.38], [8.70, 2.56, 0.49], [1.84, 0.81, 0.47], [0.70, 0.54, 0.48], [0.474, 0.473, 0.473]]
    np.testing.assert_allclose(found, expected, rtol=0.15)
    gain = found[:, 0] - found.min(1)
    assert (np.diff(gain) < 0).all() and gain[-1] < 0.01 * found[-1, 0]
    seen = [ridge_errors(rng, (0.1,), (1.0,), seen=seen)[0, 0] for seen in (0.1, 0.3, 1.0)]
    np.testing.assert_allclose(seen, [8.02, 1.72, 0.50], rtol=0.15)


def test_a_teacher_that_is_held_back_is_worth_the_less_the_more_is_kept(rng):
    shares = np.linspace(0, 1, 11)
    for ridge in (100.0, 300.0):
        best = shares[ridge_errors(rng, (0.06, 0.1, 0.3, 0.7, 1.0), shares, ridge_of_teacher=ridge).argmin(1)]
        assert (np.diff(best) <= 0).all() and best[0] > 0.7 and best[-1] < 0.2
