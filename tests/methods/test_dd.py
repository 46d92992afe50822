"""Dataset Distillation: images and learned rates of a few steps of gradient descent."""

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from jaxdd import methods, models
from jaxdd.errors import JaxddError
from jaxdd.synthetic import clip_by_running_norm
from jaxdd.types import bound

MLP = "mlp(width=8, depth=1)"
OPTIONS = {
    "model": MLP,
    "ipc": 2,
    "steps": 2,
    "epochs": 2,
    "networks": 2,
    "target_batch": 20,
    "inner_learning_rate": 0.05,
    "decay_every": 2,
}
METHOD = methods.dd(**OPTIONS)


@pytest.fixture(scope="module")
def done(digits):
    return toys.updates(METHOD, digits, 3)


@jax.jit
@jax.value_and_grad
def plainly(learned, key, batch):
    """Of two networks: four steps, on one image of each class, on the other one, and so once more."""
    network = models.build(MLP, (14, 14, 1), 4)
    rates = jnp.log(1 + jnp.exp(learned["learning_rates"]))
    plan = jnp.array(2 * [[0, 2, 4, 6], [1, 3, 5, 7]])

    def loss(key):
        start = network.init(jax.random.split(key)[0])
        labels = jnp.repeat(jnp.eye(4), 2, axis=0)
        theta = by_hand.trained(network, start, learned["images"], labels, plan, rates)
        return by_hand.cross_entropy(network.apply(theta, batch.images, {})[0], jax.nn.one_hot(batch.labels, 4))

    return jnp.mean(jax.vmap(loss)(jax.random.split(key, 2)))


def test_updates_are_those_of_the_formula(done):
    """By Adam with b1 of a half, at a rate that is halved after every second update."""
    optimizers = {leaf: by_hand.Adam(b1=0.5) for leaf in ("images", "learning_rates")}
    for update, rate in zip(done, (0.01, 0.01, 0.005), strict=True):
        learned = {leaf: update.before.params[leaf] for leaf in optimizers}
        loss, slopes = plainly(learned, update.key, update.batch)
        assert float(update.metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
        by_hand.assert_stepped(update, slopes, optimizers, dict.fromkeys(optimizers, rate))
        np.testing.assert_array_equal(update.after.params["labels"], update.before.params["labels"])


@pytest.mark.endurance
def test_long_gradients_are_cut_where_it_is_asked_for(digits):
    """Of each leaf by itself, before Adam."""
    found = toys.updates(methods.dd(**OPTIONS, clip=1.05), digits, 4)
    clip, adam = clip_by_running_norm(factor=1.05), optax.adam(0.01, b1=0.5)
    leaves, cut = ("images", "learning_rates"), 0
    states = {leaf: (clip.init({}), adam.init(found[0].before.params[leaf])) for leaf in leaves}
    for update in found[:2]:
        slopes = plainly({leaf: update.before.params[leaf] for leaf in leaves}, update.key, update.batch)[1]
        for leaf in leaves:
            clipping, adams = states[leaf]
            shorter, clipping = clip.update({leaf: slopes[leaf]}, clipping)
            cut += not np.allclose(shorter[leaf], slopes[leaf])
            step, adams = adam.update(shorter[leaf], adams)
            expected = np.asarray(update.before.params[leaf] + step)
            by_hand.assert_near(update.after.params[leaf], expected, 1e-4)
            states[leaf] = clipping, adams
    assert cut
    plain = toys.updates(methods.dd(**OPTIONS), digits, 4)
    assert np.any(found[-1].after.params["images"] != plain[-1].after.params["images"])


def test_images_start_as_noise_and_rates_as_they_are_told(done):
    params = done[0].before.params
    images = np.asarray(params["images"])
    assert images.shape == (8, 14, 14, 1) and abs(images.mean()) < 0.1 and abs(images.std() - 1) < 0.1
    np.testing.assert_array_equal(params["labels"], np.repeat(np.eye(4), 2, axis=0))
    np.testing.assert_allclose(np.log1p(np.exp(params["learning_rates"])), np.full(4, 0.05), rtol=1e-5)


def test_a_set_for_a_fixed_initialisation_says_how_to_train_it(mnist, digits):
    """From the file alone, in NumPy: three steps from its network on four images teach four digits."""
    options = {"ipc": 1, "steps": 1, "initialisation": "fixed", "networks": 3, "target_batch": 200}
    method = bound(
        methods.dd(model=MLP, **options, inner_learning_rate=0.1, learning_rate=0.05, decay_every=100), digits
    )
    done = toys.updates(method, digits, 200, seed=1)  # of whose updates none jumps, as learned rates can
    distilled = jax.jit(method.distilled)(done[-1].after)
    held_out = toys.few(mnist.validation, every=1)
    test, labels = np.float64(held_out.images).reshape(-1, 196), np.asarray(held_out.labels.values)

    def accuracy(images, theta):
        """After the set's steps, by the chain rule written out."""
        theta = {name: np.float64(leaf) for name, leaf in theta.items()}
        w, b, v, c = (theta[f"{layer}/{kind}"] for layer in ("dense_0", "head") for kind in ("kernel", "bias"))
        images = np.float64(images).reshape(-1, 196)
        for rows, rate in zip(distilled.plan, np.float64(distilled.learning_rates), strict=True):
            x, y = images[rows], np.eye(4)[np.asarray(distilled.labels)[rows]]
            hidden = np.maximum(x @ w + b, 0)
            odds = np.exp(hidden @ v + c)
            error = (odds / odds.sum(1, keepdims=True) - y) / len(x)
            back = error @ v.T * (hidden > 0)
            w, b = w - rate * x.T @ back, b - rate * back.sum(0)
            v, c = v - rate * hidden.T @ error, c - rate * error.sum(0)
        return np.mean((np.maximum(test @ w + b, 0) @ v + c).argmax(1) == labels)

    assert distilled.plan.shape == (3, 4) and len(distilled.learning_rates) == 3
    real = np.stack([test[labels == label][0] for label in range(4)])
    ours = accuracy(distilled.images, distilled.theta0)
    assert ours > 0.65 and ours > accuracy(real, distilled.theta0) + 0.15
    # One and the same network at every update, and however many were asked for.
    kept = done[0].before.kept[0]["dense_0"]["kernel"]
    np.testing.assert_array_equal(distilled.theta0["dense_0/kernel"], kept)
    # Every step has a rate of its own; none ever was negative.
    rates = np.stack([jax.nn.softplus(update.after.params["learning_rates"]) for update in done[::10]])
    assert rates.min() > 0 and np.ptp(rates[-1]) > 1e-2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ipc": 3, "steps": 2}, "steps of DD must be a divisor of ipc, 3"),
        ({"epochs": 0}, "epochs of DD must be at least 1"),
        ({"initialisation": "fixd"}, "initialisation of DD must be one of random, fixed"),
        ({"learning_rate": -1.0}, "learning_rate of DD must be positive and finite"),
        ({"inner_learning_rate": 0.0}, "inner_learning_rate of DD must be positive and finite"),
        ({"decay_every": 0}, "decay_every of DD must be at least 1"),
        ({"clip": 1.0}, "clip of DD must be more than 1 or None"),
    ],
)
def test_bad_hyper_parameters_say_what_would_be_right(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build("dd", **options)
