"""KIP: kernel ridge regression from a learned support."""

import functools
import inspect
import re

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from jax.sharding import NamedSharding, PartitionSpec

from jaxdd import kernels, models
from jaxdd.engine.placement import AXIS, make_mesh, replicated
from jaxdd.errors import JaxddError
from jaxdd.inner.networks import share_networks
from jaxdd.methods import KIP, build, kip
from jaxdd.methods.kernel.kip import label_rates
from jaxdd.types import Batch, Execution, Labels, RealData, bound

LEARNED = {
    "ipc": 3, "target_batch": 40, "learning_rate": 0.02, "label_learning_rate": 0.01, "ema": 0.15, "ridge": 0.05,
    "w_std": 1.2, "b_std": 0.3,
}  # fmt: skip
FIXED = {
    "ipc": 2, "target_batch": 40, "labels": "fixed", "init": "noise", "corruption": 0.6, "kernel": "nngp",
    "activation": "erf", "depth": 2, "ridge": 0.01, "float64": True,
}  # fmt: skip
SOLVED = {"ipc": 3, "target_batch": 200, "labels": "solve", "ema": 0.0, "ridge": 0.01}


@pytest.fixture(scope="module")
def learned(digits):
    return toys.updates(kip(**LEARNED), digits, 40)


def regression(kernel, ridge):
    """Loss and accuracy of kernel ridge regression."""

    def loss(params, batch):
        support = kernel(params["images"])
        support += ridge * jnp.trace(support) / len(support) * jnp.eye(len(support))
        predictions = kernel(batch.images, params["images"]) @ jnp.linalg.solve(support, params["labels"])
        error = jnp.sum((predictions - (jax.nn.one_hot(batch.labels, 4) - 1 / 4)) ** 2, axis=1)
        return 0.5 * error.mean(), jnp.mean(predictions.argmax(1) == batch.labels)

    return loss


def precisely(function):
    """Compiled for float64."""
    compiled = jax.jit(function)

    def call(*given):
        with jax.enable_x64(True):
            given = jax.tree.map(lambda a: jnp.asarray(a, "float64") if a.dtype == jnp.float32 else a, given)
            return jax.tree.map(np.asarray, compiled(*given))

    return call


def test_updates_of_images_and_labels_are_those_of_the_formula(learned):
    """By Adam, labels at a rate times the root of the images in a class; the average follows, at first faster."""
    loss = regression(lambda *xs: kernels.ntk(*xs, w_std=1.2, b_std=0.3), 0.05)
    plainly = precisely(jax.value_and_grad(loss, has_aux=True))
    optimizers = {leaf: by_hand.Adam() for leaf in ("images", "labels")}
    average = learned[0].before.params
    np.testing.assert_allclose(average["labels"], np.repeat(np.eye(4), 3, axis=0) - 1 / 4)
    for update, decay in zip(learned[:2], (1 / 10, 0.15), strict=True):
        (loss, accuracy), slopes = plainly(update.before.params, update.batch)
        assert float(update.metrics["loss"]) == pytest.approx(float(loss), rel=1e-4)
        assert float(update.metrics["batch_accuracy"]) == pytest.approx(float(accuracy), abs=1e-6)
        by_hand.assert_stepped(update, slopes, optimizers, {"images": 0.02, "labels": 0.01 * np.sqrt(3)})
        average = {leaf: decay * average[leaf] + (1 - decay) * new for leaf, new in update.after.params.items()}
        for leaf, expected in average.items():
            np.testing.assert_allclose(update.after.average[leaf], expected, atol=1e-5, err_msg=leaf)
    assert np.bincount(learned[0].batch.labels).tolist() == [10, 10, 10, 10]


