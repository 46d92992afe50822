"""Methods on any number of devices, of an engine's run or of somebody's own `jax.pmap`: the numbers stay the same."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxdd import data, engine, methods
from jaxdd.cli import config as configs
from jaxdd.engine import stages
from jaxdd.engine.placement import make_mesh, replicated, split_along
from jaxdd.inner.networks import share_networks
from jaxdd.types import EXAMPLES, Batch, Labels, RealData, Spec, bound, parts_of

CLASSES = 5  # divides over no number of devices
MLP, CONVNET = "mlp(width=8, depth=1)", "convnet(width=4, depth=1)"
TINY = {
    "kip": {"ipc": 2, "target_batch": 40, "ridge": 1e-3},
    "bptt": {"ipc": 1, "model": MLP, "steps": 2, "target_batch": 40, "block": 8},
    "rat_bptt": {"ipc": 1, "model": MLP, "networks": 3, "steps": 4, "window": 2, "target_batch": 40, "block": 8,
                 "augmentation": "none"},  # it would be drawn for each real image
    "at_bptt": {"ipc": 1, "model": MLP, "networks": 3, "steps": 4, "window": 3, "spread": 1, "every": 2,
                "target_batch": 40, "block": 8, "augmentation": "none"},
    "frepo": {"ipc": 2, "model": MLP, "pool": 3, "max_age": 3, "target_batch": 40, "block": 4, "ridge": 1e-3},
    "rcig": {"ipc": 1, "model": MLP, "pool": 2, "pool_steps": 2, "target_batch": 40, "block": 4,
             # More of conjugate gradients only follow the rounding of the first, to 1e-2 of the gradient.
             "inner_steps": 5, "hessian_steps": 5},
    "dm": {"model": MLP, "target_per_class": 8, "block": 4, "augmentation": "crop"},
    "dc": {"model": MLP, "target_per_class": 8, "block": 4, "matching_steps": 2, "epochs": 2},
    "cafe": {"model": MLP, "target_per_class": 8, "block": 4, "query": 4, "max_epochs": 3},
    "ncfm": {"model": CONVNET, "ipc": 1, "target_per_class": 8, "networks": 2, "frequencies": 8,
             "augmentation": "none"},  # it would be drawn for each real image
    "mtt": {"model": MLP, "ipc": 2, "steps": 2, "span": 1, "max_start": 1, "experts": 4, "expert_epochs": 1,
            "augmentation": "none"},  # it would be drawn for each expert
}  # fmt: skip
STEPS = 3
COUNT = 32 * CLASSES


def _real():
    rng = np.random.default_rng(0)
    labels = np.arange(COUNT) % CLASSES
    images = rng.normal(size=(CLASSES, 8, 8, 1))[labels] + rng.normal(size=(COUNT, 8, 8, 1))
    return RealData.of(jax.device_put(np.float32(images)), Labels.index(labels, CLASSES))


REAL = _real()


def of_four(name):
    """A method that sees in an update what four devices see: of those that match classes, as many of each."""
    sizes = {field: 4 * TINY[name][field] for field in ("target_per_class", "query") if field in TINY[name]}
    sizes |= {"experts_per_update": 4} if name == "mtt" else {}
    return bound(toys.build(name, **{**TINY[name], **sizes}), spec_of(name))


def spec_of(name):
    """With the tables of its stages."""
    return Spec.of(engine.foretold(toys.build(name, **TINY[name]), REAL))


@pytest.fixture(scope="module")
def start():
    """`start(name)`: the first state of a method, and batches for a few updates."""

    @functools.cache
    def of_method(name):
        method, real = of_four(name), engine.foretold(toys.build(name, **TINY[name]), REAL)

        @jax.jit
        def begun(key, keys):
            return method.init(key, real), jax.vmap(lambda key: engine.draw(method, real, key))(keys)

        first, drawn = jax.device_get(begun(jax.random.key(0), jax.random.split(jax.random.key(2), STEPS)))
        return first, [jax.tree.map(lambda leaf, step=step: leaf[step], drawn) for step in range(STEPS)]

    return of_method


@pytest.fixture(scope="module")
def alone(start):
    """`alone(name)`: each state and the metrics of its update, on one device."""

    @functools.cache
    def of_method(name):
        return updated(jax.jit(of_four(name).update), *start(name))

    return of_method


def updated(update, state, batches):
    done = []
    for step, batch in enumerate(batches):
        state, metrics = update(jax.random.key(step), state, batch)
        done.append((state, metrics))
    return done


def assert_learned_the_same(found, expected, first):
    """Up to rounding, in units of what was learned, in nearly all of it.

    Sums over devices are rounded in another order, which changes some 1e-7 of them. Where a gradient is that close to
    zero, Adam, which divides it by its own size, makes a step of it in either direction; and a ReLU may switch.
    """
    off = []
    for after, other, before in zip(*map(jax.tree.leaves, (found, expected, first)), strict=True):
        after, other, before = map(np.asarray, (after, other, before))
        if np.issubdtype(after.dtype, np.floating):
            off.append((np.abs(after - other) > 1e-3 * max(1e-6, np.abs(other - before).max())).ravel())
        else:  # counts, rows, flags
            off.append((after != other).ravel())
    assert np.concatenate(off).mean() < 0.02


LONGER = ("rat_bptt", "at_bptt", "rcig", "frepo", "ncfm", "mtt")
SHARED = ("kip", "bptt", "rat_bptt", "dm", "dc")


@pytest.mark.parametrize(
    ("name", "count"),
    [(name, 4) for name in ("kip", "dc")]  # of FRePo: by its pool, below
    + [pytest.param(name, count, marks=pytest.mark.endurance) for name in (*SHARED, "frepo") for count in (2, 8)]
    + [pytest.param(name, 4, marks=pytest.mark.endurance) for name in ("bptt", "rat_bptt", "at_bptt", "dm")],
)
def test_updates_are_the_same_on_any_number_of_devices(name, count, start, alone):
    """As the engine shares them. The optimiser's state too: Adam's steps alone would not tell a gradient's multiple."""
    state, batches = start(name)
    mesh = make_mesh(jax.devices()[:count])
    whole, split = replicated(mesh), split_along(mesh, len(batches[0].labels))
    assert split != whole
    update = share_networks(of_four(name).update, mesh)
    update = jax.jit(update, in_shardings=(whole, whole, split), out_shardings=whole)
    # A state that lies there from the first is of the type of those that follow: one program for all updates.
    (found, _), (expected, _) = updated(update, jax.device_put(state, whole), batches)[-1], alone(name)[-1]
    assert np.abs(np.asarray(expected.params["images"]) - state.params["images"]).max() > 1e-4
    assert_learned_the_same(found, expected, state)


