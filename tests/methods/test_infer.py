"""INFER: updates by hand, and what is in the set."""

import jax.numpy as jnp
import numpy as np
import pytest
from recovering_by_hand import OTHER, TINY, assert_updates, plain_inversion, rolled, taught
from toys import run

from jaxdd import methods
from jaxdd.errors import JaxddError

OPTIONS = {**TINY, "ipc": 3, "others": (OTHER,)}


def firsts(digits, count):
    labels = np.asarray(digits.labels.values)
    return np.stack([np.asarray(digits.images)[np.flatnonzero(labels == k)[:count]] for k in range(4)])


def test_two_updates_by_hand(digits):
    recipe = methods.infer(**OPTIONS)
    teacher = taught(recipe, digits).assets["teacher"]
    real = jnp.asarray(firsts(digits, 1)[:, 0])

    def loss(compensator, state, key):
        return plain_inversion(teacher, rolled(real + compensator, key), jnp.arange(4))

    found = assert_updates(recipe, digits, loss, learned="compensator", project=lambda change: change)
    assert found[0].before.params["compensator"].shape[0] == 1 and not found[0].before.params["compensator"].any()


@pytest.mark.endurance
def test_the_set_is_real_images_and_their_compensated_ones(digits):
    done = run(methods.infer(**OPTIONS), digits, steps=2).distilled
    count = 2  # 3 / (1 + 2 / 4)
    assert done.images.shape[0] == 4 * count * 3 and done.content.decoder == "compensated"
    by_class = np.asarray(done.images).reshape(4, 3 * count, *done.images.shape[1:])
    np.testing.assert_array_equal(by_class[:, :count], firsts(digits, count))
    compensators = np.asarray(done.params["compensators"])
    assert len(compensators) == count * 2  # of each real image of a class, by each teacher
    lowest, highest = np.min(digits.images), np.max(digits.images)
    expected = np.clip(by_class[:, [0, 0, 1, 1]] + compensators[None], lowest, highest)
    np.testing.assert_allclose(by_class[:, count:], expected, atol=1e-6)
    pixels = done.images[0].size
    assert done.cost.images == 32 * pixels * (4 * count + count * 2) == 32 * pixels * 4 * 3
    assert done.cost.labels == 32 * 4 * len(done.images)


def test_there_must_be_room_for_a_real_image(digits):
    with pytest.raises(JaxddError, match="1 images per class of 4 classes have no room for a real image and 2"):
        run(methods.infer(**OPTIONS | {"ipc": 1}), digits, steps=1)
