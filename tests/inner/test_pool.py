"""A pool of networks: who is trained, who is renewed, and nothing depends on placement."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdd import inner, models
from jaxdd.engine.placement import make_mesh
from jaxdd.errors import JaxddError
from jaxdd.inner.networks import share_networks


class Normed(nn.Module):
    @nn.compact
    def __call__(self, images, train: bool = False):
        hidden = nn.Dense(5, use_bias=False)(images.reshape(len(images), -1))
        return nn.Dense(3)(nn.BatchNorm(use_running_average=not train, momentum=0.5)(hidden))


NETWORK = models.from_linen(Normed(), (2, 2, 1))
IMAGES = np.random.default_rng(7).normal(size=(6, 2, 2, 1)).astype(np.float32)
TARGETS = np.eye(3, dtype=np.float32)[np.arange(6) % 3]


def loss(theta, stats, shown, step, key):
    """On other images at each step, with noise of its key."""
    del shown
    noise = 0.1 * jax.random.normal(key, IMAGES.shape)
    outputs, stats = NETWORK.apply(theta, IMAGES + step + noise, stats, train=True)
    return jnp.mean((outputs - TARGETS) ** 2), stats


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def slot(slots, i):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[i], slots)


def make(size=4, max_age=10, **options):
    """`steps` is what is shown."""
    options = {"steps": lambda shown: shown, **options}
    pool = inner.pool(NETWORK, optax.adam(0.1), loss, size=size, max_age=max_age, **options)
    return pool, jax.jit(pool.init)(jax.random.key(0))


def test_first_ages_are_spread_and_networks_differ():
    _, slots = make(size=4, max_age=10)
    np.testing.assert_array_equal(slots.age, [0, 2, 5, 7])
    assert not same(slot(slots.theta, 0), slot(slots.theta, 1))


def test_only_the_chosen_advance_by_steps_of_their_own_optimiser():
    pool, slots = make()

    @jax.jit
    def advance(slots, steps):
        key = jax.random.key(1)
        theta, stats = pool.start(slots, jnp.int32(2))
        alone = theta, stats, optax.adam(0.1).init(theta), jax.random.split(key, 1)[0]
        return pool.advance(slots, jnp.array([2]), key, steps), alone

    after, (theta, stats, opt_state, key) = advance(slots, 3)
    for i in (0, 1, 3):
        assert same(slot(after, i), slot(slots, i))
    optimizer = optax.adam(0.1)

    @jax.jit
    def step(theta, stats, opt_state, t):
        grads, stats = jax.grad(loss, has_aux=True)(theta, stats, None, t, jax.random.fold_in(key, t))
        updates, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(theta, updates), stats, opt_state

    for t in range(3):
        theta, stats, opt_state = step(theta, stats, opt_state, t)
    got = slot(after, 2)
    for a, b in zip(jax.tree.leaves(got[:3]), jax.tree.leaves((theta, stats, opt_state)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert got.age == np.asarray(slots.age)[2] + 3


def test_the_old_are_renewed_and_not_trained():
    pool, slots = make(max_age=3)
    chosen = np.array([1, 3])
    slots = slots._replace(age=np.array([3, 3, 0, 2], np.int32))

    @jax.jit
    def advance(slots):
        key = jax.random.key(1)
        new, _ = NETWORK.init(jax.random.split(key, 2)[0])
        return pool.advance(slots, chosen, key, 1), new, optax.adam(0.1).init(new)

    after, *new = advance(slots)
    np.testing.assert_array_equal(after.age, [3, 0, 0, 3])
    assert same([slot(after.theta, 1), slot(after.opt_state, 1)], new)


def test_choices_are_distinct_and_reach_every_slot():
    pool, _ = make()

    @jax.jit
    @jax.vmap
    def choose(seed):
        return pool.choose(jax.random.key(seed), 2), pool.choose(jax.random.key(seed), 1)

    drawn, single = map(np.asarray, choose(np.arange(60)))
    assert (drawn[:, 0] != drawn[:, 1]).all()
    assert set(drawn.ravel()) == {0, 1, 2, 3} == set(single.ravel())


@pytest.mark.parametrize("devices", [pytest.param(2, marks=pytest.mark.endurance), 4])
@pytest.mark.parametrize("batch_size", [1, None])
def test_placement_changes_nothing(devices, batch_size):
    pool, slots = make(size=6, max_age=4, batch_size=batch_size, steps=1)
    chosen, key = np.array([0, 5, 3, 2]), jax.random.key(1)

    def advance(slots):
        return pool.advance(slots, chosen, key, None)

    alone = jax.jit(advance)(slots)
    shared = jax.jit(share_networks(advance, make_mesh(jax.devices()[:devices])))(slots)
    for a, b in zip(jax.tree.leaves(shared), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_pool_that_cannot_be():
    with pytest.raises(JaxddError, match="at least 1 network"):
        inner.pool(NETWORK, optax.adam(0.1), loss, size=0, max_age=1)
    with pytest.raises(JaxddError, match="5 networks of a pool of 4"):
        make()[0].choose(jax.random.key(0), 5)


def test_interpolated_networks_lie_between_their_ends():
    ends = [inner.fixed(NETWORK), inner.fixed(NETWORK)]
    source = inner.interpolated(*ends)
    kept, draw = jax.jit(source.init)(jax.random.key(0)), jax.jit(source.one)
    places = []
    for i in range(3):
        between = draw(kept, jax.random.key(i))
        a, b, c = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(t[0])]) for t in (*kept, between))
        place = (c - a) @ (b - a) / ((b - a) @ (b - a))
        np.testing.assert_allclose(c, a + place * (b - a), atol=1e-5)
        places.append(float(place))
    assert len(set(places)) == 3
    assert all(0 <= p <= 1 for p in places)


def test_a_draw_between_two_fresh_networks_has_keys_for_both_and_for_the_place():
    source = inner.interpolated(inner.fresh(NETWORK), inner.fresh(NETWORK))

    @jax.jit
    def drawn(key):
        *ends, key_place = jax.random.split(key, 3)
        found, _ = source.one(source.init(key), key)
        return found, *(NETWORK.init(end)[0] for end in ends), jax.random.uniform(key_place)

    *networks, place = jax.device_get(drawn(jax.random.key(5)))
    for c, x, y in zip(*map(jax.tree.leaves, networks), strict=True):
        np.testing.assert_allclose(c, x + place * (y - x), rtol=1e-5, atol=1e-6)
