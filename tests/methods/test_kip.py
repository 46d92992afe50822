import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import jaxdd
from jaxdd import data, kernels, models
from jaxdd.engine.placement import AXIS, make_mesh, replicated
from jaxdd.errors import JaxddError
from jaxdd.inner.networks import share_networks
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


@pytest.fixture(scope="module")
def noise():
    """Five classes of 480 small images, which tiles and devices can share."""
    images = np.random.default_rng(0).normal(size=(2400, 4, 4, 1))
    return RealData(jnp.array(images, jnp.float32), Labels.index(np.arange(2400) % 5))


def compiled_update(noise, devices=1, **options):
    """With its state, for a support of 60 and 2,400 targets."""
    method = kip(ipc=12, target_batch=2400, **options)
    mesh = make_mesh(jax.devices()[:devices])
    whole, split = replicated(mesh), NamedSharding(mesh, PartitionSpec(AXIS))
    state = jax.jit(method.init, out_shardings=whole)(jax.random.key(0), noise)
    update = jax.jit(share_networks(method.update, mesh), in_shardings=(whole, whole, split), out_shardings=whole)
    batch = jax.device_put(noise.batch, split)
    return update.lower(jax.random.key(0), state, batch).compile(), state, batch


@pytest.fixture(scope="module")
def unblocked(noise):
    update, state, batch = compiled_update(noise)
    return update, update(jax.random.key(0), state, batch)


@pytest.mark.parametrize("devices", [1, 4])
def test_tiles_change_nothing_but_memory(noise, unblocked, devices):
    update, state, batch = compiled_update(noise, devices, target_block=100, kernel_block=25)
    (params, *_), metrics = update(jax.random.key(0), state, batch)
    (expected, *_), of_all = unblocked[1]
    for name, leaf in expected.items():
        np.testing.assert_allclose(params[name], leaf, atol=1e-4, err_msg=name)
    assert float(metrics["loss"]) == pytest.approx(float(of_all["loss"]), rel=1e-5)
    assert float(metrics["batch_accuracy"]) == pytest.approx(float(of_all["batch_accuracy"]), abs=1e-6)
    temporary = [u.memory_analysis().temp_size_in_bytes for u in (update, unblocked[0])]
    assert temporary[0] < temporary[1] / (3 if devices == 1 else 6)


@pytest.mark.parametrize("devices", [2, 4])
def test_each_device_holds_and_computes_its_share_of_the_tiles(noise, unblocked, devices):
    """And of the support's own kernel."""
    one, many = unblocked[0], compiled_update(noise, devices)[0]
    assert many.memory_analysis().temp_size_in_bytes < 1.2 * one.memory_analysis().temp_size_in_bytes / devices
    assert many.cost_analysis()["flops"] < 1.1 * one.cost_analysis()["flops"] / devices


@pytest.mark.parametrize("options", [{}, {"kernel": "conv_ntk", "kernel_block": 2}, {"labels": "solve"}])
def test_kernels_and_solves_keep_float32_whatever_the_precision_of_networks(noise, options):
    method = kip(ipc=2, target_batch=10, **options)
    state, batch = method.init(jax.random.key(0), noise), jax.tree.map(lambda leaf: leaf[:10], noise.batch)
    with models.matmul_precision("bfloat16"):
        jaxpr = str(jax.make_jaxpr(method.update)(jax.random.key(0), state, batch))
    products = re.findall(r"precision=(\S+)", jaxpr)
    assert len(products) == jaxpr.count("= dot_general[") > 2
    assert all("HIGHEST" in precision for precision in products)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ipc": 0}, "ipc of KIP must be at least 1"),
        ({"labels": "soft"}, 'must be "fixed", "learned" or "solve"'),
        ({"corruption": 1.0}, "under 1"),
        ({"kernel": "rbf"}, "nngp"),
        ({"stem": True}, "stem of KIP must be False for a fully-connected kernel"),
        ({"kernel_block": 0}, "kernel_block of KIP must be at least 1 or None"),
        ({"target_block": 300}, r"target_block of KIP must be None, or a divisor of target_batch \(2500\)"),
        ({"target_block": 500, "labels": "solve"}, "where labels are not solved for, got 500"),
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