def test_noise_under_fixed_labels_with_another_kernel(digits):
    """What is corrupted keeps its bits, the rest is learned; the solve is in float64."""
    method = bound(kip(**FIXED), digits)
    plainly = precisely(regression(lambda *xs: kernels.nngp(*xs, depth=2, activation="erf"), 0.01))
    done = toys.updates(method, digits)
    first = np.asarray(done[0].before.params["images"])
    assert abs(first.mean()) < 0.1 and abs(first.std() - 1) < 0.1, "noise"
    mask = np.asarray(done[0].before.params["mask"]) > 0
    np.testing.assert_array_equal(mask.reshape(8, -1).sum(1), np.ceil(0.6 * 196))
    for update in done:
        loss, accuracy = plainly(update.before.params, update.batch)
        assert float(update.metrics["loss"]) == pytest.approx(float(loss), rel=1e-4)
        assert float(update.metrics["batch_accuracy"]) == pytest.approx(float(accuracy), abs=1e-6)
        for state in (update.after.params, update.after.average):
            np.testing.assert_array_equal(np.asarray(state["images"])[mask], first[mask])
            np.testing.assert_array_equal(state["labels"], np.repeat(np.eye(4), 2, axis=0) - 1 / 4)
    # The first step of Adam is its rate, but where a gradient is next to nothing.
    moved = np.abs(np.asarray(done[0].after.params["images"]) - first)[~mask]
    assert np.median(moved) == pytest.approx(0.04, rel=1e-3) and moved.min() > 0
    assert "f64[8,8]" in str(jax.make_jaxpr(method.update)(update.key, update.before, update.batch))
    assert dict(jax.eval_shape(method.distilled, update.after).kernel)["float64"]


def test_it_learns_and_the_average_is_the_result(learned, digits):
    losses = [float(update.metrics["loss"]) for update in learned]
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    distilled = jax.jit(bound(kip(**LEARNED), digits).distilled)(learned[-1].after)
    np.testing.assert_array_equal(distilled.images, learned[-1].after.average["images"])
    assert (distilled.label_convention, distilled.label_regime, distilled.iterate) == ("centred", "learned", "average")
    facts = {"name": "ntk", "depth": 1, "activation": "relu", "w_std": 1.2, "b_std": 0.3}
    assert dict(distilled.kernel) == {**facts, "ridge": 0.05, "float64": False}


def ntk_of_one_layer(x, y):
    """By the arc-cosine formulas (Cho & Saul 2009), with the library's w_std of sqrt(2) and b_std of 0.1."""
    size_x, size_y = (2 * np.mean(one**2, axis=1) + 0.01 for one in (x, y))
    inputs, sizes = 2 * x @ y.T / 196 + 0.01, np.sqrt(np.outer(size_x, size_y))
    angle = np.arccos(np.clip(inputs / sizes, -1, 1))
    nngp = sizes * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi + 0.01
    return nngp + inputs * (np.pi - angle) / np.pi


def test_label_solve_keeps_real_images_and_chooses_the_best_labels(digits):
    """Those that least squares in NumPy find, so that what is predicted is what the best coefficients predict."""
    (update,) = toys.updates(kip(**SOLVED), digits, count=1)
    before, after = update.before.params, update.after.params
    np.testing.assert_array_equal(after["images"], before["images"])
    x, t = (np.float64(images).reshape(-1, 196) for images in (before["images"], update.batch.images))
    k_ss, k_ts = ntk_of_one_layer(x, x), ntk_of_one_layer(t, x)
    targets = np.eye(4)[np.asarray(update.batch.labels)] - 1 / 4
    coefficients = np.linalg.lstsq(k_ts, targets, rcond=None)[0]
    ridge = 0.01 * np.trace(k_ss) / 12
    by_hand.assert_near(after["labels"], (k_ss + ridge * np.eye(12)) @ coefficients, 1e-2)
    best = 0.5 * np.mean(np.sum((k_ts @ coefficients - targets) ** 2, axis=1))
    assert float(update.metrics["loss"]) == pytest.approx(best, rel=1e-3)
    distilled = jax.jit(bound(kip(**SOLVED), digits).distilled)(update.after)
    np.testing.assert_array_equal(distilled.labels, after["labels"])  # without an average the last iterate
    assert (distilled.label_regime, distilled.iterate) == ("learned", "last")


@pytest.mark.parametrize("options", [{"ipc": 2}, {"ipc": 2, "labels": "solve"}])
def test_kernels_and_solves_keep_float32_whatever_the_precision_of_networks(options, digits):
    method = bound(kip(target_batch=10, **options), digits)
    state = jax.eval_shape(method.init, jax.random.key(0), digits)
    batch = Batch.of(*(leaf[:10] for leaf in digits.examples))
    with models.matmul_precision("bfloat16"):
        assert_at_full_precision(jax.make_jaxpr(method.update)(jax.random.key(0), state, batch))


def assert_at_full_precision(jaxpr):
    products = re.findall(r"precision=(\S+)", str(jaxpr))
    assert len(products) == str(jaxpr).count("= dot_general[") > 2
    assert all("HIGHEST" in precision for precision in products)


