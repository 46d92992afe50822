"""Methods on any number of devices, of an engine's run or of somebody's own `jax.pmap`: the numbers stay the same."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdd
from jaxdd import methods
from jaxdd.types import Batch, Labels, RealData

CLASSES = 5  # divides over no number of devices
MLP, CONVNET = "mlp(width=8, depth=1)", "convnet(width=4, depth=1)"
TINY = {
    "kip": {"ipc": 2, "target_batch": 40, "ridge": 1e-3},
    "rat_bptt": {"ipc": 1, "model": MLP, "networks": 3, "steps": 4, "window": 2, "target_batch": 40, "target_block": 8},
    "frepo": {"ipc": 2, "model": MLP, "pool": 3, "max_age": 3, "target_batch": 40, "target_block": 4, "ridge": 1e-3},
    "rcig": {"ipc": 1, "model": MLP, "pool": 2, "pool_steps": 2, "target_batch": 40, "target_block": 4,
             # More of conjugate gradients only follow the rounding of the first, to 1e-2 of the gradient.
             "inner_steps": 5, "hessian_steps": 5},
    "dm": {"model": CONVNET, "target_per_class": 8, "target_block": 4},
    "dc": {"model": MLP, "target_per_class": 8, "target_block": 4, "matching_steps": 2, "epochs": 2},
    "cafe": {"model": MLP, "target_per_class": 8, "target_block": 4, "query": 8, "max_epochs": 3},
}  # fmt: skip


@pytest.fixture(scope="module")
def real():
    rng = np.random.default_rng(0)
    labels = np.arange(160) % CLASSES
    images = rng.normal(size=(CLASSES, 8, 8, 1))[labels] + rng.normal(size=(160, 8, 8, 1))
    return RealData(jnp.asarray(images, jnp.float32), Labels.index(labels, CLASSES))


def run(name, real, devices, steps=3, **options):
    method = methods.build(name, **TINY[name])
    return jaxdd.run(method, real, steps=steps, devices=jax.devices()[:devices], progress=False, **options)


def assert_learned_the_same(found, expected, first):
    """Up to rounding, in units of what was learned, in nearly all of it.

    Sums over devices are rounded in another order, which changes some 1e-7 of them. Where a gradient is that close to
    zero, Adam, which divides it by its own size, makes a step of it in either direction; and a ReLU may switch.
    """
    off = []
    for after, other, before in zip(*map(jax.tree.leaves, (found, expected, first)), strict=True):
        after, other, before = map(np.asarray, (after, other, before))
        scale = max(1e-6, np.abs(other - before).max()) if np.issubdtype(after.dtype, np.floating) else 0
        off.append((np.abs(after - other) > 1e-3 * scale).ravel())
    assert np.concatenate(off).mean() < 0.02


@pytest.mark.parametrize("name", ["kip", "rat_bptt", "frepo", "dm", "dc"])
def test_a_run_is_the_same_on_any_number_of_devices(name, real):
    """The optimiser's state too: Adam's steps alone would not tell a gradient from its multiple."""
    first = jax.jit(methods.build(name, **TINY[name]).init)(jax.random.split(jax.random.key(0), 3)[0], real)
    alone = run(name, real, 1).state
    assert np.abs(alone.params["images"] - first.params["images"]).max() > 1e-4
    for count in (2, 4, 8):
        assert_learned_the_same(run(name, real, count).state, alone, first)


def test_a_pool_saved_on_four_devices_goes_on_on_two_and_then_on_one(real, tmp_path):
    run("frepo", real, 4, steps=2, workdir=tmp_path)
    for count in (2, 1):
        resumed = run("frepo", real, count, steps=5 - count, workdir=tmp_path, resume=True)
        assert resumed.resumed_from == 4 - count
    alone, first = run("frepo", real, 1, steps=4).state, run("frepo", real, 1, steps=1).state
    assert_learned_the_same(resumed.state.params, alone.params, first.params)
    assert_learned_the_same(resumed.state.pool, alone.pool, first.pool)


def dealt(batch, name, devices):
    """A batch of the whole as the batches of some devices: a part of each class for methods that match classes."""
    per_class = TINY[name].get("target_per_class")
    if per_class is None:
        return jax.tree.map(lambda leaf: leaf.reshape(devices, -1, *leaf.shape[1:]), batch)

    def parts(leaf):
        matched, rest = jnp.split(leaf, [CLASSES * per_class * devices])
        matched = matched.reshape(CLASSES, devices, per_class, *leaf.shape[1:]).swapaxes(0, 1)
        return jnp.concatenate([each.reshape(devices, -1, *leaf.shape[1:]) for each in (matched, rest)], axis=1)

    return jax.tree.map(parts, batch)


@pytest.mark.parametrize(
    ("name", "mapped"), [(name, jax.pmap) for name in ("kip", "rat_bptt", "frepo", "rcig", "cafe")] + [("dc", jax.vmap)]
)
def test_a_batch_split_over_a_named_axis_gives_the_update_of_the_whole(name, mapped, real):
    """And every device goes on with the same state."""
    sizes = {field: 4 * TINY[name][field] for field in ("target_per_class", "query") if field in TINY[name]}
    method, whole = methods.build(name, **TINY[name]), methods.build(name, **{**TINY[name], **sizes})
    key, state = jax.random.key(1), jax.jit(method.init)(jax.random.key(0), real)
    rows = whole.sample(jax.random.key(2), real.labels)
    batch = Batch(real.images[rows], real.labels.values[rows])
    expected, expected_metrics = jax.jit(whole.update)(key, state, batch)
    update = functools.partial(method.update, axis_name="i")
    states, metrics = mapped(update, axis_name="i", in_axes=(None, None, 0))(key, state, dealt(batch, name, 4))
    for leaf in jax.tree.leaves((states, metrics)):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
    found, found_metrics = jax.tree.map(lambda leaf: leaf[0], (states, metrics))
    assert_learned_the_same(found, expected, state)
    np.testing.assert_allclose(found_metrics["loss"], expected_metrics["loss"], rtol=1e-4)
