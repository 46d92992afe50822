"""LPLD: updates by hand, one class at a time, by what the teacher sees of that class."""

import jax
import jax.numpy as jnp
import numpy as np
from recovering_by_hand import TINY, assert_updates, plain_inversion, plain_teacher, rolled, taught

from jaxdd import methods


def test_two_updates_by_hand(digits):
    recipe = methods.lpld(**TINY)
    assets = taught(recipe, digits).assets
    teacher, by_class = assets["teacher"], assets["class_statistics"]
    first = np.flatnonzero(np.asarray(digits.labels.values) == 0)
    _, seen = plain_teacher(teacher, jnp.asarray(digits.images)[first])  # all images of the class at once
    for found, (mean, variance, *_) in zip(by_class, seen, strict=True):
        np.testing.assert_allclose(found.mean[0], mean, atol=1e-4)
        np.testing.assert_allclose(found.variance[0], variance, rtol=1e-3, atol=1e-4)

    def loss(images, state, key):
        kept = [(jnp.asarray(each.mean)[0], jnp.asarray(each.variance)[0]) for each in by_class]
        return plain_inversion(teacher, rolled(images, key), jnp.zeros(2, int), kept=kept)

    found = assert_updates(recipe, digits, loss)
    assert found[0].before.images.shape[0] == TINY["ipc"]
    assert jax.tree.map(jnp.shape, by_class[0]) == ((4, 4), (4, 4))  # (classes, channels)