@pytest.mark.endurance
def test_convolutional_kernels_by_blocks(rng):
    """At full precision too, and with the loss of the whole kernel; the file names their stem and not their blocks."""
    images = jnp.array(rng.normal(size=(12, 4, 4, 1)), jnp.float32)
    real = RealData.of(images, Labels.index(np.arange(12) % 3))
    options = {"kernel": "conv_ntk", "depth": 0, "stem": True, "ridge": 0.01, "target_batch": 6}
    method = bound(kip(**options), real, Execution(block=2))
    state, batch = jax.jit(method.init)(jax.random.key(0), real), Batch.of(*(leaf[:6] for leaf in real.examples))
    with models.matmul_precision("bfloat16"):
        traced = jax.jit(method.update).trace(jax.random.key(0), state, batch)
        after, metrics = traced.lower().compile()(jax.random.key(0), state, batch)
    assert_at_full_precision(traced.jaxpr)
    both = jnp.concatenate([state.params["images"], batch.images])
    whole = np.float64(jax.jit(functools.partial(kernels.conv_ntk, depth=0, stem=True))(both))
    k_ss, k_ts = whole[:3, :3], whole[3:, :3]
    k_ss = k_ss + 0.01 * np.trace(k_ss) / 3 * np.eye(3)
    error = k_ts @ np.linalg.solve(k_ss, state.params["labels"]) - (np.eye(3)[np.asarray(batch.labels)] - 1 / 3)
    assert float(metrics["loss"]) == pytest.approx(0.5 * np.mean(np.sum(error**2, axis=1)), rel=1e-3)
    assert np.abs(after.params["images"] - state.params["images"]).max() > 0.01
    facts = dict(jax.eval_shape(method.distilled, after).kernel)
    assert facts == {**KIP(**options).kernel_options, "ridge": 0.01, "float64": False}
    assert facts["stem"] and "block" not in facts


@pytest.fixture(scope="module")
def noise():
    """Five classes of 480 small images, which tiles and devices can share."""
    images = np.random.default_rng(0).normal(size=(2400, 4, 4, 1))
    return RealData.of(jnp.array(images, jnp.float32), Labels.index(np.arange(2400) % 5))


def compiled_update(noise, devices=1, execution=None):
    """With its state, for a support of 60 and 2,400 targets."""
    method = bound(kip(ipc=12, target_batch=2400), noise, execution)
    mesh = make_mesh(jax.devices()[:devices])
    whole, split = replicated(mesh), NamedSharding(mesh, PartitionSpec(AXIS))
    state = jax.jit(method.init, out_shardings=whole)(jax.random.key(0), noise)
    update = jax.jit(share_networks(method.update, mesh), in_shardings=(whole, whole, split), out_shardings=whole)
    batch = jax.device_put(Batch.of(*noise.examples), split)
    return update.lower(jax.random.key(0), state, batch).compile(), state, batch


@pytest.fixture(scope="module")
def unblocked(noise):
    update, state, batch = compiled_update(noise)
    return update, update(jax.random.key(0), state, batch)


@pytest.mark.parametrize("devices", [4, pytest.param(1, marks=pytest.mark.endurance)])
def test_tiles_change_nothing_but_memory(noise, unblocked, devices):
    update, state, batch = compiled_update(noise, devices, execution=Execution(block=25))
    (params, *_), metrics = update(jax.random.key(0), state, batch)
    (expected, *_), of_all = unblocked[1]
    for name, leaf in expected.items():
        np.testing.assert_allclose(params[name], leaf, atol=1e-4, err_msg=name)
    assert float(metrics["loss"]) == pytest.approx(float(of_all["loss"]), rel=1e-5)
    assert float(metrics["batch_accuracy"]) == pytest.approx(float(of_all["batch_accuracy"]), abs=1e-6)
    temporary = [u.memory_analysis().temp_size_in_bytes for u in (update, unblocked[0])]
    assert temporary[0] < temporary[1] / (3 if devices == 1 else 6)


@pytest.mark.parametrize("devices", [4, pytest.param(2, marks=pytest.mark.endurance)])
def test_each_device_holds_and_computes_its_share_of_the_tiles(noise, unblocked, devices):
    """And of the support's own kernel."""
    one, many = unblocked[0], compiled_update(noise, devices)[0]
    assert many.memory_analysis().temp_size_in_bytes < 1.2 * one.memory_analysis().temp_size_in_bytes / devices
    assert many.cost_analysis()["flops"] < 1.1 * one.cost_analysis()["flops"] / devices