@pytest.mark.endurance  # what four devices save goes on on two, and on one, in tests of the engine, too
@pytest.mark.parametrize("counts", [(4, 1), (8, 4, 2, 1)])
def test_a_pool_saved_on_several_devices_goes_on_on_fewer(counts, tmp_path):
    method = bound(toys.build("frepo", **TINY["frepo"]), REAL)
    for done, count in enumerate(counts):
        options = {"workdir": tmp_path, "resume": True, "devices": jax.devices()[:count]}
        resumed = toys.run(method, REAL, steps=done + 2, **options)
        assert resumed.resumed_from == (done and done + 1)
    first = jax.jit(method.init)(jax.random.split(jax.random.key(0), 3)[0], REAL)
    expected = toys.run(method, REAL, steps=len(counts) + 1).state
    assert_learned_the_same(resumed.state, expected, first)


def dealt(batch, name, devices):
    """A batch of the whole as the batches of some devices: a part of each class for methods that match classes."""
    per_class = TINY[name].get("target_per_class")

    def parts(draw, leaf):
        if draw == "ncfm_networks":  # the same for all
            return np.stack([leaf] * devices)
        if draw == EXAMPLES and per_class is not None:
            leaf = leaf.reshape(CLASSES, devices, per_class, *leaf.shape[1:]).swapaxes(0, 1)
            return leaf.reshape(devices, -1, *leaf.shape[3:])
        return leaf.reshape(devices, -1, *leaf.shape[1:])

    tables, rows = (
        {draw: jax.tree.map(functools.partial(parts, draw), of[draw]) for draw in of}
        for of in (batch.tables, batch.rows)
    )
    return Batch(tables, rows, jax.tree.map(lambda leaf: np.stack([leaf] * devices), batch.assets))


