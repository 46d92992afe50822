"""RaT-BPTT: a window of a long inner training by Adam is differentiated."""

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxdd import inner, methods, models
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


@jax.jit
@jax.value_and_grad
def plainly(learned, plan, begin, theta, batch):
    """Adam on the rows of each step up to the window's end; nothing before the window is differentiated."""
    network = models.build(MLP, (14, 14, 1), 4)

    def step(carry, t):
        constant = jax.tree.map(jax.lax.stop_gradient, carry)
        theta, mean, square = jax.tree.map(lambda old, new: jnp.where(t <= begin, old, new), constant, carry)
        images, labels = learned["images"][plan[t]], learned["labels"][plan[t]]
        slope = jax.grad(lambda theta: by_hand.cross_entropy(network.apply(theta, images, {})[0], labels))(theta)
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, slope)
        square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g**2, square, slope)

        def moved(p, m, s):
            return p - 0.02 * (m / (1 - 0.9 ** (t + 1))) / (jnp.sqrt(s / (1 - 0.999 ** (t + 1)) + 1e-16) + 1e-8)

        new = jax.tree.map(moved, theta, mean, square), mean, square
        return jax.tree.map(lambda old, new: jnp.where(t < begin + 2, new, old), carry, new), None

    zero = jax.tree.map(jnp.zeros_like, theta)
    (theta, *_), _ = jax.lax.scan(step, (theta, zero, zero), jnp.arange(4))
    return by_hand.cross_entropy(network.apply(theta, batch.images, {})[0], jax.nn.one_hot(batch.labels, 4))


def test_updates_are_those_of_the_formula(digits):
    """The second gradient of the images is cut; that of the labels is not, but they stay non-negative."""
    done = toys.updates(toys.build("rat_bptt", **OPTIONS, learn_labels=True), digits, seed=26)
    optimizers, rates = {leaf: by_hand.Adam() for leaf in ("images", "labels")}, {"images": 0.03, "labels": 0.05}
    places, lengths, running = [], [], None
    for update in done:
        plan, begin, theta = drawn(update.key)
        loss, slopes = plainly(update.before.params, plan, begin, theta, update.batch)
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
    (update,) = toys.updates(toys.build("rat_bptt", **{**OPTIONS, "place": "last"}), digits, count=1)
    plan, _, theta = drawn(update.key)
    loss, slopes = plainly(update.before.params, plan, 2, theta, update.batch)
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
        ({"per_class": 0}, "per_class of RaTBPTT must be at least 1 or None"),
        ({"inner_learning_rate": float("nan")}, "must be positive and finite"),
        ({"label_learning_rate": 0.0}, "label_learning_rate of RaTBPTT must be positive and finite"),
    ],
)
def test_bad_hyper_parameters_say_what_would_be_right(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build("rat_bptt", **options)
