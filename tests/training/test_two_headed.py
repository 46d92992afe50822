"""Students with two heads on one body."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models, training
from jaxdd.errors import JaxddError
from jaxdd.training.two_headed import _fit

SHAPE, CLASSES = (4, 4, 1), 3
STUDENT = training.Student(steps=60, batch_size=16, learning_rate=0.01)
ROWS = np.array([3, 50, 41, 17])


@pytest.fixture(scope="module")
def network():
    return training.two_headed("mlp(width=8, depth=1)", SHAPE, CLASSES)


@pytest.fixture(scope="module")
def blobs():
    """60 images of three classes, and labels as probabilities."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % CLASSES
    means = rng.normal(size=(CLASSES, *SHAPE))
    return np.float32(means[labels] + 0.7 * rng.normal(size=(60, *SHAPE))), np.eye(CLASSES, dtype=np.float32)[labels]


def weights(state) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state.theta)])


def test_both_heads_say_the_mean_of_their_probabilities(rng):
    logits = rng.normal(size=(5, 6)).astype(np.float32)
    first, second = jax.nn.softmax(logits[:, :3]), jax.nn.softmax(logits[:, 3:])
    np.testing.assert_allclose(training.heads(logits), (first + second) / 2, rtol=1e-6)
    np.testing.assert_allclose(training.heads(logits, 0), first, rtol=1e-6)
    with pytest.raises(JaxddError, match="2 classes"):
        training.heads(logits[:, :5])


def test_the_loss_is_that_of_its_formula_and_each_head_learns_from_its_own(rng):
    logits, labels = rng.normal(size=(7, 6)).astype(np.float32), np.array([0, 2, 1])
    teacher = rng.normal(size=(7, 3)).astype(np.float32)

    @jax.jit
    @jax.value_and_grad
    def loss(logits, share):
        return training.two_headed_loss(logits[:3], labels, logits, teacher, share=share, temperature=2.0)

    def log_softmax(x):
        return x - np.log(np.exp(x).sum(1, keepdims=True))

    entropy = -log_softmax(logits[:3, :3])[np.arange(3), labels].mean()
    ours, theirs = log_softmax(logits[:, 3:] / 2), log_softmax(teacher / 2)
    kl = 4 * np.sum(np.exp(theirs) * (theirs - ours), 1)
    value, slope = loss(logits, 0.5)
    assert value == pytest.approx(0.5 * (entropy + kl[:3].mean() + kl[3:].mean()), rel=1e-5)
    slope = np.asarray(slope)
    assert not slope[3:, :3].any() and np.abs(slope[:, 3:]).min() > 0 and np.abs(slope[:3, :3]).min() > 0
    value, slope = loss(logits, 0.0)
    assert value == pytest.approx(entropy, rel=1e-6) and not np.asarray(slope)[:, 3:].any()


def test_what_plays_no_part_changes_nothing_and_one_program_serves_all(network, blobs, key):
    images, labels = blobs
    teacher = np.roll(labels, 1, axis=1)

    def fit(labels=labels, teacher=teacher, rows=ROWS, share=0.5):
        student = STUDENT._replace(share=share)
        return weights(training.fit_two_headed(network, images, labels, teacher, rows, key, most=6, student=student))

    before = fit()
    compiled = _fit._cache_size()
    elsewhere = np.full_like(labels, np.nan)
    elsewhere[ROWS] = labels[ROWS]
    np.testing.assert_array_equal(fit(labels=elsewhere), before)
    np.testing.assert_array_equal(fit(teacher=labels, share=0.0), fit(share=0.0))
    assert np.abs(fit(teacher=labels) - before).max() > 1e-3
    assert np.abs(fit(rows=[*ROWS, 7, 9]) - before).max() > 1e-3
    for more in ([50, 3], [59, 58]):  # beyond the count, where nothing is drawn; the second are taken for labelled
        rows = np.array([*ROWS, *more], np.int32)
        state = _fit(
            *map(jnp.asarray, (images, labels, teacher)),
            rows,
            np.int32(4),
            np.float32(0.5),
            key,
            network=network,
            student=STUDENT._replace(share=0.0),
        )
        assert np.array_equal(weights(state), before) == (more == [50, 3])
    assert _fit._cache_size() == compiled


def test_a_good_teacher_helps(network, blobs, key):
    images, labels = blobs
    right = {}
    for share in (0.0, 0.5):
        student = STUDENT._replace(share=share)
        state = training.fit_two_headed(network, images, labels, labels, ROWS, key, most=6, student=student)
        seen = training.seen_by(network, state, images, share)
        assert seen.features.shape == (60, 8)
        np.testing.assert_allclose(seen.probabilities.sum(1), 1, rtol=1e-5)
        right[share] = np.mean(np.argmax(seen.probabilities, 1) == labels.argmax(1))
    assert right[0.5] > right[0.0] + 0.1 and right[0.0] > 0.4
    logits, _ = network.apply(state.theta, images, state.stats)
    np.testing.assert_allclose(seen.probabilities, training.heads(logits, 0.5), rtol=1e-5, atol=1e-6)


def test_a_network_of_ones_own_needs_two_outputs_a_class():
    ours = models.build("mlp(width=8, depth=1)", SHAPE, CLASSES)
    with pytest.raises(JaxddError, match="has 6 outputs, this network 3"):
        training.two_headed(ours, SHAPE, CLASSES)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rows": [1, 1]}, "different ones of 60"),
        ({"rows": [60]}, "different ones of 60"),
        ({"rows": np.arange(60)}, "not all"),
        ({"rows": [0.5]}, "different ones"),
        ({"most": 1}, "at least 4"),
        ({"labels": np.zeros(60, int)}, r"\(n, classes\)"),
        ({"student": STUDENT._replace(steps=0)}, "student.steps must be an integer of at least 1"),
        ({"student": STUDENT._replace(share=True)}, "student.share must be between 0 and 1"),
        ({"student": STUDENT._replace(weight_decay=-1)}, "student.weight_decay"),
    ],
)
def test_what_cannot_be_trained_is_refused(network, blobs, key, change, says):
    images, labels = blobs
    given = {"labels": labels, "teacher": labels, "rows": ROWS, "student": STUDENT, **change}
    with pytest.raises(JaxddError, match=says):
        training.fit_two_headed(network, images, key=key, **given)
