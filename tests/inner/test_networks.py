"""Many networks over batch sizes, devices and named axes: the numbers never change, the work of a device does."""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxdd import engine, inner
from jaxdd.data import uniform_sampler
from jaxdd.engine.chunk import compile_program
from jaxdd.engine.placement import make_mesh, replicated
from jaxdd.inner import map_blocks
from jaxdd.inner.networks import map_networks, share_networks
from jaxdd.types import Distilled, Labels, Method, RealData

WIDTH = 32
NETWORKS = 8


class State(NamedTuple):
    params: dict


def trained_networks(batch_size, networks=NETWORKS) -> Method:
    """Learns images on which `networks` fresh networks, trained for three steps, fit the real batch."""

    def init(key, data):
        return State({"images": data.images[:4], "targets": jax.nn.one_hot(data.labels.values[:4], 3)})

    def apply(theta, images):
        return jnp.tanh(images.reshape(len(images), -1) @ theta["w1"]) @ theta["w2"]

    def error(theta, images, targets):
        return jnp.mean((apply(theta, images) - targets) ** 2)

    def update(key, state, batch):
        size = state.params["images"][0].size

        def one(key):
            first, second, _ = jax.random.split(key, 3)
            theta = {
                "w1": jax.random.normal(first, (size, WIDTH)) / size**0.5,
                "w2": jax.random.normal(second, (WIDTH, 3)) / WIDTH**0.5,
            }

            def objective(params):
                def feed(step):
                    return (params["images"], params["targets"]), jnp.float32(0.1)

                trained = inner.unroll(lambda theta, batch: error(theta, *batch), inner.sgd(), theta, feed, 3).theta
                return error(trained, batch.images, jax.nn.one_hot(batch.labels, 3))

            return jax.value_and_grad(objective)(state.params)

        keys = jax.random.split(key, networks)
        loss, grads = map_networks(one, keys, batch_size=batch_size)
        return State(jax.tree.map(lambda p, g: p - g, state.params, grads)), {"loss": loss}

    def distilled(state):
        return Distilled(state.params["images"], jnp.zeros(4, jnp.int32), params=state.params)

    return Method(init, uniform_sampler(16), update, distilled)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = rng.normal(size=(60, 4, 4, 1)).astype(np.float32) + labels[:, None, None, None]
    return RealData.of(jnp.array(images), Labels.index(labels))


def run(method, data, devices):
    return engine.run(method, data, steps=5, devices=jax.devices()[:devices], progress=False)


@pytest.fixture(scope="module")
def alone(data):
    return run(trained_networks(None), data, 1)


@pytest.mark.parametrize(
    ("devices", "batch_size"),
    [(1, 3), (4, 1), (4, None), *(pytest.param(*case, marks=pytest.mark.endurance) for case in ((1, 1), (2, 3)))],
)
def test_a_run_is_the_same_on_any_devices_and_in_any_batches(data, alone, devices, batch_size):
    shared = run(trained_networks(batch_size), data, devices)
    assert shared.devices == devices
    assert np.abs(np.asarray(alone.state.params["images"]) - np.asarray(data.images)[:4]).max() > 1e-3  # it does learn
    assert_close(shared.state, alone.state)
    assert shared.history[-1]["loss"] == pytest.approx(alone.history[-1]["loss"], rel=1e-6)


def assert_close(a, b):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        left, right = np.asarray(left), np.asarray(right)
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-6 * np.abs(right).max())


def compiled(method, data, devices):
    return compile_program(method, data, seed=0, devices=jax.devices()[:devices]).chunk


def flops(chunk):
    return chunk.cost_analysis()["flops"]


def trips(chunk):
    """How often the loops of the program turn, of those that say so."""
    return [int(count) for count in re.findall(r"known_trip_count\W+n\W+(\d+)", chunk.as_text())]


@pytest.mark.endurance
def test_work_of_each_device_falls_with_their_number(data):
    batched = trained_networks(None, 4)
    assert flops(compiled(batched, data, 1)) > 3.5 * flops(compiled(batched, data, 4))
    one_by_one = trained_networks(1, 44)
    alone, shared = (trips(compiled(one_by_one, data, devices)) for devices in (1, 4))
    assert 44 in alone and 11 not in alone
    assert 11 in shared and 44 not in shared


def value_and_gradient(x, labels, keys, **options):
    """The mean over `keys` of a random function of x, and of its gradient, with something closed over."""

    def one(key):
        def loss(x):
            return jnp.sum((x * jax.random.normal(key, x.shape) - jax.nn.one_hot(labels, 3)) ** 2)

        return jax.value_and_grad(loss)(x)

    return map_networks(one, keys, **options)


@pytest.fixture(scope="module")
def arguments():
    return np.arange(12, dtype=np.float32).reshape(4, 3), np.arange(4) % 3, jax.random.split(jax.random.key(0), 8)


