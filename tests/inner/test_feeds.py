"""What inner steps see, where windows lie, where networks come from."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import inner, losses, models
from jaxdd.data import augmentation
from jaxdd.engine.placement import make_mesh
from jaxdd.inner.networks import share_networks
from jaxdd.types import Network, NetworkState, leaves_by_path


def test_planned_rows_and_rates_are_those_of_the_step():
    images, labels = jnp.arange(12.0).reshape(6, 2), jnp.arange(6)
    plan = jnp.array([[0, 5], [3, 3], [2, 1]])
    feed = inner.planned((images, labels), plan, jnp.array([0.1, 0.2, 0.3]))
    (seen, chosen), rate = feed(1)
    np.testing.assert_array_equal(seen, images[jnp.array([3, 3])])
    np.testing.assert_array_equal(chosen, [3, 3])
    assert rate == jnp.float32(0.2)
    assert inner.planned(images, plan, 0.5)(2)[1] == 0.5


def test_augmented_images_are_changed_by_the_draw_of_the_step_and_labels_are_not():
    images, labels = jnp.arange(12.0).reshape(6, 2), jnp.arange(6)
    plan = jnp.array([[0, 5], [3, 3], [2, 1]])
    scaled = augmentation.Augmentation(lambda key, count: None, lambda images, draw: draw * images, "scaled")

    def seen(images, t):
        return inner.augmented(inner.planned((images, labels), plan, 0.5), scaled, lambda t: 10.0 * t)(t)

    (found, chosen), rate = seen(images, 2)
    np.testing.assert_array_equal(found, 20 * images[jnp.array([2, 1])])
    np.testing.assert_array_equal(chosen, [2, 1])
    assert rate == 0.5
    slope = jax.grad(lambda images: seen(images, 1)[0][0].sum())(images)
    np.testing.assert_array_equal(slope[:, 0], [0, 0, 0, 20, 0, 0])


def test_every_step_of_an_ordered_plan_has_images_of_its_own_in_every_class():
    plan = np.asarray(inner.ordered_plan(3, 4, 2, epochs=2))
    assert plan.shape == (4, 6)
    np.testing.assert_array_equal(plan[:2], plan[2:])
    np.testing.assert_array_equal(np.sort(plan[:2].ravel()), np.arange(12))
    np.testing.assert_array_equal(plan // 4, np.tile([0, 0, 1, 1, 2, 2], (4, 1)))
    with pytest.raises(ValueError, match="divide the set's 4"):
        inner.ordered_plan(3, 4, 3, epochs=1)


def test_classes_with_numbers_of_their_own_share_the_steps_of_an_ordered_plan():
    plan = np.asarray(inner.ordered_plan(2, (4, 2), (2, 1), epochs=2))
    np.testing.assert_array_equal(plan, [[0, 1, 4], [2, 3, 5]] * 2)
    with pytest.raises(ValueError, match="make more steps in one class than in another"):
        inner.ordered_plan(2, (4, 2), (1, 1), epochs=1)


@pytest.mark.parametrize("block", [None, 4, 12, 5, 100])
def test_means_over_blocks_and_their_gradients_are_means_over_all(block):
    x = jax.random.normal(jax.random.key(0), (12, 3))
    w = jnp.array([1.0, -2.0, 0.5])

    def mean(w, x):
        return jnp.mean(jnp.tanh(x @ w) ** 2), jnp.mean(x)

    def blocked(w, x):
        return inner.mean_over_blocks(mean, w, x, block)

    @jax.jit
    def both(w, x):
        return [(f(w, x), jax.value_and_grad(f, has_aux=True)(w, x)) for f in (mean, blocked)]

    for a, b in zip(*map(jax.tree.leaves, both(w, x)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_devices_share_the_blocks_of_a_mean():
    """With their parts of the gradient; of 32 examples in blocks of 16 each of 4 devices sees one block of its 8."""
    w, x, mesh = jnp.arange(3.0), jnp.sin(jnp.arange(96.0)).reshape(32, 3), make_mesh(jax.devices()[:4])

    def mean(w, x, block):
        def of_rows(w, rows):
            return jnp.mean(jnp.tanh(rows @ w)), rows.mean()

        return jax.value_and_grad(inner.mean_over_blocks, argnums=1, has_aux=True)(of_rows, w, x, block)

    alone = jax.jit(functools.partial(mean, block=None))(w, x)
    for block in (None, 16, 4):
        together = jax.jit(share_networks(functools.partial(mean, block=block), mesh))
        for a, b in zip(jax.tree.leaves(together(w, x)), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_sources_of_networks():
    network = models.build("mlp(width=4, depth=1)", (2, 2, 1), 3)
    one, two = jax.random.split(jax.random.key(0))

    def draws(source):
        kept, draw = jax.jit(source.init)(one), jax.jit(source.one)
        return [draw(kept, key)[0]["head"]["kernel"] for key in (one, two)]

    new = draws(inner.fresh(network))
    assert not np.array_equal(*new)
    np.testing.assert_array_equal(*draws(inner.fixed(network)))
    stacked = NetworkState(*jax.jit(jax.vmap(network.init))(jax.random.split(jax.random.key(7), 5)))
    source = inner.among(stacked)
    members = {bytes(np.asarray(k)) for k in stacked[0]["head"]["kernel"]}
    draw = jax.jit(jax.vmap(lambda key: source.one(source.init(one), key)[0]["head"]["kernel"]))
    drawn = draw(jax.random.split(one, 60))
    assert {bytes(np.asarray(k)) for k in drawn} == members


def test_leaves_by_path_name_every_leaf():
    network = models.build("mlp(width=4, depth=1)", (2, 2, 1), 3)
    theta, _ = jax.eval_shape(network.init, jax.random.key(0))
    assert sorted(leaves_by_path(theta)) == ["dense_0/bias", "dense_0/kernel", "head/bias", "head/kernel"]


@pytest.mark.parametrize("block", [None, 1, 3, 4, 7, 9])
def test_blocks_map_to_the_same_as_all_at_once(block):
    images, labels = jnp.arange(28.0).reshape(7, 4), jnp.arange(7)
    traced = []

    def function(rows):
        images, labels = rows
        traced.append(len(images))
        return {"sum": images.sum(1) + labels}

    got = jax.jit(lambda *rows: inner.map_blocks(function, rows, block))(images, labels)
    np.testing.assert_array_equal(got["sum"], images.sum(1) + labels)
    assert max(traced) <= (block or 7)


def test_regression_is_half_the_mean_squared_error_in_training_mode():
    network = models.build("wide_convnet(width=2, depth=2)", (8, 8, 1), 3)
    theta, stats = jax.jit(network.init)(jax.random.key(0))
    images, labels = jax.random.normal(jax.random.key(1), (5, 8, 8, 1)), jax.random.normal(jax.random.key(2), (5, 3))

    @jax.jit
    def both(theta, stats):
        ours = inner.regression(network)(theta, stats, (images, labels), jnp.int32(0), jax.random.key(3))
        return ours, network.apply(theta, images, stats, train=True)

    (loss, after), (outputs, expected) = both(theta, stats)
    np.testing.assert_allclose(loss, 0.5 * ((outputs - labels) ** 2).sum(1).mean(), rtol=1e-6)
    moved = jax.tree.map(
        lambda a, b, before: bool(jnp.allclose(a, b) and not jnp.allclose(a, before)), after, expected, stats
    )
    assert all(jax.tree.leaves(moved))


def test_losses_see_a_network_in_training_mode():
    def apply(theta, images, stats, *, train=False, key=None):
        return images.reshape(len(images), -1) @ theta * (2.0 if train else 1.0), {"seen": stats["seen"] + train}

    network = Network(lambda key: (jnp.eye(3), {"seen": jnp.zeros(())}), apply, apply)
    images, labels = jnp.arange(6.0).reshape(2, 1, 1, 3), jnp.eye(3)[1:]
    logits = 2 * images.reshape(2, 3)
    found = inner.classification(network, {"seen": jnp.zeros(())})(jnp.eye(3), (images, labels))
    np.testing.assert_allclose(found, losses.cross_entropy(logits, labels).mean())
    start, shown = {"seen": jnp.zeros(())}, (images, labels)
    found, stats = inner.regression(network)(jnp.eye(3), start, shown, 0, jax.random.key(0))
    np.testing.assert_allclose(found, 0.5 * jnp.sum((logits - labels) ** 2, axis=1).mean(), rtol=1e-6)
    assert stats["seen"] == 1
