"""Networks that were pretrained on targets, in the tasks that they are then put to."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models, training
from jaxdd.data import Dataset, Split, resized
from jaxdd.errors import JaxddError
from jaxdd.evaluation import Protocol, linear_probe, pretrain, transfer
from jaxdd.evaluation.transfer import with_new_head
from jaxdd.types import Distilled, Examples, NetworkState

SHAPE, WIDTH = (14, 14, 1), 8
NETWORK = models.build("mlp(width=16, depth=1)", SHAPE, WIDTH)
ENCODER = models.build("mlp(width=8, depth=1)", SHAPE, 3)
PRETRAINING = Protocol("p", "", (0.1,), steps=30, optimizer="sgd", schedule="constant", loss="mean_squared_error")
TUNING = Protocol("t", "", (0.1,), steps=40, optimizer="sgd", momentum=0.9)


@pytest.fixture(scope="module")
def encoder():
    return NetworkState(*jax.jit(ENCODER.init)(jax.random.key(7)))


@pytest.fixture(scope="module")
def targets(digits, encoder):
    return jax.jit(ENCODER.features)(encoder.theta, digits.images, encoder.stats)[0]


@pytest.fixture(scope="module")
def pretrained(digits, encoder, targets):
    distilled = Distilled(digits.images[:5], targets[:5], label_convention="features", label_regime="learned")
    return pretrain(
        NETWORK, distilled, digits.images, targets, PRETRAINING,
        key=jax.random.key(0), num_networks=2, encoder=(ENCODER, encoder),
    )  # fmt: skip


def regression(train, labels, test, ridge):
    """Of one-hot labels on standardised features with a bias, its normal equations with all of their terms."""
    mean, std = train.mean(0), train.std(0)
    x, z = ((np.float64(f) - mean) / std for f in (train, test))
    y = np.eye(labels.max() + 1)[labels]
    bias, ones = np.ones((len(x), 1)), np.ones((len(z), 1))
    x, z = np.hstack([x, bias]), np.hstack([z, ones])
    penalty = len(x) * ridge * np.diag([1.0] * train.shape[1] + [0.0])
    return (z @ np.linalg.solve(x.T @ x + penalty, x.T @ y)).argmax(1)


def test_a_probe_is_ridge_regression_and_chooses_its_ridge_on_every_tenth_training_example(rng):
    labels = rng.integers(0, 3, 260)
    found = (rng.normal(size=(3, 30))[labels] + 3 * rng.normal(size=(260, 30))).astype(np.float32)
    train, test, of_train, of_test = found[:60], found[60:], labels[:60], labels[60:]
    alone = {r: float(np.mean(regression(train, of_train, test, r) == of_test)) for r in (1e2, 1.0, 1e-6)}
    assert len(set(alone.values())) == 3
    for ridge, expected in alone.items():
        assert linear_probe(train, of_train, test, of_test, 3, ridges=[ridge]) == pytest.approx(expected)
    held_out = np.arange(60) % 10 == 0
    scores = {
        r: np.mean(regression(train[~held_out], of_train[~held_out], train[held_out], r) == of_train[held_out])
        for r in alone
    }
    chosen = linear_probe(train, of_train, test, of_test, 3, ridges=list(alone))
    assert chosen == pytest.approx(alone[max(scores, key=lambda r: scores[r])])


def test_a_probe_of_features_that_say_nothing_and_of_some_that_are_constant(rng):
    labels = np.arange(40) % 2
    seen = np.stack([labels + 0.0, np.full(40, 3.1)], 1).astype(np.float32)
    assert linear_probe(seen, labels, seen, labels, 2) == 1
    assert linear_probe(seen[:, 1:], labels, seen[:, 1:], labels, 2) == 0.5
    with pytest.raises(JaxddError, match="has diverged in pretraining"):
        linear_probe(seen * np.nan, labels, seen, labels, 2)


def test_what_stands_beside_a_set(pretrained, digits, encoder, targets):
    """Random pairs, a draw for each network, trained from the same initialisation; that itself; and the encoder."""
    ours, random, fresh, last = pretrained
    assert [each.name for each in pretrained] == ["distilled", "random real", "random initialisation", "encoder"]
    assert ours.num_images == random.num_images == 5 and ours.num_bits == random.num_bits == 32 * 5 * (14 * 14 + WIDTH)
    key_draw, key_train = jax.random.split(jax.random.key(0))

    @jax.jit
    def begun(key, draw):
        rows = jax.random.choice(draw, len(digits.images), (5,), replace=False)
        return NETWORK.init(key)[0], NETWORK.init(jax.random.split(key, 3)[0])[0], rows

    images, of_all = np.asarray(digits.images), np.asarray(targets)
    for i, keys in enumerate(zip(jax.random.split(key_train, 2), jax.random.split(key_draw, 2), strict=True)):
        first, theta, rows = begun(*keys)
        toys_equal(fresh.states.theta, i, first)
        for group, chosen in ((ours, np.arange(5)), (random, np.asarray(rows))):
            toys_equal(group.states.theta, i, plainly(theta, images[chosen], of_all[chosen]))
    toys_equal(last.states.theta, 0, encoder.theta)


def toys_equal(stacked, i, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(np.asarray(a)[i], b, atol=1e-4), stacked, expected)


@jax.jit
def plainly(theta, images, targets):
    """Gradient descent on the mean squared error of all entries."""

    def step(_, theta):
        slope = jax.grad(lambda theta: jnp.mean((NETWORK.apply(theta, images, {})[0] - targets) ** 2))(theta)
        return jax.tree.map(lambda leaf, g: leaf - 0.1 * g, theta, slope)

    return jax.lax.fori_loop(0, 30, step, theta)


def test_rows_are_probes_and_fine_tuned_networks(pretrained, digits):
    test = Examples(*(np.asarray(leaf)[::3] for leaf in digits.examples))
    rows = transfer(pretrained[1:], digits, test, name="four", key=jax.random.key(1), fine_tuning=TUNING)
    assert [len(row.probe) for row in rows] == [len(row.fine_tuned) for row in rows] == [2, 2, 1]
    labels = np.asarray(digits.labels.values)
    for row, group in zip(rows, pretrained[1:], strict=True):
        for i, accuracy in enumerate(row.probe):
            state = jax.tree.map(lambda leaf, i=i: np.asarray(leaf)[i], group.states)
            features = np.asarray(jax.jit(group.network.features)(state.theta, digits.images, state.stats)[0])
            np.testing.assert_allclose(training.seen(group.network, state, digits.images).features, features, atol=1e-5)
            assert accuracy == linear_probe(features, labels, features[::3], labels[::3], 4)
        assert min(row.fine_tuned) > 0.6
    told = rows[0].as_dict()
    assert told["probe_mean"] == pytest.approx(np.mean(rows[0].probe)) and told["data"] == "four"
    assert told["fine_tuned_std"] == pytest.approx(np.std(rows[0].fine_tuned, ddof=1))
    assert rows[2].as_dict()["probe_std"] is None and (told["protocol"], told["fine_tuning"]) == ("p", "t")


def test_fine_tuning_begins_with_the_pretrained_body_and_a_head_of_zeros(pretrained, digits):
    group, network = pretrained[0], with_new_head(NETWORK, SHAPE, 4)
    assert with_new_head(NETWORK, SHAPE, 4) is network
    first = jax.device_get(jax.jit(network.init)(jax.random.key(3))[0])
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(first["head"]))
    start = NetworkState(
        {"body": group.states.theta, "head": jax.tree.map(lambda h: np.stack([h, h]), first["head"])}, {}
    )
    arguments = (network, digits.images[None], digits.labels.values[None])
    slow = dataclasses.replace(TUNING, steps=1, learning_rates=(1e-6,))
    fitted = training.fit(*arguments, slow, [1e-6, 1e-6], jax.random.split(jax.random.key(0), 2), start=start)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), fitted.theta, start.theta)
    with pytest.raises(JaxddError, match="1 keys need as many networks to start from"):
        training.fit(*arguments, slow, [1e-6], jax.random.split(jax.random.key(0), 1), start=start)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"label_convention": "raw"}, "this set's are raw"),
        ({"labels": jnp.zeros((5, 7))}, "8 outputs and the set 7 features"),
        ({"images": jnp.zeros((481, *SHAPE)), "labels": jnp.zeros((481, 8))}, "481 random real images were asked for"),
    ],
)
def test_sets_that_networks_cannot_be_pretrained_on(digits, targets, change, sentence):
    fields = {"images": digits.images[:5], "labels": targets[:5], "label_convention": "features", **change}
    with pytest.raises(JaxddError, match=sentence):
        pretrain(NETWORK, Distilled(**fields), digits.images, targets, PRETRAINING, key=jax.random.key(0))


def test_images_of_another_size_are_resized_between_centres_of_pixels(rng):
    images = rng.integers(0, 256, (3, 2, 2, 1)).astype(np.uint8)
    split = Split(images, np.arange(3, dtype=np.int32))
    dataset = Dataset("small", split, Split(images[:0], split.labels[:0]), split, ("a", "b", "c"), "", "0")
    assert resized(dataset, (2, 2, 1)) is dataset
    made = resized(dataset, (4, 4, 1))
    weights = np.array([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    expected = np.einsum("ih,jw,nhwc->nijc", weights, weights, images / 255)
    np.testing.assert_allclose(made.train.images, expected, atol=1e-6)
    assert made.image_shape == (4, 4, 1) and len(made.validation) == 0 and made.num_classes == 3
    with pytest.raises(JaxddError, match="have 1 channels and 3 are needed"):
        resized(dataset, (4, 4, 3))
