"""DATM: where its parts lie, what its labels start as, updates by hand, and one that is not taken."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from walking_by_hand import CLASSES, OPTIONS, ROWS, assert_updates, left, network, walks

from jaxdd import methods
from jaxdd.engine import stages
from jaxdd.errors import JaxddError
from jaxdd.types import bound

GROWING = OPTIONS | {"span": 1, "max_start": 3, "min_start": 0, "first_max_start": 1, "growth": 20}
TAKEN = {**GROWING, "threshold": 100.0, "label_learning_rate": 3.0}


@pytest.fixture(scope="module")
def done(digits):
    return toys.updates(methods.datm(**TAKEN), digits, 40)


@jax.jit
@jax.value_and_grad
def plainly(learned, update):
    labels = jax.nn.softmax(learned["labels"], axis=1)
    return jnp.stack([left(*walk) for walk in walks(learned, update, labels)]).mean()


def test_updates_learn_labels_too(done):
    rates = {"images": 5.0, "labels": 3.0, "learning_rates": 1e-3}
    assert_updates(done[:2], plainly, rates, {"labels": 0.9})


def test_first_epochs_lie_below_an_end_that_grows(done):
    starts = [np.asarray(update.batch.rows["experts"])[:, 0] % ROWS for update in done]
    assert all((start < 1 + 2 * step // 20).all() for step, start in enumerate(starts[:20]))
    assert set(np.concatenate(starts[20:])) == {0, 1, 2}


def test_a_loss_above_the_threshold_takes_no_step(done, digits):
    (update,) = toys.updates(methods.datm(**TAKEN | {"threshold": 1e-3}), digits, 1)
    for before, after in zip(*map(jax.tree.leaves, (update.before, update.after)), strict=True):
        np.testing.assert_array_equal(before, after)
    assert update.metrics["loss"] > 1e-3


def test_images_are_right_ones_and_labels_what_the_experts_say(done, digits):
    """The mean logits of those that get it right, at their last epoch."""
    real, _ = stages.provided(methods.datm(**TAKEN), digits, {}, stages.How(0, "default", None, 1e9, progress=False))
    last = [jax.tree.map(lambda leaf, k=k: leaf[k * ROWS + 3], real.tables["experts"].theta) for k in range(3)]
    params, own = done[0].before.params, np.repeat(np.arange(CLASSES), 2)
    logits = np.stack([network().apply(theta, params["images"], {})[0] for theta in last])
    right = logits.argmax(2) == own
    assert right[0].all()
    expected = [logits[right[:, i], i].mean(0) for i in range(len(own))]
    np.testing.assert_allclose(params["labels"], expected, rtol=1e-4, atol=1e-5)
    images, labels = np.asarray(digits.images), np.asarray(digits.labels.values)
    rows = [np.flatnonzero((images == np.asarray(image)).all((1, 2, 3)))[0] for image in params["images"]]
    assert len(set(rows)) == len(own) and (labels[rows] == own).all()


def test_rows_of_the_epochs_that_are_used_give_the_same_bits(done, digits):
    """The window's, and the last one, whose labels a set starts with."""
    config = TAKEN | {"expert_rows": "used", "expert_epochs": 3, "max_start": 1, "first_max_start": None}
    recipe = methods.datm(**config)
    assert len(jax.tree.leaves(stages.foretold(recipe, digits).tables["experts"])[0]) == 3 * 3  # epochs 0, 1 and 3
    (some,), (whole,) = (
        toys.updates(methods.datm(**config | {"expert_rows": rows}), digits, 1) for rows in ("used", "all")
    )
    for a, b in zip(*map(jax.tree.leaves, (some.after, whole.after)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_where_too_few_are_right_others_follow(digits):
    """An expert that says class 0 of everything."""
    recipe = methods.datm(**TAKEN)
    data = stages.foretold(recipe, digits)
    blind = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), data.tables["experts"])
    real = dataclasses.replace(digits, tables=digits.tables | {"experts": blind})
    params = jax.jit(lambda key: bound(recipe, real).init(key, real).params)(jax.random.key(0))
    assert len({bytes(np.asarray(each)) for each in params["images"]}) == 2 * CLASSES
    assert np.isfinite(np.asarray(params["labels"])).all()


def test_published_settings_and_bad_ones():
    published = {
        "steps": 80,
        "max_start": 20,
        "first_max_start": 10,
        "growth": 1000,
        "learning_rate": 100.0,
        "batch": 100,
        "label_learning_rate": 2.0,
        "threshold": 1.0,
        "expert_epochs": 100,
        "inner_learning_rate": 0.01,
    }
    assert published.items() <= methods.fields("datm").items()
    with pytest.raises(JaxddError, match="min_start of DATM must be below the first epochs that follow, 10"):
        methods.datm(min_start=10)
    with pytest.raises(JaxddError, match="first_max_start of DATM must be at most max_start, 20"):
        methods.datm(first_max_start=21)
