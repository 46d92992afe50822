"""What training says of every example, beside plain loops over the visits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from jaxdd import engine, models, training
from jaxdd._files import digest
from jaxdd.engine.stages import How, provided
from jaxdd.errors import JaxddError
from jaxdd.training.dynamics import Visits, joined
from jaxdd.training.supervised import Seen
from jaxdd.types import Batch, HostArray, Labels, NetworkState, RealData, Spec, bound

NETWORK = models.build("mlp(width=8, depth=1)", (14, 14, 1), 4)
COUNT, BATCH, EPOCHS, EARLY = 120, 50, 4, 2
STEPS = EPOCHS * 3  # the last batch of an epoch has thirty examples of the one before
RECIPE = training.dynamics(NETWORK, optax.sgd(0.3, momentum=0.9), batch_size=BATCH, early=EARLY)


@pytest.fixture(scope="module")
def few(digits):
    """Of which every fifth has a label drawn by lot: what is hard is forgotten, or never learned."""
    labels = np.asarray(digits.labels.values)[::4].copy()
    labels[::5] = np.random.default_rng(0).integers(0, 4, 24)
    return RealData.of(digits.images[::4], Labels.index(labels, 4))


@pytest.fixture(scope="module")
def done(few):
    """Its updates, one after the other; the batches are those of a run."""
    method, key = bound(RECIPE, few), jax.random.key(1)
    state, update = jax.jit(method.init)(key, few), jax.jit(method.update)
    draw = jax.jit(lambda step: engine.draw(method, few, key, step))
    found = []
    for step in range(STEPS):
        batch = draw(np.int32(step))
        after, metrics = update(jax.random.fold_in(key, step), state, batch)
        found.append(toys.Update(key, batch, state, after, metrics))
        state = after
    return found


def test_what_is_noted_is_what_a_plain_loop_over_the_visits_counts(done, few):
    """Events, margins and errors, from the logits that each step is taken on."""
    apply, labels = jax.jit(lambda theta, images: NETWORK.apply(theta, images, {})[0]), np.asarray(few.labels.values)
    events, margins, errors = np.zeros(COUNT), [[] for _ in range(COUNT)], [[] for _ in range(COUNT)]
    last, ever = {}, set()
    early = np.full(COUNT, np.nan)
    for step, update in enumerate(done):
        logits = np.asarray(apply(update.before.training.network.theta, update.batch.images), np.float64)
        for row, of_row in zip(np.asarray(update.batch.rows["examples"]), logits, strict=True):
            right = of_row.argmax() == labels[row]
            events[row] += last.get(row, False) and not right
            last[row] = right
            ever |= {row} if right else set()
            others = np.delete(of_row, labels[row])
            margins[row].append(of_row[labels[row]] - others.max())
            likely = np.exp(of_row - of_row.max()) / np.exp(of_row - of_row.max()).sum()
            errors[row].append(np.sqrt(np.sum((likely - np.eye(4)[labels[row]]) ** 2)))
            if step // 3 < EARLY:
                early[row] = errors[row][-1]
    found = bound(RECIPE, few).product(done[-1].after)
    never = [row for row in range(COUNT) if row not in ever]
    events[never] = np.inf
    assert 0 < len(never) < 20 and 5 < np.isfinite(events[events > 0]).sum() < 80
    assert {len(of_row) for of_row in margins} > {EPOCHS}, "every example in every epoch, some twice"
    np.testing.assert_array_equal(found.forgotten, events)
    np.testing.assert_allclose(found.margins, [np.mean(of_row) for of_row in margins], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.errors, early, rtol=1e-3, atol=1e-4)
    assert any(of_row[EARLY - 1] != early[row] for row, of_row in enumerate(errors)), "an epoch may have two visits"
    toys.assert_same(found.network, done[-1].after.training.network)


def test_the_network_is_trained_as_without_notes(done, few):
    """The same updates, of the same batches."""
    plain = bound(training.supervised(NETWORK, optax.sgd(0.3, momentum=0.9), batch_size=BATCH), few)
    update, state = jax.jit(plain.update), done[0].before.training
    for step, noted in enumerate(done[:2]):
        state, metrics = update(jax.random.fold_in(noted.key, step), state, noted.batch)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state, noted.after.training)
        assert float(metrics["batch_accuracy"]) == pytest.approx(float(noted.metrics["batch_accuracy"]))


def test_wrong_labels_are_told_from_right_ones(done, digits, few):
    """By all three, on the average."""
    wrong = np.asarray(few.labels.values) != np.asarray(digits.labels.values)[::4]
    found = bound(RECIPE, few).product(done[-1].after)
    assert wrong.sum() > 10
    assert np.mean(found.margins[wrong]) < np.mean(found.margins[~wrong]) - 1
    assert np.mean(found.errors[wrong]) > np.mean(found.errors[~wrong]) + 0.1
    assert np.isinf(found.forgotten[wrong]).mean() > np.isinf(found.forgotten[~wrong]).mean() + 0.2


def test_devices_of_a_named_axis_note_what_one_would_of_all_their_examples(done, few):
    method, update = bound(RECIPE, few), done[2]
    halves = jax.tree.map(lambda leaf: leaf.reshape(2, BATCH // 2, *leaf.shape[1:]), update.batch)
    mapped = jax.jit(
        jax.vmap(functools.partial(method.update, axis_name="i"), (None, None, 0), axis_name="i", out_axes=None)
    )
    state, metrics = mapped(jax.random.fold_in(update.key, 2), update.before, halves)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), state, update.after)
    assert float(metrics["loss"]) == pytest.approx(float(update.metrics["loss"]), rel=1e-5)


@pytest.mark.endurance
def test_devices_streams_and_kills_change_nothing(few, tmp_path):
    """Five devices give what one gives, data on the host the same bits, and so does a run that was cut."""
    whole = toys.run(RECIPE, few, steps=STEPS)
    images = np.asarray(few.images)
    hosted = HostArray(images.shape, images.dtype, lambda rows: images[rows], digest([images]))
    toys.assert_same(toys.run(RECIPE, RealData.of(hosted, few.labels), steps=STEPS).state, whole.state)
    toys.run(RECIPE, few, steps=7, workdir=tmp_path)
    toys.assert_same(toys.run(RECIPE, few, steps=STEPS, workdir=tmp_path, resume=True).product, whole.product)
    five = toys.run(RECIPE, few, steps=STEPS, devices=jax.devices()[:5])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), five.product, whole.product)


def test_a_stage_of_several_networks_leaves_their_means(few, tmp_path, monkeypatch):
    """Each has an initialisation and an order of its own, so their events are not the same."""
    monkeypatch.setenv("JAXDD_CACHE_DIR", str(tmp_path))
    stage = training.dynamics_stage(
        "dynamics", NETWORK, Spec.of(few), epochs=4, batch_size=BATCH, learning_rate=0.3, networks=2
    )
    assert stage.steps == 12 and stage.config["early"] == 1
    found = provided(stage, few, {}, How(0, "default", jax.devices()[:1], progress=False))[0].assets["dynamics"]
    events = found.forgotten[np.isfinite(found.forgotten)]
    assert {0.0, 0.5, 1.0} <= set(np.asarray(events % 2).tolist()) <= {0.0, 0.5, 1.0, 1.5}
    assert found.margins.shape == found.errors.shape == (COUNT,) and 0 < float(found.errors.mean()) < 2**0.5
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a.shape, b.shape), found.network.theta, _theta())


def _theta():
    return jax.eval_shape(NETWORK.init, jax.random.key(0))[0]


def test_a_mean_over_networks_is_infinite_where_one_of_them_never_learned():
    of_two = training.Dynamics(
        jnp.array([[1.0, 3.0], [jnp.inf, 0.0]]),
        jnp.array([[1.0, -2.0], [2.0, -4.0]]),
        jnp.array([[0.5, 1.0], [0.7, 1.4]]),
        NetworkState({"w": jnp.array([[1.0], [2.0]])}, {}),
    )
    found = joined(of_two, {})
    np.testing.assert_array_equal(found.forgotten, [np.inf, 1.5])
    np.testing.assert_array_equal(found.margins, [1.5, -3.0])
    np.testing.assert_allclose(found.errors, [0.6, 1.2], rtol=1e-6)
    np.testing.assert_array_equal(found.network.theta["w"], [1.0])


def test_an_example_that_is_right_again_is_forgotten_again_when_it_is_wrong():
    """By hand: right, wrong, right, wrong, of which two are early; beside it one that is always right, and one that is
    never visited."""
    right, wrong = jnp.array([[2.0, 1.0], [2.0, 0.0]]), jnp.array([[1.0, 2.0], [3.0, 1.0]])
    visits, rows, labels = Visits.none(3), jnp.array([2, 0]), jnp.zeros(2, jnp.int32)
    after = jax.jit(lambda visits, logits, early: visits.at(rows, Seen(logits, labels), early))
    for number, logits in enumerate((right, wrong, right, wrong)):
        visits = after(visits, logits, number < 2)
    np.testing.assert_array_equal(visits.forgotten, [0, 0, 2])
    np.testing.assert_array_equal(visits.count, [4, 0, 4])
    np.testing.assert_array_equal(visits.learned, [True, False, True])
    np.testing.assert_allclose(visits.margins, [8, 0, 0], atol=1e-6)
    p = 1 / (1 + np.e)
    np.testing.assert_allclose(visits.errors[2], np.sqrt(2) * (1 - p), rtol=1e-5)  # of the second visit, a wrong one


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"early": 3}, "errors of epoch 3 need as many epochs, got 2"),
        ({"early": 0}, "the early epoch must be an integer of at least 1"),
        ({"epochs": 0}, "epochs must be an integer of at least 1"),
        ({"epochs": True}, "epochs must be an integer of at least 1"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1"),
        ({"networks": 0}, "the parts of the stage 'd' must be an integer of at least 1"),
    ],
)
def test_what_cannot_be_noted_says_so(few, change, sentence):
    with pytest.raises(JaxddError, match=sentence):
        training.dynamics_stage(
            "d", NETWORK, Spec.of(few), **{"epochs": 2, "batch_size": 8, "learning_rate": 0.1, **change}
        )


def test_a_batch_of_ones_own_has_no_rows_to_note(few, done):
    method = bound(RECIPE, few)
    with pytest.raises(JaxddError, match="the rows of this batch are not known"):
        jax.eval_shape(method.update, jax.random.key(0), done[0].before, Batch.of(few.images, few.labels.values))
