import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdd
from jaxdd import data, kernels
from jaxdd.errors import JaxddError
from jaxdd.methods import KIP, build, kip
from jaxdd.types import Labels, RealData


@pytest.fixture(scope="module")
def mnist():
    dataset = data.load("mnist_5k")
    transform = data.fit_transform("standardize", dataset.train.pixels())
    return [data.real_data(s, transform, dataset.num_classes) for s in (dataset.train, dataset.test)]


def accuracy(distilled, test, kernel=kernels.ntk):
    predicted = kernels.kernel_ridge_predict(
        kernel(test.images, distilled.images), kernel(distilled.images), distilled.labels
    )
    return float(jnp.mean(jnp.argmax(predicted, axis=1) == test.labels.values))


def run(mnist, steps=60, **options):
    return jaxdd.run(
        kip(**{"target_batch": 500, **options}), mnist[0], steps=steps, devices=jax.devices()[:1], progress=False
    )


@pytest.mark.parametrize(
    "options",
    [
        {"labels": "fixed"},
        {"labels": "learned"},
        {"kernel": "nngp", "depth": 2},
        {"activation": "erf"},
        {"corruption": 0.5, "init": "noise"},
        {"float64": True},
    ],
)
def test_beats_random_real_images_by_far(mnist, options):
    start = run(mnist, steps=1, ema=0.0, learning_rate=1e-9).distilled
    end = run(mnist, **options).distilled
    kernel = kernels.build(**KIP(**options).kernel_options)
    assert accuracy(end, mnist[1], kernel) > accuracy(start, mnist[1]) + 0.15


def test_convolutional_kernels_are_named_with_their_stem_and_not_with_their_blocks():
    images, labels = np.random.default_rng(0).normal(size=(12, 4, 4, 1)), np.arange(12) % 3
    real = RealData(jnp.array(images, jnp.float32), Labels.index(labels))
    options = {"kernel": "conv_ntk", "stem": True, "target_batch": 6}
    small, large = (run([real], steps=2, kernel_block=block, **options).distilled for block in (2, 4))
    np.testing.assert_allclose(small.images, large.images, atol=1e-4)
    facts = dict(large.kernel)
    assert facts == {**KIP(**options).kernel_options, "ridge": 1e-6, "float64": False}
    assert facts["stem"] and "block" not in facts


def test_fixed_labels_stay_and_learned_labels_move(mnist):
    for labels, moves in (("fixed", False), ("learned", True)):
        end = run(mnist, steps=5, labels=labels).distilled
        one_hot = jax.nn.one_hot(jnp.repeat(jnp.arange(10), 1), 10) - 0.1
        assert np.array_equal(end.labels, one_hot) is not moves


def test_label_solve_keeps_real_images_and_improves_them(mnist):
    start = run(mnist, steps=1, learning_rate=1e-9, ipc=3).distilled
    solved = run(mnist, steps=1, ipc=3, labels="solve", ema=0.0, target_batch=3000).distilled
    np.testing.assert_allclose(solved.images, start.images, atol=1e-6)
    assert accuracy(solved, mnist[1]) > accuracy(start, mnist[1]) + 0.03
    assert solved.label_regime == "learned"


def test_corrupted_pixels_stay_bit_identical(mnist):
    first, last = (run(mnist, steps=steps, corruption=0.9) for steps in (1, 30))
    mask = np.asarray(last.state.params["mask"]) > 0
    np.testing.assert_array_equal(mask.reshape(10, -1).sum(1), np.ceil(0.9 * 784))
    images = [np.asarray(result.distilled.images) for result in (first, last)]
    np.testing.assert_array_equal(images[0][mask], images[1][mask])
    assert np.mean(images[0][~mask] != images[1][~mask]) > 0.9


def test_average_follows_the_iterates(mnist):
    """With ema 0 the result is the last iterate itself."""
    result = run(mnist, steps=5, ema=0.0)
    np.testing.assert_array_equal(result.state.average["images"], result.state.params["images"])
    averaged = run(mnist, steps=5, ema=0.9)
    np.testing.assert_array_equal(averaged.state.params["images"], result.state.params["images"])
    assert not np.array_equal(averaged.state.average["images"], result.state.params["images"])


@pytest.mark.parametrize("count", [2, 4])
def test_devices_do_not_matter(mnist, count):
    one, many = (
        jaxdd.run(kip(target_batch=400), mnist[0], steps=10, devices=jax.devices()[:n], progress=False)
        for n in (1, count)
    )
    np.testing.assert_allclose(one.distilled.images, many.distilled.images, atol=2e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ipc": 0}, "ipc of KIP must be at least 1"),
        ({"labels": "soft"}, 'must be "fixed", "learned" or "solve"'),
        ({"corruption": 1.0}, "under 1"),
        ({"kernel": "rbf"}, "nngp"),
        ({"stem": True}, "stem of KIP must be False for a fully-connected kernel"),
        ({"kernel_block": 0}, "kernel_block of KIP must be at least 1"),
        ({"lerning_rate": 0.1}, "did you mean 'learning_rate'"),
        ({"learning_rate": 0.0}, "positive"),
        ({"ipc": "a"}, "ipc of KIP must be int, got 'a'"),
        ({"ipc": 1.5}, "ipc of KIP must be int"),
        ({"float64": 1}, "float64 of KIP must be bool"),
        ({"ridge": "small"}, "ridge of KIP must be float"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(JaxddError, match=message):
        build("kip", **options)


def test_more_images_than_a_class_has(mnist):
    with pytest.raises(JaxddError, match="has only 360 examples"):
        run(mnist, ipc=1000)


def test_a_config_object_and_fields_are_the_same_and_unknown_methods_are_named():
    assert isinstance(kip(KIP(ipc=2)), jaxdd.Method)
    assert "ipc" in inspect.signature(kip).parameters
    with pytest.raises(TypeError, match="not both"):
        kip(KIP(), ipc=2)
    with pytest.raises(JaxddError, match="did you mean 'kip'"):
        build("kipp")
    with pytest.raises(JaxddError, match="cannot import"):
        build("no_such_module:method")
