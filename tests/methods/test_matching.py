"""What the matching methods share: gradients and layers class by class, both sides alike; a run that goes on."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matching_by_hand import (
    CLASSES,
    assert_close,
    frozen,
    gradient,
    real_gradient,
    tiny,
)

import jaxdd
from jaxdd import losses, methods, models
from jaxdd.errors import JaxddError
from jaxdd.methods import Classes, Matching, match_gradients, match_layers
from jaxdd.types import AT_ONCE, NetworkState


@pytest.fixture(scope="module")
def classes(digits):
    images = of_each_class(digits, 9)
    return Classes(jax.device_put(images[:, :3]), jax.device_put(images[:, 3:]))


def of_each_class(digits, count):
    labels = np.asarray(digits.labels.values)
    return np.stack([np.asarray(digits.images)[labels == label][:count] for label in range(CLASSES)])


@pytest.fixture(scope="module")
def network():
    return tiny()


@pytest.fixture(scope="module")
def start(network):
    return NetworkState(*jax.jit(network.init)(jax.random.key(0)))


def by_loop(of_class, classes):
    """The sum over classes and its slope at the images."""
    one = jax.jit(jax.value_and_grad(of_class, argnums=1))
    sums, slopes = zip(*(one(classes.real[c], classes.images[c], c) for c in range(CLASSES)), strict=True)
    return sum(map(np.asarray, sums)), np.stack(slopes)


def test_gradient_matching_is_that_of_a_loop_over_classes(classes, network, start):
    """One class after the other or side by side, in blocks or, where these do not divide the class, in one. Networks
    with running statistics have those of all real images here on both sides."""
    means = jax.jit(lambda start: frozen(network, start, classes.real))(start)

    def distance(theirs, ours):
        return sum(jnp.abs(a - b).sum() for a, b in zip(*map(jax.tree.leaves, (theirs, ours)), strict=True))

    def in_blocks(real, images, label):
        return distance(real_gradient(network, means, real, label), gradient(network, means, images, label))

    def at_once(real, images, label):
        return distance(gradient(network, means, real, label), gradient(network, means, images, label))

    for side_by_side, block, of_class in ((1, 3, in_blocks), (None, 4, at_once)):
        config = Matching(target_per_class=6)
        execution = dataclasses.replace(AT_ONCE, block=block, side_by_side=side_by_side)
        match = match_gradients(config, distance)
        found = jax.jit(functools.partial(match, network, start, classes, execution=execution))(jax.random.key(1))
        assert_close(found, by_loop(of_class, classes))


def test_batch_normalisation_is_that_of_sixteen_real_images_of_each_class(digits):
    """Together, as they are, on both sides."""
    network = models.build("convnet(width=4, depth=1, norm='batch')", (14, 14, 1), CLASSES)
    theta, stats = jax.jit(network.init)(jax.random.key(0))
    images = of_each_class(digits, 20)
    classes = Classes(jax.device_put(images[:, :2]), jax.device_put(images[:, 2:]))
    mixed = images[:, 2:18].reshape(-1, *images.shape[2:])
    moments = jax.jit(lambda theta: network.norms(theta, mixed, stats, mode="batch")[1].batch[0])(theta)
    means = {"batch_stats": {"norm_0": {"mean": moments.mean, "var": moments.variance}}}
    assert jax.tree.structure(means) == jax.tree.structure(stats)

    def of_class(real, images, label):
        return losses.gradient_matching(*(gradient(network, (theta, means), side, label) for side in (real, images)))

    match = match_gradients(Matching(), losses.gradient_matching)
    found = jax.jit(functools.partial(match, network, NetworkState(theta, stats), classes))(jax.random.key(1))
    assert_close(found, by_loop(of_class, classes), 1e-4)


def test_layer_matching_is_that_of_a_loop_over_classes(classes, network, start):
    """Blocks, of which the last may be smaller, change nothing, also where the batch normalises a network.

    What is compared is drawn by a key of its own.
    """

    def features(images):
        return network.layers(start[0], images, start[1], train=True)[0][-2]

    weights = jax.jit(lambda key: jax.random.uniform(jax.random.split(key)[1], (CLASSES,)))(jax.random.key(1))

    for side_by_side, block in ((1, None), (None, 4)):

        def of_class(real, images, label):
            return weights[label] * ((features(real).mean(0) - features(images).mean(0)) ** 2).sum()

        def distance(real, synthetic, key):
            return (jax.random.uniform(key, (CLASSES,)) * ((real.mean(1) - synthetic.mean(1)) ** 2).sum(1)).sum()

        config = Matching(target_per_class=6)
        execution = dataclasses.replace(AT_ONCE, block=block, side_by_side=side_by_side)
        match = match_layers(config, lambda layers: layers[-2], distance)
        found = jax.jit(functools.partial(match, network, start, classes, execution=execution))(jax.random.key(1))
        assert_close(found, by_loop(of_class, classes))


@pytest.mark.parametrize("by", ["gradients", "layers"])
def test_only_real_examples_are_seen_in_less_precision(by, classes):
    seen = {}

    def layers(theta, images):
        seen.setdefault(len(images), set()).add(jax.config.jax_default_matmul_precision)
        features = images.reshape(len(images), -1)
        return images, features, features @ theta["kernel"]

    def theta(key):
        return {"kernel": jnp.zeros((196, CLASSES))}

    plain = models.from_functions(theta, lambda theta, images: layers(theta, images)[-1], layers=layers)
    config, execution = Matching(), dataclasses.replace(AT_ONCE, target_precision="bfloat16")
    match = {
        "gradients": match_gradients(config, losses.gradient_matching),
        "layers": match_layers(config, lambda layers: layers[-2], lambda real, ours, key: real.sum() * ours.sum()),
    }[by]
    jax.eval_shape(
        lambda key: match(plain, NetworkState(*plain.init(key)), classes, key, execution=execution), jax.random.key(0)
    )
    assert seen == {6: {"bfloat16"}, 3: {None}}


@pytest.mark.endurance  # in the quick suite DD resumes a network and momenta
def test_resumed_it_is_the_same_bit_for_bit(digits, network, tmp_path):
    """IDC, since nothing has a richer state: stored images and their bounds, momenta, a network and how old it is."""
    options = {"devices": jax.devices()[:1], "progress": False}
    method = methods.build("idc", ipc=1, model=network, target_per_class=2, augmentation="none", matching_steps=3,
                           network_examples=8, network_batch=4, network_augmentation="none")  # fmt: skip
    whole = jaxdd.run(method, digits, steps=5, **options)
    jaxdd.run(method, digits, steps=2, workdir=tmp_path, checkpoint_seconds=0.0, **options)
    resumed = jaxdd.run(method, digits, steps=5, workdir=tmp_path, resume=True, **options)
    assert resumed.resumed_from == 2
    for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(resumed.state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_network_without_layers_is_one_sentence(digits):
    theta = {"kernel": jnp.zeros((196, CLASSES))}
    plain = models.from_functions(lambda key: theta, lambda theta, x: x.reshape(len(x), -1) @ theta["kernel"])
    method = methods.build("dm", model=plain, target_per_class=4)
    with pytest.raises(JaxddError, match="does not say what its layers are"):
        jaxdd.run(method, digits, steps=1, progress=False)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ipc": 0}, "ipc of DM must be at least 1"),
        ({"target_per_class": 0}, "target_per_class of DM must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate of DM must be positive"),
        ({"augmentation": "colour_crop"}, "did you mean 'color'"),
    ],
)
def test_bad_hyper_parameters(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build("dm", **options)