@pytest.mark.parametrize(
    ("name", "mapped"),
    [("kip", jax.pmap), ("dc", jax.vmap)]
    + [pytest.param("cafe", jax.pmap, marks=pytest.mark.endurance)]
    + [pytest.param(name, jax.pmap, marks=pytest.mark.endurance) for name in LONGER],
)
def test_a_batch_split_over_a_named_axis_gives_the_update_of_the_whole(name, mapped, start, alone):
    """And every device goes on with the same state."""
    state, (batch, *_) = start(name)
    expected, expected_metrics = alone(name)[0]
    update = functools.partial(bound(toys.build(name, **TINY[name]), spec_of(name)).update, axis_name="i")
    update = mapped(update, axis_name="i", in_axes=(None, None, 0))
    update = jax.jit(update) if mapped is jax.vmap else update
    states, metrics = jax.device_get(update(jax.random.key(0), state, dealt(batch, name, 4)))
    for leaf in jax.tree.leaves((states, metrics)):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
    found, found_metrics = jax.tree.map(lambda leaf: leaf[0], (states, metrics))
    assert_learned_the_same(found, expected, state)
    np.testing.assert_allclose(found_metrics["loss"], expected_metrics["loss"], rtol=1e-4)


@pytest.fixture(scope="module")
def digits_of_ten():
    mnist = data.load("mnist_5k")
    return data.real_data(mnist.train, data.fit_transform("standardize", mnist.train.pixels()), mnist.num_classes)


def learned_by(product):
    """What a product stores; that of a part may be an array."""
    return getattr(product, "params", product)


# One body, whose own parts are those of the others of the family.
ALIKE = {"att", "datm", "ftd", "tesla"}


@pytest.mark.endurance
@pytest.mark.parametrize("name", sorted(set(methods.available()) - ALIKE))
def test_every_example_is_the_same_on_four_devices_and_under_pmap(name, digits_of_ten):
    """With its stages. Under `jax.pmap` all see one batch here, and find what one does, but for what is drawn for each
    real example: theirs are twice as many."""
    recipe = methods.build(**configs.read(name, "smoke")["method"])
    real, _ = stages.provided(recipe, digits_of_ten, {}, stages.How(0, "default", None, progress=False))
    method = bound(recipe, real)
    first = jax.jit(lambda key, real: engine.first_state(method, real, key))(
        jax.random.split(jax.random.key(0), 3)[0], real
    )
    one, four = (toys.run(recipe, digits_of_ten, steps=1, devices=jax.devices()[:count]) for count in (1, 4))
    if parts_of(recipe, Spec.of(real)).join is None:
        assert_learned_the_same(four.state, one.state, first)
    else:  # states are those of the last parts, of which four devices have others
        np.testing.assert_allclose(four.product.images, one.product.images, rtol=1e-3, atol=1e-3)

    key, batch = jax.random.key(1), jax.jit(lambda key: engine.draw(method, real, key))(jax.random.key(2))
    expected, _ = jax.jit(method.update)(key, first, batch)
    update = functools.partial(method.update, axis_name="i")
    mapped = jax.pmap(update, axis_name="i", in_axes=(0, None, None), devices=jax.devices()[:2])
    states, metrics = mapped(jnp.stack([key, key]), first, batch)
    for leaf in jax.tree.leaves((states, metrics)):
        np.testing.assert_array_equal(leaf[0], leaf[1])
    learned, alone, before = (
        jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(learned_by(method.product(state)))])
        for state in (jax.tree.map(lambda leaf: leaf[0], states), expected, first)
    )
    assert jnp.linalg.norm(learned - alone) < 0.05 * jnp.linalg.norm(alone - before)
