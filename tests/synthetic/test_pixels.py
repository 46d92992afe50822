import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdd.errors import JaxddError
from jaxdd.synthetic import (
    clipped,
    corrupted,
    descend,
    frequencies,
    linear_bases,
    moving_average,
    multi_formation,
    per_leaf,
    pixels,
    render,
    unit_norm,
)
from jaxdd.types import HostArray, Labels, RealData


@pytest.mark.parametrize("classes", [None, 2])
def test_pixels_start_from_distinct_real_images_of_each_class(real, key, classes):
    params = pixels(4, classes=classes).init(key, real)
    count = 4 * (classes or 3)
    labels = np.argmax(params["labels"], axis=1)
    np.testing.assert_array_equal(params["labels"], np.eye(3)[np.repeat(np.arange(3), 4)[:count]])
    rows = np.asarray(real.images).reshape(30, -1)
    found = [int(np.flatnonzero((rows == row).all(1))[0]) for row in np.asarray(params["images"]).reshape(count, -1)]
    assert len(set(found)) == count
    np.testing.assert_array_equal(np.asarray(real.labels.values)[found], labels)


def test_classes_may_have_numbers_of_their_own(real, key):
    """In any sequence; equal ones are one number, bit for bit."""
    params, one = (pixels(ipc).init(key, real) for ipc in (np.array([4, 1, 2]), 4))
    np.testing.assert_array_equal(np.argmax(params["labels"], axis=1), [0, 0, 0, 0, 1, 2, 2])
    np.testing.assert_array_equal(params["images"], np.asarray(one["images"])[[0, 1, 2, 3, 4, 8, 9]])
    alike = pixels([4, 4, 4])
    np.testing.assert_array_equal(alike.init(key, real)["images"], one["images"])
    assert alike.counts is None
    some = pixels((1, 3), init="noise", classes=2).init(key, real)
    np.testing.assert_array_equal(np.argmax(some["labels"], axis=1), [0, 1, 1, 1])


def test_what_is_rendered_says_how_many_of_each_class(real, key):
    plain, spectral = pixels((4, 1, 2)), frequencies((4, 1, 2), 20)  # all coefficients are all pixels
    found = render(spectral, spectral.init(key, real))
    np.testing.assert_allclose(found.images, plain.init(key, real)["images"], atol=1e-5)
    assert found.labelling.counts == (4, 1, 2) == plain.counts
    assert multi_formation(plain, 2).counts == (16, 4, 8)


@pytest.mark.parametrize("init", ["noise", "unit"])
def test_noise_is_independent_of_the_images(real, key, init):
    noise = pixels(4, init=init).init(key, real)["images"]
    other = pixels(4, init=init).init(key, real.with_images(real.images * 7))["images"]
    assert noise.shape == (12, 4, 5, 2)
    np.testing.assert_array_equal(noise, other)
    if init == "unit":
        np.testing.assert_allclose(np.sum(np.square(noise), axis=(1, 2, 3)), 1, rtol=1e-5)


@pytest.mark.parametrize("convention", ["hard", "centred"])
def test_fixed_labels_and_their_bits(real, key, convention):
    synthetic = pixels(2, labels=convention)
    params = synthetic.init(key, real)
    assert synthetic.num_bits(params) == {"images": 32 * 6 * 40, "labels": 2 * 6}
    assert synthetic.learned == ("images",)
    distilled = render(synthetic, params, iterate="average")
    assert (distilled.label_convention, distilled.label_regime, distilled.decoder) == (convention, "hard", "pixels")
    assert (distilled.num_bits, distilled.iterate) == (32 * 6 * 40 + 12, "average")
    classes = np.repeat(np.arange(3), 2)
    if convention == "hard":
        assert distilled.labels.dtype == jnp.int32
        np.testing.assert_array_equal(distilled.labels, classes)
    else:
        np.testing.assert_allclose(distilled.labels, np.eye(3)[classes] - 1 / 3, atol=1e-6)
    assert dataclasses.replace(distilled, params={}).images is distilled.images


CONSTRAINTS = {"unit_norm": unit_norm, "clipped": clipped, "corrupted": lambda base: corrupted(base, 0.3)}


def pushed(synthetic, params):
    """Params after a step to wherever an optimiser may lead."""
    optimizer = per_leaf({name: optax.sgd(5.0) for name in synthetic.learned})
    grads = {name: jax.random.normal(jax.random.key(7), leaf.shape) for name, leaf in params.items()}
    return descend(synthetic, optimizer, grads, optimizer.init(params), params)[0]


@pytest.mark.parametrize("init", ["real", "noise"])
@pytest.mark.parametrize("name", CONSTRAINTS)
def test_projections_are_idempotent(real, key, name, init):
    synthetic = CONSTRAINTS[name](pixels(3, init=init))
    params = pushed(synthetic, synthetic.init(key, real))
    again = synthetic.project(params)
    for leaf, value in params.items():
        np.testing.assert_allclose(again[leaf], value, rtol=1e-6)


def test_unit_norm_comes_after_the_constraints_below_it(real, key):
    below, alone = clipped(pixels(3)), unit_norm(pixels(3))
    synthetic = unit_norm(below)
    params = synthetic.init(key, real)
    far = {**params, "images": 100 * params["images"]}
    found = synthetic.project(far)["images"]
    np.testing.assert_allclose(found, alone.project(below.project(far))["images"], rtol=1e-6)
    assert np.abs(found - alone.project(far)["images"]).max() > 1e-3  # where being clipped changed the direction


