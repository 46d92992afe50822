"""Training beside the same loop written out, and the papers' protocols, shortened, on a few real images."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import data, models
from jaxdd.data import augmentation
from jaxdd.data.augmentation import named
from jaxdd.errors import JaxddError
from jaxdd.evaluation import evaluate
from jaxdd.synthetic import labelled_by
from jaxdd.training import Protocol, fit, protocols
from jaxdd.types import Distilled, Examples, NetworkState, Record

SGD = Protocol(
    "sgd", "", (0.5,), epochs=3, batch_size=2, optimizer="sgd", momentum=0.9, weight_decay=0.1, schedule="multistep",
    milestones=(2 / 3,), factor=0.1, augmentation="color", cutmix=0.7,
)  # fmt: skip
ADAM = Protocol("adam", "", (0.05,), steps=5, weight_decay=0.1, schedule="constant", augmentation="crop")
# Their augmentation is that of another one here, or some of it, and takes most of the compilation.
TWINS = {
    "ncfm": {"augmentation": "none", "cutmix": 0.0},
    "rcig": {"augmentation": "none"},
    "rat": {"augmentation": "none"},
}


@pytest.mark.parametrize(
    "name",
    [
        "dc",
        "frepo",
        *(pytest.param(name, marks=pytest.mark.endurance) for name in ("dsa", "idc", "ncfm", "rcig", "rat")),
    ],
)
def test_the_papers_protocols_train(name, digits, key):
    """At a twentieth of their length or less, and a rate of at least 3e-3 to learn something in it."""
    images, labels = np.asarray(digits.images), np.asarray(digits.labels.values)
    chosen = np.concatenate([np.flatnonzero(labels == label)[:2] for label in range(4)])
    support = Distilled(images[chosen], labels[chosen])
    full = protocols.get(name)
    length = {"epochs": 50} if full.steps is None else {"steps": 50, "warmup": min(full.warmup, 5)}
    rates = (max(full.learning_rates[0], 3e-3),)
    protocol = dataclasses.replace(full, learning_rates=rates, **length, **TWINS.get(name, {}))
    network = models.build("mlp(width=32, depth=1)", digits.images.shape[1:], 4)
    test = Examples(digits.images, digits.labels.values)
    score = evaluate(network, support, None, test, protocol, num_networks=1, key=key)
    assert score.protocol == name
    assert score.mean > 0.5, "twice what chance gives"


@functools.partial(jax.jit, static_argnums=0)
def seen(protocol, images, labels, keys):
    """The batch of each step: a new order for each epoch, and each step's own augmentation and box.

    Returns:
      images, labels and rows of shape `(networks, steps, batch, ..)`.
    """
    n = len(images)
    size = min(protocol.batch_size, n)
    batches, augment = n // size, named(protocol.augmentation)

    def batch(key, t):
        _, key_order, key_apply = jax.random.split(key, 3)
        rows = jnp.arange(n)
        if size < n:
            rows = jax.random.permutation(jax.random.fold_in(key_order, t // batches * batches), n)
            rows = jax.lax.dynamic_slice_in_dim(rows, t % batches * size, size)
        key_augment, key_mix = jax.random.split(jax.random.split(jax.random.fold_in(key_apply, t))[1])
        changed, mixed = augment.apply(images[rows], augment.draw(key_augment, size)), labels[rows]
        if protocol.cutmix:
            changed, mixed = data.cutmix(key_mix, changed, mixed, probability=protocol.cutmix)
        return changed, mixed, rows

    steps = jnp.arange(protocol.num_steps(n))
    return jax.lax.map(lambda key: jax.lax.map(lambda t: batch(key, t), steps), keys)


def by_hand(protocol, theta, batches, rates):
    """The weights of a linear classifier before and after each of these steps of gradient descent, or of AdamW."""
    path, trace = [theta], np.zeros_like(theta)
    first = second = trace
    for t, (images, labels, rate) in enumerate(zip(*batches, rates, strict=True), 1):
        x = images.reshape(len(images), -1)
        likely = np.exp(x @ theta)
        gradient = x.T @ (likely / likely.sum(1, keepdims=True) - labels) / len(x)
        if protocol.optimizer == "sgd":
            trace = protocol.momentum * trace + gradient + protocol.weight_decay * theta
            theta = theta - rate * trace
        else:
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            direction = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
            theta = theta - rate * (direction + protocol.weight_decay * theta)
        path.append(theta)
    return np.stack(path)


@pytest.mark.parametrize(
    ("protocol", "labels", "rates", "networks"),
    [
        (SGD, "hard", [0.5] * 4 + [0.05] * 2, 2),  # two batches of two an epoch, the fifth image is left out
        (ADAM, "probability", [0.05] * 5, 1),
    ],
    ids=["sgd", "adam"],
)
def test_training_is_the_loop_written_out(protocol, labels, rates, networks, key):
    """Of each network by itself, also where several are trained side by side; so are the rows on the way."""
    images = np.random.default_rng(0).normal(size=(5, 6, 6, 1)).astype(np.float32)
    classes = np.arange(5) % 3
    soft = np.eye(3, dtype=np.float32)[classes]
    linear = models.from_functions(
        lambda key: 0.1 * jax.random.normal(key, (36, 3)), lambda theta, x: x.reshape(len(x), -1) @ theta
    )
    keys = jax.random.split(key, networks)
    given = (classes if labels == "hard" else soft)[None]
    record = Record(2, lambda state: state.network.theta)
    sets = images[None], given
    found = fit(linear, *sets, protocol, [rates[0]] * networks, keys, label_convention=labels, record=record)
    starts = jax.jit(jax.vmap(lambda key: linear.init(jax.random.split(key, 3)[0])[0]))(keys)
    changed, mixed, rows = jax.device_get(seen(protocol, images, soft, keys))
    assert np.abs(changed - images[rows]).max() > 0.5
    assert (np.abs(mixed - soft[rows]).max() > 0.1) == (protocol.cutmix > 0)
    for theta, recorded, start, *batches in zip(
        found.theta, found.rows, np.asarray(starts, float), changed, mixed, strict=True
    ):
        path = by_hand(protocol, start, batches, rates)
        np.testing.assert_allclose(theta, path[-1], atol=1e-5)
        np.testing.assert_allclose(recorded, path[::2], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"protocol": "as-distilled"}, "call `fit_as_distilled`"),
        ({"protocol": "dcc"}, "unknown protocol 'dcc'; did you mean 'dc'"),
        ({"label_convention": "hart"}, "unknown label convention 'hart'; did you mean 'hard'"),
        ({"label_convention": "raw"}, r"labels of the convention 'raw' must be \(sets, images, classes\)"),
        ({"labels": np.zeros((1, 4), int)}, r"got \(1, 4\) for \(1, 5, 6, 6, 1\)"),
        ({"learning_rates": [0.1, 0.1]}, "1 keys need as many learning rates and sets"),
        ({"sets": [1]}, r"networks are trained on sets 0 to 0, got \[1\]"),
    ],
)
def test_what_cannot_be_fitted_says_so(change, sentence, key):
    network = models.build("mlp(width=2)", (6, 6, 1), 3)
    given = {"images": np.zeros((1, 5, 6, 6, 1), "f"), "labels": np.zeros((1, 5), int), "protocol": SGD}
    with pytest.raises(JaxddError, match=sentence):
        fit(network, **{**given, "learning_rates": [0.1], "keys": key[None], **change})


def test_features_are_targets_of_squared_error_as_they_are(digits, key):
    """Which centred labels are, too: an encoder's outputs come from the same steps."""
    images = np.asarray(digits.images[:8])
    targets = np.random.default_rng(3).normal(size=(8, 4)).astype(np.float32)
    network = models.build("mlp(width=8, depth=1)", images.shape[1:], 4)
    protocol = Protocol("auto", "", (0.01,), steps=200)

    def trained(convention):
        return fit(network, images[None], targets[None], protocol, [0.01], key[None], label_convention=convention)

    encoder = trained("features")
    jax.tree.map(np.testing.assert_array_equal, encoder.theta, trained("centred").theta)
    theta, stats = jax.tree.map(lambda leaf: np.asarray(leaf)[0], (encoder.theta, encoder.stats))
    outputs, _ = jax.jit(network.apply)(theta, images, stats)
    assert np.mean((outputs - targets) ** 2) < 0.2 * np.mean(targets**2)
    classes = dataclasses.replace(protocol, name="classes", loss="cross_entropy")
    with pytest.raises(JaxddError, match="'classes' trains with cross-entropy, which cannot use features"):
        fit(network, images[None], targets[None], classes, [0.01], key[None], label_convention="features")


