import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdd.errors import JaxddError
from jaxdd.synthetic import corrupted, moving_average, per_leaf, pixels, render
from jaxdd.types import Labels, RealData


@pytest.fixture(scope="module")
def data():
    labels = np.arange(30) % 3
    return RealData(jax.random.normal(jax.random.key(1), (30, 4, 5, 2)), Labels.index(labels))


def test_pixels_start_from_distinct_real_images_of_each_class(data, key):
    params = pixels(4).init(key, data)
    labels = np.argmax(params["labels"], axis=1)
    np.testing.assert_array_equal(labels, np.repeat(np.arange(3), 4))
    np.testing.assert_allclose(params["labels"].sum(1), 0, atol=1e-6)
    real = np.asarray(data.images).reshape(30, -1)
    found = [int(np.flatnonzero((real == row).all(1))[0]) for row in np.asarray(params["images"]).reshape(12, -1)]
    assert len(set(found)) == 12
    np.testing.assert_array_equal(np.asarray(data.labels.values)[found], labels)


def test_noise_is_independent_of_the_images(data, key):
    noise = pixels(4, init="noise").init(key, data)["images"]
    other = pixels(4, init="noise").init(key, data._replace(images=data.images * 7))["images"]
    np.testing.assert_array_equal(noise, other)


def test_bits_of_fixed_and_learned_labels(data, key):
    fixed, learned = pixels(2), pixels(2, learn_labels=True)
    params = fixed.init(key, data)
    assert fixed.num_bits(params) == {"images": 32 * 6 * 40, "labels": 2 * 6}
    assert learned.num_bits(params)["labels"] == 32 * 6 * 3
    distilled = render(learned, params)
    assert (distilled.num_bits, distilled.label_regime) == (32 * 6 * 43, "learned")


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.9])
def test_corrupted_pixels_carry_no_gradient_and_keep_their_bits(data, key, fraction):
    synthetic = corrupted(pixels(4), fraction)
    start = params = synthetic.init(key, data)
    mask = np.asarray(params["mask"]) > 0
    np.testing.assert_array_equal(mask.reshape(12, -1).sum(1), np.ceil(fraction * 40))
    optimizer = per_leaf({"images": optax.adam(0.1)})
    state, average = optimizer.init(params), params
    for step in range(5):
        grads = jax.grad(lambda p: jnp.sum(jnp.sin(synthetic.render(p).images)))(params)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        average = moving_average(average, params, 0.9, step)
    for result in (params, average):
        moved = np.asarray(result["images"]) != np.asarray(start["images"])
        np.testing.assert_array_equal(moved, ~mask)
    assert "mask" not in render(synthetic, params).params  # nobody needs it to use the set


def test_per_leaf_moves_only_the_named_leaves(data, key):
    params = pixels(1).init(key, data)
    optimizer = per_leaf({"labels": optax.sgd(1.0)})
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
    assert not np.any(updates["images"]) and np.all(updates["labels"] == -1)


def test_bad_arguments(data, key):
    with pytest.raises(JaxddError, match="only 10 examples"):
        pixels(11).init(key, data)
    with pytest.raises(JaxddError, match="at least 1"):
        pixels(0).init(key, data)
    with pytest.raises(JaxddError, match="real"):
        pixels(1, init="reel")
    with pytest.raises(JaxddError, match="fraction"):
        corrupted(pixels(1), 1.0)
