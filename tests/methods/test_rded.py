"""RDED: the crops that a teacher is surest of, chosen by hand."""

import jax
import numpy as np
import pytest
from recovering_by_hand import TEACHER, plain_teacher, taught
from toys import run, updates

from jaxdd import methods
from jaxdd.data import augmentation
from jaxdd.errors import JaxddError
from jaxdd.methods import RDED
from jaxdd.methods.decoupled._patches import patches

OPTIONS = {**TEACHER, "ipc": 2, "pool": 20, "crops": 3}


def doubts_of(teacher, crops, label):
    logits = np.asarray(plain_teacher(teacher, crops)[0], np.float64)
    return np.log(np.exp(logits).sum(1)) - logits[:, label]


def by_hand(update, teacher, step):
    """Crops `(k, n, ..)` and doubts `(k, n)` of an update."""
    crop = augmentation.resized_crop((0.08, 1.0), (1.0, 1.0), flip=False)
    images = update.batch.images
    assert set(np.asarray(update.batch.labels)) == {step}
    crops = [crop.apply(images, crop.draw(key, len(images))) for key in jax.random.split(update.key, 3)]
    return np.stack(crops), np.stack([doubts_of(teacher, each, step) for each in crops])


def test_two_updates_by_hand(digits):
    recipe = methods.rded(**OPTIONS)
    teacher = taught(recipe, digits).assets["teacher"]
    for step, update in enumerate(updates(recipe, digits)):
        crops, doubts = by_hand(update, teacher, step)
        best = doubts.argmin(0)
        chosen = np.argsort(doubts.min(0))[:2]
        np.testing.assert_allclose(update.after[step], crops[best[chosen], chosen], atol=1e-5)
        assert update.metrics["loss"] < update.metrics["all_crops"]
        np.testing.assert_array_equal(update.after[step + 1 :], update.before[step + 1 :])


@pytest.mark.endurance
@pytest.mark.parametrize(("confidence", "places"), [("medium", slice(9, 11)), ("low", slice(18, 20))])
def test_less_sure_ones(digits, confidence, places):
    config = RDED(**OPTIONS, confidence=confidence)
    real = taught(methods.rded(**OPTIONS), digits)
    (update,) = updates(patches(config), real, count=1)
    crops, doubts = by_hand(update, real.assets["teacher"], 0)
    best, chosen = doubts.argmin(0), np.argsort(doubts.min(0))[places]
    np.testing.assert_allclose(update.after[0], crops[best[chosen], chosen], atol=1e-5)


def test_mosaics_are_of_as_many_crops(digits):
    done = run(methods.rded(**OPTIONS, grid=2, labels="hard"), digits, steps=4).distilled
    assert done.images.shape == (8, 14, 14, 1) and done.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    corners = np.asarray(done.images).reshape(8, 2, 7, 2, 7)
    assert len({corners[0, i, :, j].tobytes() for i in (0, 1) for j in (0, 1)}) == 4


def test_what_is_asked_has_to_be_there(digits):
    with pytest.raises(JaxddError, match="no mosaics of 4 by 4"):
        run(methods.rded(**OPTIONS, grid=4), digits, steps=4)
    with pytest.raises(JaxddError, match="21 images of 1 crops each need as many real images"):
        run(methods.rded(**OPTIONS | {"ipc": 21}), digits, steps=4)


def test_a_class_that_is_not_reached_has_real_images(digits):
    done = run(methods.rded(**OPTIONS), digits, steps=1).distilled
    rows = np.flatnonzero(np.asarray(digits.labels.values) == 3)[:2]
    np.testing.assert_array_equal(done.images[6:], np.asarray(digits.images)[rows])