def test_parts_of_a_batch_are_normalised_by_themselves(rng):
    """A step of gradient descent on four images in two parts, labelled by a teacher that sees the same parts."""
    network = models.build("convnet(width=2, depth=1, norm='batch')", (4, 4, 1), 3)
    images = rng.normal(size=(4, 4, 4, 1)).astype(np.float32)
    teacher = NetworkState(*network.init(jax.random.key(5)))
    labelling, _ = labelled_by("convnet(width=2, depth=1, norm='batch')", teacher, images, 3, views=True, by_batch=True)
    protocol = Protocol(
        "parts", "", (0.5,), steps=1, batch_size=4, sub_batches=2, optimizer="sgd", schedule="constant",
        loss="distillation", temperature=2.0, squared=True,
    )  # fmt: skip
    start = NetworkState(*network.init(jax.random.key(6)))
    stacked = jax.tree.map(lambda leaf: leaf[None], start)
    done = fit(
        network, images[None], labelling.values[None], protocol, [0.5], jax.random.split(jax.random.key(0), 1),
        label_convention="probability", labelling=labelling, start=stacked,
    )  # fmt: skip

    def loss(theta):
        stats, total = start.stats, 0.0
        for part in (images[:2], images[2:]):
            soft, _ = network.apply(teacher.theta, part, teacher.stats, mode="batch")
            logits, stats = network.apply(theta, part, stats, mode="train")
            theirs, ours = jax.nn.log_softmax(soft / 2), jax.nn.log_softmax(logits / 2)
            total += 4 * (jnp.exp(theirs) * (theirs - ours)).sum(1).mean() / 2
        return total, stats

    slope, stats = jax.grad(loss, has_aux=True)(start.theta)
    expected = jax.tree.map(lambda leaf, slope: leaf - 0.5 * slope, start.theta, slope)
    for found, plain in ((done.theta, expected), (done.stats, stats)):
        for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(plain), strict=True):
            np.testing.assert_allclose(ours[0], theirs, atol=1e-5)


