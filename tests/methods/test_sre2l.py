"""SRe2L: its first updates by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from recovering_by_hand import MODEL, TINY, assert_updates, plain_inversion, plain_teacher, rolled, taught
from toys import run

from jaxdd import methods, models
from jaxdd.errors import JaxddError
from jaxdd.evaluation.baselines import own_teacher, random_real
from jaxdd.methods import SRe2L
from jaxdd.methods.decoupled._recovery import inversion
from jaxdd.methods.decoupled._taught import labelled
from jaxdd.types import Spec


@pytest.fixture(scope="module")
def teacher(digits):
    return taught(methods.sre2l(**TINY), digits).assets["teacher"]


@pytest.fixture(scope="module")
def two_runs(digits):
    """All classes together with labels of views; and three at a time, a block of three and one with a single class,
    with labels of images."""
    recipes = methods.sre2l(**TINY), methods.sre2l(**TINY, classes_together=3, labels="image")
    return [run(recipe, digits, steps=2) for recipe in recipes]


def test_two_updates_by_hand(digits, teacher):
    def loss(images, state, key):
        return plain_inversion(teacher, rolled(images, key), jnp.arange(4))

    found = assert_updates(methods.sre2l(**TINY), digits, loss, count=3)
    assert np.abs(np.asarray(found[0].before.images)).max() > 3  # from noise, not yet within the pixels' range


def test_blocks_are_padded_and_images_come_class_after_class(digits, teacher, two_runs):
    whole, done = two_runs
    last = done.state.block
    assert last.inside.tolist() == [[True, False, False]] and last.labels.tolist() == [[3, 0, 0]]
    assert done.distilled.images.shape[0] == 4 * 2
    assert len({image.tobytes() for image in np.asarray(whole.distilled.images)}) == 8
    # What pads a block moves no other image of it: the single one of its class is the same in a block of its own.
    network = models.build(MODEL, Spec.of(digits).image_shape, 4)
    images = done.distilled.images[:3]

    @functools.partial(jax.jit, static_argnums=0)
    def recover(count):
        block = last._replace(labels=last.labels[0, :count], inside=last.inside[0, :count])
        return inversion(SRe2L(**TINY), network, teacher, images[:count], block)[0]

    padded, alone = recover(3), recover(1)
    np.testing.assert_allclose(padded, alone, rtol=1e-5)


def test_labels_are_the_teachers_one_an_image_or_one_a_view(teacher, two_runs):
    views, single = (done.distilled for done in two_runs)
    for each in (views, single):
        logits, _ = plain_teacher(teacher, each.images)
        np.testing.assert_allclose(each.labels, scipy.special.softmax(logits, 1), atol=1e-5)
    assert views.labelling.codec == f"teacher:{MODEL}" and single.labelling.codec is None
    numbers = sum(leaf.size for leaf in jax.tree.leaves(teacher))
    assert views.cost.labels == 32 * numbers and single.cost.labels == 32 * 8 * 4
    assert views.cost.images == 32 * views.images.size


def test_class_numbers_with_the_teacher_beside_them(digits, teacher, two_runs):
    images = two_runs[0].distilled.images
    done = labelled(SRe2L(**TINY, labels="both"), Spec.of(digits), images, {"teacher": teacher})
    assert done.label_convention == "hard" and done.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    views = two_runs[0].distilled
    assert done.labelling.codec == views.labelling.codec and done.cost.labels == views.cost.labels + 2 * 8
    np.testing.assert_array_equal(own_teacher(done)(images), own_teacher(views)(images))
    real = random_real(jax.random.key(0), digits, 2, like=done, teacher=own_teacher(done))
    assert real.labels.tolist() == done.labels.tolist() and real.cost == done.cost


def test_bad_options():
    for options, message in (
        ({"crop": (0.5, 0.1)}, "a crop needs shares 0 < low <= high <= 1"),
        ({"crop": (0.5, 2.0)}, "crop of SRe2L must be between 0 and 1 in every element"),
        ({"jitter": -1}, "jitter of SRe2L must be at least 0"),
        ({"labels": "views"}, "labels of SRe2L must be one of view, image"),
    ):
        with pytest.raises(JaxddError, match=message):
            SRe2L(**options)
    assert dataclasses.replace(SRe2L(), crop=(0.08, 1.0)).crop == (0.08, 1.0)


def test_a_teacher_without_statistics_is_refused_before_it_is_trained(digits):
    spec = Spec.of(digits)
    for model in "mlp", models.build("mlp", spec.image_shape, spec.num_classes):
        with pytest.raises(JaxddError, match="what a teacher's batch normalisation remembers"):
            methods.sre2l(**{**TINY, "model": model}).stages(spec)


def test_published_settings():
    settings = {"learning_rate": 0.25, "statistics_weight": 0.01, "first_weight": 10.0, "jitter": 4, "crop": None}
    teacher = {"teacher_epochs": 200, "teacher_batch": 128, "teacher_learning_rate": 0.1, "teacher_weight_decay": 5e-4}
    assert {**settings, **teacher, "decay_steps": 1000, "model": "resnet18"}.items() <= vars(SRe2L()).items()
