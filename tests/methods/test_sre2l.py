"""SRe2L: its first updates by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from by_hand import Adam
from toys import run, updates

from jaxdd import methods, models
from jaxdd.engine.stages import How, provided
from jaxdd.errors import JaxddError
from jaxdd.methods import SRe2L
from jaxdd.methods.decoupled._recovery import inversion
from jaxdd.types import Spec

MODEL = "convnet(width=4, depth=2, norm='batch')"
TINY = {"ipc": 2, "model": MODEL, "decay_steps": 3, "teacher_epochs": 1, "teacher_batch": 32, "statistics_weight": 0.3}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXDD_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def taught(digits):
    """The digits with a teacher."""
    return provided(methods.sre2l(**TINY), digits, {}, How(0, "default", jax.devices()[:1], progress=False))[0]


@pytest.fixture(scope="module")
def two_runs(digits):
    """All classes together with labels of views; and three at a time, a block of three and one with a single class,
    with labels of images."""
    recipes = methods.sre2l(**TINY), methods.sre2l(**TINY, classes_together=3, labels="image")
    return [run(recipe, digits, steps=2) for recipe in recipes]


@jax.jit
@jax.numpy_rank_promotion("allow")
def plain_teacher(teacher, images):
    """The teacher's logits, and mean and variance of what each normalisation sees, in plain operations."""
    theta, (running,) = teacher.theta, teacher.stats.values()
    x, seen = images, []
    for block in range(2):
        conv, norm, kept = theta[f"conv_{block}"], theta[f"norm_{block}"], running[f"norm_{block}"]
        pad = ((3, 3), (3, 3)) if block == 0 else ((1, 1), (1, 1))
        kind = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, conv["kernel"], (1, 1), pad, dimension_numbers=kind) + conv["bias"]
        mean = x.sum((0, 1, 2)) / (x.size / x.shape[-1])
        seen.append((mean, ((x - mean) ** 2).sum((0, 1, 2)) / (x.size / x.shape[-1]), kept["mean"], kept["var"]))
        x = (x - kept["mean"]) / jnp.sqrt(kept["var"] + 1e-5) * norm["scale"] + norm["bias"]
        x = jnp.maximum(x, 0)
        n, h, w, c = x.shape
        x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
    head = theta["head"]
    return x.reshape(len(x), -1) @ head["kernel"] + head["bias"], seen


def test_two_updates_by_hand(digits, taught):
    found = updates(methods.sre2l(**TINY), digits, count=3)
    adam, lowest, highest = Adam(b1=0.5, b2=0.9), np.min(digits.images, (0, 1, 2)), np.max(digits.images, (0, 1, 2))
    assert np.abs(np.asarray(found[0].before.images)).max() > 3  # from noise, not yet within the pixels' range

    @jax.jit
    def loss_and_slope(images, key):
        shift = jax.random.randint(key, (1, 2), 0, 5)[0]

        def loss(images):
            logits, seen = plain_teacher(taught.assets["teacher"], jnp.roll(images, shift, axis=(1, 2)))
            picked = jax.nn.log_softmax(logits)[jnp.arange(4), jnp.arange(4)]
            distances = [
                jnp.sqrt(((mean - kept) ** 2).sum()) + jnp.sqrt(((variance - spread) ** 2).sum())
                for mean, variance, kept, spread in seen
            ]
            return -picked.mean() + 0.3 * (10 * distances[0] + distances[1])

        return jax.value_and_grad(loss)(images)

    for step, update in enumerate(found):
        value, slope = loss_and_slope(update.before.images, update.key)
        np.testing.assert_allclose(update.metrics["loss"], value, rtol=1e-4)
        rate = 0.25 * 0.5 * (1 + np.cos(np.pi * step / 3))
        expected = np.clip(np.asarray(update.before.images) - rate * adam.step(slope), lowest, highest)
        off = np.abs(np.asarray(update.after.images) - expected)
        assert (off > 1e-3).mean() < 1e-3  # Adam's first step divides by a gradient that may be rounding alone
        assert not update.batch.tables  # no real image


def test_blocks_are_padded_and_images_come_class_after_class(digits, taught, two_runs):
    whole, done = two_runs
    last = done.state.block
    assert last.inside.tolist() == [[True, False, False]] and last.labels.tolist() == [[3, 0, 0]]
    assert done.distilled.images.shape[0] == 4 * 2
    assert len({image.tobytes() for image in np.asarray(whole.distilled.images)}) == 8
    # What pads a block moves no other image of it: the single one of its class is the same in a block of its own.
    network, teacher = models.build(MODEL, Spec.of(digits).image_shape, 4), taught.assets["teacher"]
    images = done.distilled.images[:3]

    @functools.partial(jax.jit, static_argnums=0)
    def recover(count):
        block = last._replace(labels=last.labels[0, :count], inside=last.inside[0, :count])
        return inversion(SRe2L(**TINY), network, teacher, images[:count], block)[0]

    padded, alone = recover(3), recover(1)
    np.testing.assert_allclose(padded, alone, rtol=1e-5)


def test_labels_are_the_teachers_one_an_image_or_one_a_view(taught, two_runs):
    views, single = (done.distilled for done in two_runs)
    for each in (views, single):
        logits, _ = plain_teacher(taught.assets["teacher"], each.images)
        np.testing.assert_allclose(each.labels, scipy.special.softmax(logits, 1), atol=1e-5)
    assert views.labelling.codec == f"teacher:{MODEL}" and single.labelling.codec is None
    numbers = sum(leaf.size for leaf in jax.tree.leaves(taught.assets["teacher"]))
    assert views.cost.labels == 32 * numbers and single.cost.labels == 32 * 8 * 4
    assert views.cost.images == 32 * views.images.size


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


def test_published_settings():
    settings = {"learning_rate": 0.25, "statistics_weight": 0.01, "first_weight": 10.0, "jitter": 4, "crop": None}
    teacher = {"teacher_epochs": 200, "teacher_batch": 128, "teacher_learning_rate": 0.1, "teacher_weight_decay": 5e-4}
    assert {**settings, **teacher, "decay_steps": 1000, "model": "resnet18"}.items() <= vars(SRe2L()).items()