def test_parts_need_a_whole_batch(rng, key):
    protocol = Protocol("parts", "", (0.5,), steps=1, batch_size=4, sub_batches=2)
    images = rng.normal(size=(1, 3, 4, 4, 1)).astype(np.float32)
    with pytest.raises(JaxddError, match="batches in 2 parts, and this set has 3 examples"):
        fit(models.build("mlp(width=2)", (4, 4, 1), 3), images, np.zeros((1, 3), int), protocol, [0.1], key[None])


@pytest.mark.endurance
def test_a_teachers_labels_of_images_are_mixed_as_logits(rng, key):
    """One step of gradient descent on three images that Mixup has mixed, by hand."""
    network = models.build("mlp(width=3, depth=1)", (2, 2, 1), 3)
    images = rng.normal(size=(1, 3, 2, 2, 1)).astype(np.float32)
    labels = np.asarray(jax.nn.softmax(3 * rng.normal(size=(1, 3, 3)))).astype(np.float32)
    protocol = Protocol(
        "mixed", "", (0.5,), steps=1, optimizer="sgd", schedule="constant", loss="distillation", temperature=9.0,
        mixup=0.8,
    )  # fmt: skip
    done = fit(network, images, labels, protocol, [0.5], key[None], label_convention="probability")
    key_init, _, key_apply = jax.random.split(key, 3)
    theta, stats = network.init(key_init)
    _, key_change = jax.random.split(jax.random.fold_in(key_apply, 0))
    mixed, logits = augmentation.mixup(jax.random.split(key_change)[1], images[0], np.log(labels[0]), beta=0.8)

    def loss(theta):
        ours, _ = network.apply(theta, mixed, stats)
        ours, theirs = jax.nn.log_softmax(ours / 9), jax.nn.log_softmax(logits / 9)
        return (jnp.exp(theirs) * (theirs - ours)).sum(1).mean()

    slope = jax.grad(loss)(theta)
    for found, first, along in zip(*map(jax.tree.leaves, (done.theta, theta, slope)), strict=True):
        np.testing.assert_allclose(found[0], first - 0.5 * along, atol=1e-6)