@pytest.fixture(scope="module")
def expected(arguments):
    x, labels, keys = arguments
    one = jax.jit(value_and_gradient)
    each = [jax.device_get(one(x, labels, key[None])) for key in keys]
    return jax.tree.map(lambda *leaves: sum(leaves) / np.float32(len(leaves)), *each)


def test_gradients_over_devices_are_means_and_not_sums(arguments, expected):
    """With arguments that lie split over the devices, inside and outside of somebody's jit of `value_and_gradient`."""
    mesh = make_mesh(jax.devices()[:4])
    x, labels, keys = jax.device_put(arguments, replicated(mesh))
    labels = jax.device_put(labels, NamedSharding(mesh, PartitionSpec(mesh.axis_names)))
    inner_jit = jax.jit(value_and_gradient)
    assert_close(inner_jit(*arguments), expected)
    assert_close(jax.jit(share_networks(inner_jit, mesh))(x, labels, keys), expected)
    assert_close(inner_jit(*arguments), expected)  # what was traced for the mesh is not used without it
    outside = jax.grad(lambda *arguments: value_and_gradient(*arguments)[0])
    assert_close(jax.jit(share_networks(outside, mesh))(x, labels, keys), expected[1])


def test_networks_that_do_not_divide_over_the_devices_are_shared_too():
    """Ten on four devices are three on each; the two of them that fill up count in no mean and in no gradient."""
    xs, mesh = jnp.arange(1.0, 31).reshape(10, 3) / 30, make_mesh(jax.devices()[:4])

    def loss(xs):
        each = inner.each_network(jnp.tanh, xs, batch_size=1)
        return jnp.sum(each**2), (each, map_networks(jnp.cos, xs, batch_size=1))

    def plainly(xs):
        return jnp.sum(jnp.tanh(xs) ** 2), (jnp.tanh(xs), jnp.cos(xs).mean(0))

    together = jax.jit(share_networks(jax.value_and_grad(loss, has_aux=True), mesh)).lower(xs).compile()
    assert_close(together(xs), jax.jit(jax.value_and_grad(plainly, has_aux=True))(xs))
    assert trips(together) and set(trips(together)) == {3}


def test_a_single_network_leaves_the_devices_to_its_examples():
    x, mesh = jnp.arange(24.0).reshape(8, 3) / 24, make_mesh(jax.devices()[:4])

    def nested(x):
        return map_networks(lambda scale: map_blocks(lambda rows: jnp.tanh(scale * rows), x, 1), jnp.ones(1))

    together = jax.jit(share_networks(nested, mesh)).lower(x).compile()
    assert_close(together(x), jnp.tanh(x))
    assert set(trips(together)) == {2}


@pytest.mark.parametrize(("count", "share"), [(44, 11), (46, 46)])
def test_blocks_of_examples_are_shared_if_they_divide(count, share):
    """With gradients to what their function closes over, to the examples, and of several networks."""
    thetas, x = jnp.arange(6.0).reshape(2, 3) / 6, jnp.arange(3.0 * count).reshape(count, 3) / count

    def loss(thetas, x):
        def of_network(theta):
            return map_blocks(lambda rows: jnp.tanh(rows @ theta), x, 1)

        return jnp.mean(jax.vmap(of_network)(thetas) ** 2)

    alone, mesh = jax.value_and_grad(loss, (0, 1)), make_mesh(jax.devices()[:4])
    together = jax.jit(share_networks(alone, mesh)).lower(thetas, x).compile()
    assert_close(together(thetas, x), jax.jit(alone)(thetas, x))
    assert trips(together) and set(trips(together)) == {share}


def test_networks_within_networks_stay_on_their_device(arguments):
    (x, labels, _), mesh = arguments, make_mesh(jax.devices()[:4])
    keys = jax.random.split(jax.random.key(1), 16)

    def nested(x, labels, keys):
        return map_networks(lambda keys: value_and_gradient(x, labels, keys), keys.reshape(4, 4))

    assert_close(jax.jit(share_networks(nested, mesh))(x, labels, keys), jax.jit(value_and_gradient)(x, labels, keys))


def test_a_single_network_computes_only_the_branch_it_takes():
    """Under `vmap` both would be: a pool that renews its one network would train it, too, for nothing."""

    def function(x):
        return jax.lax.cond(x > 0, jnp.sin, jnp.cos, x)

    traced = jax.make_jaxpr(lambda xs: inner.each_network(function, xs))(jnp.ones(1))
    assert "cond[" in str(traced)
    assert "select_n" not in str(traced)


@pytest.mark.parametrize("mapped", [jax.vmap, jax.pmap])
def test_named_axis_is_averaged_too(arguments, expected, mapped):
    x, labels, keys = arguments

    def some(keys):
        return value_and_gradient(x, labels, keys, batch_size=1, axis_name="devices")

    found = mapped(some, axis_name="devices")(keys.reshape(4, 2))
    found = jax.device_get(found)
    for replica in range(4):
        assert_close(jax.tree.map(lambda leaf, replica=replica: leaf[replica], found), expected)