def test_unit_norm_holds_from_the_start_and_after_any_step(real, key):
    synthetic = unit_norm(pixels(3))
    start = synthetic.init(key, real)
    for params in (start, pushed(synthetic, start)):
        norms = np.sqrt(np.sum(np.square(synthetic.render(params).images), axis=(1, 2, 3)))
        np.testing.assert_allclose(norms, 1, rtol=1e-6)
    assert not np.allclose(start["images"], pushed(synthetic, start)["images"])
    zero = {**start, "images": jnp.zeros_like(start["images"])}
    np.testing.assert_array_equal(synthetic.project(zero)["images"], 0)


@pytest.mark.parametrize("init", ["real", "noise"])
def test_clipped_pixels_stay_among_the_real_ones(real, key, init):
    narrow = real.with_images(real.images / jnp.array([2.0, 50.0])[None, None, None])
    synthetic = clipped(pixels(3, init=init))
    start = synthetic.init(key, narrow)
    for params in (start, pushed(synthetic, start)):
        images = np.asarray(synthetic.render(params).images)
        for channel in range(2):
            allowed = np.asarray(narrow.images[..., channel])
            assert allowed.min() <= images[..., channel].min()
            assert images[..., channel].max() <= allowed.max()
    after = np.asarray(pushed(synthetic, start)["images"])
    assert np.mean(after == np.asarray(start["highest"])) > 0.2  # the step was a large one
    assert set(synthetic.num_bits(start)) == {"images", "labels"}
    np.testing.assert_array_equal(pushed(synthetic, start)["highest"], start["highest"])


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.9])
def test_corrupted_pixels_carry_no_gradient_and_keep_their_bits(real, key, fraction):
    narrow = real.with_images(real.images / 4)  # so that much of the noise is out of range
    synthetic = corrupted(clipped(pixels(4)), fraction)
    start = params = synthetic.init(key, narrow)
    mask = np.asarray(params["mask"]) > 0
    np.testing.assert_array_equal(mask.reshape(12, -1).sum(1), np.ceil(fraction * 40))
    optimizer = per_leaf({"images": optax.adam(0.1)})
    state, average = optimizer.init(params), params
    for step in range(5):
        grads = jax.grad(lambda p: jnp.sum(jnp.sin(synthetic.render(p).images)))(params)
        params, state = descend(synthetic, optimizer, grads, state, params)
        average = moving_average(average, params, 0.9, step)
    for result in (params, average):
        moved = np.asarray(result["images"]) != np.asarray(start["images"])
        assert not np.any(moved & mask)
        assert np.mean(moved[~mask]) > 0.9  # but for those at a bound
        beyond = np.abs(np.asarray(result["images"])) > np.abs(np.asarray(narrow.images)).max()
        assert not np.any(beyond & ~mask)
    assert "mask" not in render(synthetic, params).params  # nobody needs it to use the set


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pixels(0), "images per class must be an integer of at least 1, got 0"),
        (lambda: pixels(-3, init="noise"), "at least 1, got -3"),
        (lambda: pixels(1.5), "got 1.5"),
        (lambda: pixels((3, 0)), "images per class, for class 1, must be an integer of at least 1, got 0"),
        (lambda: pixels((1.0, 2)), "for class 0, must be an integer of at least 1, got 1.0"),
        (lambda: pixels(1, init="reel"), "did you mean 'real'"),
        (lambda: pixels(1, labels="soft"), "unknown convention of fixed labels 'soft'"),
        (lambda: pixels(1, classes=0), "classes with images must be an integer of at least 1"),
        (lambda: corrupted(pixels(1), 1.0), "the corrupted fraction"),
        (lambda: clipped(linear_bases(2, 2)), "clipped needs .* but linear_bases learns bases, coefficients"),
        (lambda: unit_norm(frequencies(2, 2)), "unit_norm needs .* learns pixels"),
        (lambda: corrupted(frequencies(2, 2), 0.1), "corrupted needs"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(JaxddError, match=message):
        make()


def test_what_the_data_do_not_have(real, key):
    with pytest.raises(JaxddError, match="only 10 examples"):
        pixels(11).init(key, real)
    with pytest.raises(JaxddError, match="images per class is 11, but class 2 has only 10 examples"):
        pixels((1, 2, 11)).init(key, real)
    with pytest.raises(JaxddError, match="are given for 2 classes, but there are 3: give a number for each, or one"):
        pixels((1, 2), init="noise").init(key, real)
    with pytest.raises(JaxddError, match="4 classes were asked for, but the data have 3"):
        pixels(1, classes=4).init(key, real)
    assert pixels(11, init="noise").init(key, real)["images"].shape[0] == 33


def test_the_range_of_images_on_the_host_is_that_of_the_array(rng):
    images = rng.normal(size=(300, 3, 3, 2)).astype(np.float32)
    labels = Labels.index(np.arange(300) % 3)
    on_host = HostArray(images.shape, images.dtype, lambda rows: images[rows], "0")
    synthetic, key = clipped(pixels(1)), jax.random.key(0)
    resident = synthetic.init(key, RealData.of(jnp.asarray(images), labels))
    streamed = jax.jit(lambda key: synthetic.init(key, RealData.of(on_host, labels)))(key)
    for name in resident:
        np.testing.assert_array_equal(streamed[name], resident[name])
    np.testing.assert_array_equal(streamed["highest"], images.max((0, 1, 2)))
