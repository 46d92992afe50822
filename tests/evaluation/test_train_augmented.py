"""Training with augmentation and CutMix, and every named protocol, shortened, on a few real images."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import data, models
from jaxdd.data.augmentation import named
from jaxdd.evaluation import Protocol, evaluate, protocols
from jaxdd.evaluation.train import train
from jaxdd.types import Batch, Distilled

SHORT = Protocol("short", "", (3e-3,), steps=80)


@pytest.fixture(scope="module")
def mnist():
    dataset = data.load("mnist_5k")
    transform = data.fit_transform("standardize", dataset.train.pixels())
    train_set, test = (data.real_data(split, transform, 10) for split in (dataset.train, dataset.test))
    chosen = data.balanced_choice(jax.random.key(0), train_set.labels, 2)
    support = Distilled(train_set.images[chosen], train_set.labels.values[chosen])
    return support, Batch(test.images[::5], test.labels.values[::5])


@pytest.fixture(scope="module")
def mlp():
    return models.build("mlp", (28, 28, 1), 10, width=16)


@pytest.mark.parametrize("name", ["dc", "dsa", "idc", "ncfm", "frepo", "rcig", "rat"])
def test_the_papers_protocols_train(name, mnist, key):
    """At a twentieth of their length or less, and a rate of at least 1e-3 to learn something in it."""
    support, test = mnist
    full = protocols.get(name)
    length = {"epochs": 50} if full.steps is None else {"steps": 50, "warmup": min(full.warmup, 5)}
    protocol = dataclasses.replace(full, learning_rates=(max(full.learning_rates[0], 1e-3),), **length)
    network = models.build("mlp", (28, 28, 1), 10, width=64)
    score = evaluate(network, support, None, test, protocol, num_networks=1, key=key)
    assert score.protocol == name
    assert score.mean > 0.25, "several times what chance gives"


@pytest.mark.parametrize("changes", [{"augmentation": "dsa-digits"}, {"cutmix": 0.5}, {"augmentation": "flip_rotate"}])
def test_a_change_of_the_images_changes_the_networks_and_is_a_function_of_the_key(changes, mnist, mlp, key):
    support, _ = mnist
    keys = jax.random.split(key, 2)

    def trained(protocol, keys):
        return jax.tree.leaves(
            train(
                mlp, support.images[None], support.labels[None], protocol, np.full(len(keys), 3e-3), keys,
                label_convention="hard",
            ).theta
        )  # fmt: skip

    protocol = dataclasses.replace(SHORT, **changes)
    plain, one, same = trained(SHORT, keys), trained(protocol, keys), trained(protocol, keys)
    for a, b, c in zip(plain, one, same, strict=True):
        np.testing.assert_array_equal(b, c)
        assert np.abs(a - b).max() > 1e-4
    for a, b in zip(one, trained(protocol, keys[:1]), strict=True):
        np.testing.assert_allclose(a[:1], b, atol=1e-3)


def linear(n, classes):
    return models.from_functions(lambda key: jnp.zeros((n, classes)), lambda theta, x: x.reshape(len(x), -1) @ theta)


@pytest.mark.parametrize(("labels", "convention"), [("hard", "hard"), ("soft", "probability")])
def test_one_step_is_on_the_changed_batch(labels, convention, key):
    """From zero, one step of gradient descent is the product of residuals and images that the step saw."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(6, 8, 8, 1)), jnp.float32)
    classes = jnp.arange(6) % 3
    given = classes if labels == "hard" else jax.nn.one_hot(classes, 3)
    protocol = Protocol(
        "p", "", (1.0,), steps=1, optimizer="sgd", schedule="constant", augmentation="crop_scale", cutmix=1.0
    )  # fmt: skip
    theta = train(
        linear(64, 3), images[None], given[None], protocol, [1.0], key[None], label_convention=convention
    ).theta[0]  # fmt: skip
    key_step = jax.random.fold_in(jax.random.split(key, 3)[2], 0)
    key_augment, key_mix = jax.random.split(jax.random.split(key_step)[1])
    augment = named("crop_scale")
    seen, soft = data.cutmix(
        key_mix, augment.apply(images, augment.draw(key_augment, 6)), jax.nn.one_hot(classes, 3), probability=1.0
    )
    assert np.abs(seen - images).max() > 0.1
    np.testing.assert_allclose(theta, seen.reshape(6, -1).T @ (soft - 1 / 3) / 6, atol=1e-5)