def large_support(noise):
    """An update of 2,050 images as compiled for four devices, and for any, with the rest of its arguments."""
    method = bound(kip(ipc=410, target_batch=2400, ridge=1e-2), noise, Execution(block=100))
    key, batch = jax.random.key(0), Batch.of(*noise.examples)
    state = jax.jit(method.init)(key, noise)
    together = jax.jit(share_networks(method.update, make_mesh(jax.devices()[:4]))).lower(key, state, batch).compile()
    return together, method, key, state, batch


def test_devices_share_the_factor_of_a_large_support(noise):
    """None holds the kernel, an array of 2,050 x 2,050, nor a share of it but for the lower half of its rows."""
    text = large_support(noise)[0].as_text()
    sizes = [np.prod([int(size) for size in found.split(",")]) for found in re.findall(r"\[([\d,]+)\]", text)]
    assert 2050**2 / 8 <= max(sizes) < 2100**2 / 4


@pytest.mark.endurance
def test_an_update_of_a_large_support_is_that_of_one_device(noise):
    together, method, key, state, batch = large_support(noise)
    (params, *_), metrics = together(key, state, batch)
    (expected, *_), of_one = jax.jit(method.update)(key, state, batch)
    assert float(metrics["loss"]) == pytest.approx(float(of_one["loss"]), rel=1e-4)
    for name, leaf in expected.items():
        assert np.mean(np.abs(params[name] - leaf) > 0.01 * np.abs(leaf - state.params[name]).max()) < 0.02, name


def test_devices_share_the_targets_of_a_label_solve(noise):
    method = bound(kip(ipc=12, target_batch=2400, labels="solve"), noise, Execution(block=100))
    key, batch = jax.random.key(0), Batch.of(*noise.examples)
    state = jax.jit(method.init)(key, noise)
    split = NamedSharding(mesh := make_mesh(jax.devices()[:4]), PartitionSpec(AXIS))
    update = jax.jit(share_networks(method.update, mesh), in_shardings=(replicated(mesh), replicated(mesh), split))
    compiled = update.lower(key, state, batch).compile()
    assert not re.search(r"\[(2400|600),6[05]\]", compiled.as_text()), "all targets of a device beside the support"
    found, metrics = compiled(key, state, jax.device_put(batch, split))
    whole = bound(kip(ipc=12, target_batch=2400, labels="solve"), noise)
    expected, of_whole = jax.jit(whole.update)(key, state, batch)
    by_hand.assert_near(found.params["labels"], expected.params["labels"], 1e-3)
    assert float(metrics["loss"]) == pytest.approx(float(of_whole["loss"]), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ipc": 0}, "ipc of KIP must be at least 1"),
        ({"labels": "soft"}, "must be one of fixed, learned, solve"),
        ({"corruption": 1.0}, "under 1"),
        ({"kernel": "rbf"}, "nngp"),
        ({"stem": True}, "stem of KIP must be False for a fully-connected kernel"),
        ({"lerning_rate": 0.1}, "did you mean 'learning_rate'"),
        ({"learning_rate": 0.0}, "positive"),
        ({"ipc": "a"}, "ipc of KIP must be int, or a tuple of one for each class, got 'a'"),
        ({"ipc": 1.5}, "ipc of KIP must be int"),
        ({"float64": 1}, "float64 of KIP must be bool"),
        ({"ridge": "small"}, "ridge of KIP must be float"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(JaxddError, match=message):
        build("kip", **options)


def test_labels_of_classes_with_many_images_learn_faster():
    own, alike, one = (label_rates(KIP(ipc=ipc, label_learning_rate=0.01)) for ipc in ((4, 1, 1), (4, 4), 4))
    np.testing.assert_allclose(own, [[0.02]] * 4 + [[0.01]] * 2, rtol=1e-6)
    assert alike == one == 0.02 and own.dtype == np.float32


def test_more_images_than_a_class_has(digits):
    with pytest.raises(JaxddError, match="has only 120 examples"):
        jax.eval_shape(bound(kip(ipc=1000), digits).init, jax.random.key(0), digits)


def test_a_config_object_and_fields_are_the_same_and_unknown_methods_are_named():
    assert kip(KIP(ipc=2)) == kip(ipc=2) != kip(ipc=3) and len({kip(KIP(ipc=2)), kip(ipc=2)}) == 1
    assert "ipc" in inspect.signature(kip).parameters
    with pytest.raises(TypeError, match="not both"):
        kip(KIP(), ipc=2)
    with pytest.raises(JaxddError, match="did you mean 'kip'"):
        build("kipp")
    with pytest.raises(JaxddError, match="cannot import"):
        build("no_such_module:method")
