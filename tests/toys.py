"""A small method of the tests' own, and how they run it."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

import jaxdd
from jaxdd.data import balanced_sampler
from jaxdd.types import Distilled, Method


class MeanState(NamedTuple):
    params: dict
    key: jax.Array  # a typed key in the state must survive a checkpoint


def class_means(rate: float = 0.1, explode_at: float = np.inf, sampler=None) -> Method:
    """Follows the class means of noisy batches, and counts in `size` so that a test can make it explode."""

    def init(key, data):
        images = jnp.zeros((data.labels.num_classes, *data.images.shape[1:]))
        return MeanState({"images": images, "size": jnp.zeros(())}, key)

    def update(key, state, batch):
        member = jax.nn.one_hot(batch.labels, len(state.params["images"]))
        means = jnp.einsum("bc,bhwk->chwk", member, batch.images) / jnp.maximum(member.sum(0), 1)[:, None, None, None]
        noise = jax.random.normal(key, means.shape)
        images = state.params["images"] + rate * (means + noise - state.params["images"])
        size = state.params["size"] + 1
        images = jnp.where(size >= explode_at, jnp.inf, images)
        state = MeanState({"images": images, "size": size}, jax.random.fold_in(state.key, 1))
        return state, {"loss": jnp.mean((images - means) ** 2)}

    def distilled(state):
        return Distilled(state.params["images"], jnp.arange(len(state.params["images"])))

    return Method(init, sampler or balanced_sampler(16), update, distilled)


def run(method, data, **options):
    return jaxdd.run(
        method, data, **{"steps": 25, "progress": False, "log_every": 5, "devices": jax.devices()[:1], **options}
    )


def assert_same(a, b):
    chex.assert_trees_all_equal(jax.tree.map(as_data, a), jax.tree.map(as_data, b))


def as_data(leaf):
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
