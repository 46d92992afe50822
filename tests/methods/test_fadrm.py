"""FADRM: updates by hand; crops are mixed in between segments, and Adam begins anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import Adam
from recovering_by_hand import OTHER, TINY, plain_inversion, rolled, taught
from toys import run, updates

from jaxdd import methods
from jaxdd.errors import JaxddError

OPTIONS = {**TINY, "segments": 2, "share": 0.75, "crop": None, "pool": 20, "crops": 2}


def test_four_updates_by_hand(digits):
    recipe = methods.fadrm(**OPTIONS)
    real = taught(recipe, digits)
    teacher, crops = real.assets["teacher"], np.asarray(real.assets["patches"])[:, 0]
    found = updates(recipe, digits, count=4)
    np.testing.assert_array_equal(found[0].before.images, crops)
    lowest, highest = np.min(digits.images, (0, 1, 2)), np.max(digits.images, (0, 1, 2))

    @jax.jit
    def slope(images, key):
        return jax.grad(lambda images: plain_inversion(teacher, rolled(images, key), jnp.arange(4)))(images)

    for step, update in enumerate(found):
        before = np.asarray(update.before.images)
        if step in (0, 2):
            adam = Adam(b1=0.5, b2=0.9)
            before = before if step == 0 else 0.75 * before + 0.25 * crops
        rate = 0.25 * 0.5 * (1 + np.cos(np.pi * step / 4))  # along one cosine
        expected = np.clip(
            before - rate * adam.step(slope(jnp.asarray(before, jnp.float32), update.key)), lowest, highest
        )
        assert (np.abs(np.asarray(update.after.images) - expected) > 1e-3).mean() < 2e-3


@pytest.mark.endurance
def test_teachers_take_turns(digits):
    recipe = methods.fadrm(**OPTIONS, others=(OTHER,), by_batch=False)
    assets, found = taught(recipe, digits).assets, updates(recipe, digits, count=2)
    first = plain_inversion(assets["teacher"], rolled(found[0].before.images, found[0].key), jnp.arange(4))
    second = plain_inversion(assets["teacher_1"], rolled(found[1].before.images, found[1].key), jnp.arange(4))
    np.testing.assert_allclose([update.metrics["loss"] for update in found], [first, second], rtol=2e-4)
    done = run(recipe, digits, steps=2).distilled
    assert done.labelling.codec == f"teachers:{TINY['model']} + {OTHER}"


def test_segments_divide_the_steps():
    with pytest.raises(JaxddError, match="segments of FADRM must be a divisor of decay_steps, 4"):
        methods.FADRM(**OPTIONS | {"segments": 3})
