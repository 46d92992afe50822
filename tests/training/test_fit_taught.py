"""Students of labels and of a teacher at once: knowledge in pruning."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import losses, models
from jaxdd.errors import JaxddError
from jaxdd.synthetic import labelled_by
from jaxdd.training import Protocol, check_trainable, fit
from jaxdd.types import Distilled, Labelling, NetworkState

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
    own = Distilled(images[0], labelling=labelling)
    with pytest.raises(JaxddError, match="labels are probability, the teacher's own: give class numbers"):
        check_trainable(LINEAR, own, TAUGHT)
    with pytest.raises(JaxddError, match="these labels are probability"):
        fit(LINEAR, images, labelling.values[None], TAUGHT, [0.3], key[None], labelling=labelling)


@pytest.mark.parametrize("loss", ["logit_regression", "smoothed_cosine"])
def test_other_losses_learn_from_a_stored_teachers_logits_around_their_mean(real, key, loss):
    """So what its labels of views have lost, which is added to all logits of an example, makes no difference."""
    images, labels, logits = (leaf[:1] for leaf in real)
    model = "mlp(width=2, depth=1)"
    state = NetworkState(*jax.jit(models.build(model, (4, 4, 1), 3).init)(key))
    labelling, _ = labelled_by(model, state, jnp.asarray(images[0]), 3, views=True)
    logits = models.build(model, (4, 4, 1), 3).apply(state.theta, images[0], state.stats)[0]
    protocol = dataclasses.replace(TAUGHT, loss=loss, steps=1, batch_size=5, momentum=0.0, label_weight=0.4)
    given = (images, labels, protocol, [0.3], key[None])
    of_views = fit(LINEAR, *given, labelling=labelling).theta[0]

    def objective(theta):
        centred = logits - logits.mean(1, keepdims=True)
        return getattr(losses, loss)(LINEAR.apply(theta, images[0], ())[0], labels[0], centred, label_weight=0.4).mean()

    first = LINEAR.init(jax.random.split(key, 3)[0])[0]
    np.testing.assert_allclose(of_views, first - 0.3 * jax.jit(jax.grad(objective))(first), atol=1e-5)


def test_class_numbers_beside_a_teacher_are_what_other_losses_learn_from(real, key):
    """And "distillation" learns from the teacher: as from a set whose labels are its own."""
    images, labels, _ = (leaf[:1] for leaf in real)
    model = "mlp(width=2, depth=1)"
    state = NetworkState(*jax.jit(models.build(model, (4, 4, 1), 3).init)(key))
    theirs, _ = labelled_by(model, state, jnp.asarray(images[0]), 3, views=True)
    for loss, alone in ("cross_entropy", (labels, None)), ("distillation", (theirs.values[None], theirs)):
        protocol = dataclasses.replace(TAUGHT, loss=loss, batch_size=5, mixup=0.8)
        both = fit(LINEAR, images, labels, protocol, [0.3], key[None], labelling=theirs)
        one = fit(LINEAR, images, alone[0], protocol, [0.3], key[None], labelling=alone[1])
        np.testing.assert_allclose(both.theta, one.theta, atol=1e-6)


def test_a_codec_with_one_label_an_image_is_no_teacher(real, key):
    images, labels, _ = (leaf[:1] for leaf in real)
    labelling = Labelling(labels[0], codec="hard", stored={"values": labels[0]})
    with pytest.raises(JaxddError, match="or teacher_logits"):
        fit(LINEAR, images, labels, TAUGHT, [0.3], key[None], labelling=labelling)
    mixing = dataclasses.replace(TAUGHT, loss="cross_entropy", mixup=0.8)
    with_codec, without = (
        fit(LINEAR, images, labels, mixing, [0.3], key[None], labelling=of) for of in (labelling, None)
    )
    np.testing.assert_array_equal(with_codec.theta, without.theta)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"teacher_logits": None}, "'taught' learns from a teacher beside class numbers and needs labels of views"),
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
    with pytest.raises(JaxddError, match="or teacher_logits"):
        check_trainable(LINEAR, Distilled(real[0][0], real[1][0]), TAUGHT)


def test_a_linear_student_of_a_teacher_alone_is_ridge_regression_on_his_logits(rng, key):
    """As the temperature grows the loss is `|c(S) - c(R)|² / (2 classes)`; decay makes the ridge."""
    decay, examples = 0.05, 40
    images = rng.normal(size=(1, examples, 4, 4, 1)).astype(np.float32)
    logits = rng.normal(size=(1, examples, 3)).astype(np.float32)
    protocol = dataclasses.replace(
        TAUGHT, steps=600, batch_size=examples, weight_decay=decay, temperature=300.0, teacher_share=1.0
    )
    labels = np.arange(examples)[None] % 3
    found = fit(LINEAR, images, labels, protocol, [0.3], key[None], teacher_logits=logits).theta[0]
    x, goal = images[0].reshape(examples, -1), logits[0] - logits[0].mean(1, keepdims=True)
    expected = np.linalg.solve(x.T @ x + 3 * examples * decay * np.eye(16), x.T @ goal)
    np.testing.assert_allclose(found, expected, atol=2e-3)
