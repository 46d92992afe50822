"""RaT-BPTT: a window of a long inner training by Adam is differentiated."""

import functools

import by_hand
import jax
import numpy as np
import pytest
import toys

from jaxdd import inner, methods, models
from jaxdd.data import augmentation
from jaxdd.errors import JaxddError

MLP = "mlp(width=8, depth=1)"
OPTIONS = {
    "model": MLP, "ipc": 2, "steps": 4, "window": 2, "start": 1, "per_class": 1, "inner_learning_rate": 0.02,
    "target_batch": 20, "block": 10, "learning_rate": 0.03, "label_learning_rate": 0.05, "clip": 1.5,
}  # fmt: skip


@jax.jit
def drawn(key):
    """The rows of each step, where the window begins, and the network."""
    key_draw, key_train = jax.random.split(jax.random.split(key, 1)[0])
    key_plan, key_window = jax.random.split(key_train)
    network = models.build(MLP, (14, 14, 1), 4)
    plan = inner.balanced_plan(key_plan, 4, 2, 1, steps=4)
    return plan, jax.random.randint(key_window, (), 1, 3), network.init(key_draw)[0]


@functools.partial(jax.jit, static_argnames="augment")
@jax.value_and_grad
def plainly(learned, plan, begin, theta, batch, key, augment="none"):
    """Flips or rotations are drawn for each image of each step, and for each real one."""
    network, augment = models.build(MLP, (14, 14, 1), 4), augmentation.named(augment)
    key_train = jax.random.split(jax.random.split(key, 1)[0])[1]

    def change(images, t):
        return augment.apply(images, augment.draw(jax.random.fold_in(jax.random.fold_in(key_train, 2), t), 4))

    of_real = augment.draw(jax.random.fold_in(jax.random.fold_in(key_train, 3), 0), 20)
    real = augment.apply(batch.images, of_real), jax.nn.one_hot(batch.labels, 4)
    return by_hand.through_a_window(network, learned, plan, (begin, 2), theta, real, 0.02, change)[0]


def test_updates_are_those_of_the_formula(digits):
    """The second gradient of the images is cut; that of the labels is not, but they stay non-negative."""
    assert methods.RaTBPTT().augmentation == "flip_rotate"
    done = toys.updates(toys.build("rat_bptt", **OPTIONS, learn_labels=True), digits, seed=56)
    optimizers, rates = {leaf: by_hand.Adam() for leaf in ("images", "labels")}, {"images": 0.03, "labels": 0.05}
    places, lengths, running = [], [], None
    for update in done:
        plan, begin, theta = drawn(update.key)
        given = update.before.params, plan, begin, theta, update.batch, update.key
        loss, slopes = plainly(*given, augment="flip_rotate")
        assert abs(plainly(*given)[0] - loss) > 1e-3, "it is seen to matter"
        assert float(update.metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
        norms = [np.linalg.norm(np.float64(slopes[leaf])) for leaf in optimizers]
        assert float(update.metrics["gradient_norm"]) == pytest.approx(np.hypot(*norms), rel=1e-4)
        running = norms[0] if running is None else 0.9 * running + 0.1 * norms[0]
        slopes["images"] *= min(1, 1.5 * running / norms[0])
        steps = {leaf: rates[leaf] * optimizer.step(slopes[leaf]) for leaf, optimizer in optimizers.items()}
        by_hand.assert_moments(update, optimizers)
        before = jax.tree.map(np.float64, update.before.params)
        by_hand.assert_nearly_all_near(before["images"] - update.after.params["images"], steps["images"])
        labels = np.asarray(update.after.params["labels"])
        by_hand.assert_near(labels, np.maximum(before["labels"] - steps["labels"], 0), 5e-3 * 0.05)
        assert labels.min() == 0 and (before["labels"] - steps["labels"]).min() < -0.01
        places.append(int(begin))
        lengths.append(norms[0])
        rows = np.asarray(plan).reshape(-1, 4)
        np.testing.assert_array_equal(rows // 2, np.tile(np.arange(4), (4, 1)))
        assert len(np.unique(rows % 2)) == 2
    assert sorted(places) == [1, 2], "two places, so that they are seen to matter"
    assert lengths[1] > 1.5 * running, "the second gradient is long enough to be cut"


def test_the_last_window_and_labels_that_stay(digits):
    """Images start as noise of norm 1."""
    (update,) = toys.updates(toys.build("rat_bptt", **OPTIONS, place="last", augmentation="none"), digits, count=1)
    plan, _, theta = drawn(update.key)
    loss, slopes = plainly(update.before.params, plan, 2, theta, update.batch, update.key)
    assert float(update.metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
    by_hand.assert_stepped(update, slopes, {"images": by_hand.Adam()}, {"images": 0.03})
    np.testing.assert_array_equal(update.after.params["labels"], np.repeat(np.eye(4), 2, axis=0))
    images = np.float64(update.before.params["images"]).reshape(8, -1)
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"window": 0}, "window of RaTBPTT must be at least 1"),
        ({"window": 150, "start": 100}, "from 1 to the 100 steps left"),
        ({"place": "middle"}, "place of RaTBPTT must be one of full, last, random, fixed"),
        ({"lerning_rate": 0.1}, "learning_rate"),
        ({"place": "full"}, "another than full unless window is 200"),
        ({"start": -1}, "start of RaTBPTT must be at least 0"),
        ({"clip": 1.0}, "clip of RaTBPTT must be more than 1"),
        ({"augmentation": "flipp"}, "unknown augmentation 'flipp'"),
        ({"per_class": 0}, "per_class of RaTBPTT must be at least 1 or None"),
        ({"inner_learning_rate": float("nan")}, "must be positive and finite"),
        ({"label_learning_rate": 0.0}, "label_learning_rate of RaTBPTT must be positive and finite"),
    ],
)
def test_bad_hyper_parameters_say_what_would_be_right(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build("rat_bptt", **options)
