"""CDA: updates by hand, its crops as its curriculum has them."""

import jax.numpy as jnp
import numpy as np
import pytest
from recovering_by_hand import TINY, assert_updates, plain_inversion, taught

from jaxdd import methods
from jaxdd.data import augmentation
from jaxdd.errors import JaxddError


def test_two_updates_by_hand(digits):
    recipe = methods.cda(**TINY, milestone=0.5)
    teacher = taught(recipe, digits).assets["teacher"]

    def loss(images, state, key):
        low = jnp.where(state.step == 0, 1.0, 0.08 + 0.92 * 0.5)  # at the begin, and halfway to the milestone
        views = augmentation.chain(augmentation.resized_crop((low, 1.0)), augmentation.roll(4))
        return plain_inversion(teacher, views.apply(images, views.draw(key, 1)), jnp.arange(4))

    assert_updates(recipe, digits, loss)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("constant", [0.2, 0.2, 0.2, 0.2]),
        ("step", [1.0, 1.0, 0.2, 0.2]),
        ("linear", [1.0, 0.6, 0.2, 0.2]),
        ("cosine", [1.0, 0.6, 0.2, 0.2]),
        ("reversed", [0.2, 0.6, 1.0, 1.0]),
    ],
)
def test_curricula_end_at_their_milestone(kind, expected):
    low = augmentation.crop_curriculum(kind, 0.2, milestone=0.8)
    np.testing.assert_allclose([low(done) for done in (0.0, 0.4, 0.8, 1.0)], expected, atol=1e-6)


def test_bad_options():
    for options, message in (
        ({"crop": None}, "crop of CDA must be shares up to 1"),
        ({"crop": (0.1, 0.5)}, "crop of CDA must be shares up to 1"),
        ({"curriculum": "cosin"}, "curriculum of CDA must be one of"),
        ({"milestone": 1.5}, "milestone of CDA must be at most 1"),
    ):
        with pytest.raises(JaxddError, match=message):
            methods.CDA(**options)
    with pytest.raises(JaxddError, match="curriculum of crops 'cosin'"):
        augmentation.crop_curriculum("cosin")
