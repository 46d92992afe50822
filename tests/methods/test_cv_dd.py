"""CV-DD: an update by hand of each pair of a committee, and who votes on labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recovering_by_hand import MODEL, OTHER, TINY, plain_inversion, plain_teacher, rolled, taught
from toys import run

from jaxdd import engine, methods
from jaxdd.errors import JaxddError
from jaxdd.types import Batch, bound

OPTIONS = {
    **TINY,
    "others": (OTHER,),
    "performance": (60.0, 50.0),
    "crop": None,
    "pool": 20,
    "crops": 2,
}
THREE = OPTIONS | {"others": (OTHER, OTHER), "performance": (60.0, 50.0, 40.0)}


def softmax(performance, temperature):
    found = np.exp(np.array(performance) / temperature)
    return found / found.sum()


def assert_update(recipe, digits, part, pair, performance):
    """By hand, of a block, which is an image of every class."""
    real = taught(recipe, digits)
    method, teachers = bound(recipe, real), [real.assets[name] for name in pair]
    state = engine.first_state(method, real, jax.random.key(1), part)
    np.testing.assert_array_equal(state.images, np.asarray(real.assets["patches"])[:, part])
    key = jax.random.key(2)
    _, metrics = jax.jit(method.update)(key, state, Batch({}, {}, real.assets))
    views = rolled(state.images, key)
    alone = jax.jit(plain_inversion)
    each = [alone(teacher, views, jnp.arange(4)) for teacher in teachers]
    np.testing.assert_allclose(metrics["loss"], softmax(performance, 5) @ np.array(each), rtol=2e-4)


def test_two_vote_by_their_performance(digits):
    assert_update(methods.cv_dd(**OPTIONS), digits, 1, ("teacher", "teacher_1"), (60, 50))


@pytest.mark.endurance
def test_pairs_follow_each_other_from_image_to_image(digits):
    recipe = methods.cv_dd(**THREE)
    assert_update(recipe, digits, 0, ("teacher", "teacher_1"), (60, 50))
    assert_update(recipe, digits, 1, ("teacher", "teacher_2"), (60, 40))


@pytest.mark.endurance
def test_labels_are_the_weighted_vote_of_all(digits):
    recipe = methods.cv_dd(**THREE, labels="image")
    teachers = [taught(recipe, digits).assets[name] for name in ("teacher", "teacher_1", "teacher_2")]
    done = run(recipe, digits, steps=1).distilled
    logits = np.stack([plain_teacher(teacher, done.images)[0] for teacher in teachers])
    votes = np.tensordot(softmax((60, 50, 40), 10), logits, 1)
    np.testing.assert_allclose(done.labels, jax.nn.softmax(votes), atol=1e-5)
    views = run(methods.cv_dd(**THREE), digits, steps=1).distilled.labelling
    assert views.codec == f"teachers-by-batch:{MODEL} + {OTHER} + {OTHER}"


def test_bad_committees():
    for options, message in (
        ({"voters": 4}, "voters of CVDD must be at most the 3 networks"),
        ({"performance": (60.0,)}, "performance of CVDD must be one for each of 3"),
    ):
        with pytest.raises(JaxddError, match=message):
            methods.CVDD(**THREE | options)
