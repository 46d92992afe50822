"""NRR-DD: updates by hand; critical regions stay as they are."""

import jax.numpy as jnp
import numpy as np
import pytest
from recovering_by_hand import TINY, assert_updates, plain_inversion, rolled, taught

from jaxdd import methods, models
from jaxdd.errors import JaxddError
from jaxdd.selection import scores

OPTIONS = {**TINY, "pool": 20, "crops": 2}


def test_two_updates_by_hand(digits):
    recipe = methods.nrr_dd(**OPTIONS)
    real = taught(recipe, digits)
    teacher, crops = real.assets["teacher"], jnp.asarray(real.assets["patches"])[:, 0]
    network = models.build(TINY["model"], crops.shape[1:], 4)
    maps = np.asarray(scores.grad_cam(network, teacher.theta, teacher.stats, crops, jnp.arange(4)))
    mask = np.maximum(0.5 - maps / maps.max((1, 2), keepdims=True), 0)[..., None]
    assert 0.05 < (mask > 0).mean() < 1

    def loss(change, state, key):
        return plain_inversion(teacher, rolled(crops + mask * change, key), jnp.arange(4))

    lowest, highest = np.min(digits.images), np.max(digits.images)

    def project(change):
        moved = np.clip(crops + mask * change, lowest, highest) - crops
        return np.where(mask > 0, moved / np.where(mask > 0, mask, 1), 0)

    found = assert_updates(recipe, digits, loss, rate=0.05, learned="change", project=project)
    last = found[-1].after
    images = np.asarray(last.given["images"] + last.given["mask"] * last.params["change"])
    kept = mask[..., 0] == 0
    np.testing.assert_array_equal(images[kept], np.asarray(crops)[kept])
    assert np.abs(images - np.asarray(crops)).max() > 1e-3


@pytest.mark.endurance
def test_candidates_are_critical_and_the_teacher_is_unsure_of_them(digits):
    unsure, sure = (
        taught(recipe, digits).assets["patches"]
        for recipe in (methods.nrr_dd(**OPTIONS), methods.fadrm(**OPTIONS, confidence="high", segments=1))
    )
    teacher = taught(methods.nrr_dd(**OPTIONS), digits).assets["teacher"]
    network = models.build(TINY["model"], unsure.shape[2:], 4)
    right = [
        float(
            jnp.mean(
                network.apply(teacher.theta, jnp.asarray(images[:, 0]), teacher.stats)[0].argmax(1) == jnp.arange(4)
            )
        )
        for images in (unsure, sure)
    ]
    assert right[0] <= right[1]


def test_bad_options():
    with pytest.raises(JaxddError, match="critical_share of NRRDD must be at most 1"):
        methods.NRRDD(critical_share=1.5)
