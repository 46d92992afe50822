"""RFAD: kernel ridge regression on random features."""

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxdd import evaluation, methods, models
from jaxdd.engine.placement import make_mesh
from jaxdd.errors import JaxddError
from jaxdd.inner.networks import share_networks
from jaxdd.types import Batch, bound

MLP = "mlp(width=64, depth=1)"
OPTIONS = {
    "model": MLP, "ipc": 2, "networks": 2, "target_batch": 40, "block": 16, "learning_rate": 0.02,
    "scale_learning_rate": 0.05, "w_std": 1.2, "b_std": 0.3, "ridge": 0.02,
}  # fmt: skip


@pytest.fixture(scope="module")
def done(digits):
    return toys.updates(toys.build("rfad", **OPTIONS), digits, 40)


@jax.jit
@jax.value_and_grad
def plainly(learned, key, batch, squared):
    """With the mean of two networks' kernels."""
    network = models.build(MLP, (14, 14, 1), 4)

    def kernels(key):
        theta, _ = network.init(key)
        f_s, f_t = (network.features(theta, images, {})[0] for images in (learned["images"], batch.images))
        return 1.2**2 * f_s @ f_s.T / 64 + 0.3**2, 1.2**2 * f_t @ f_s.T / 64 + 0.3**2

    k_ss, k_ts = (jnp.mean(k, axis=0) for k in jax.vmap(kernels)(jax.random.split(key, 2)))
    k_ss += 0.02 * jnp.trace(k_ss) / 8 * jnp.eye(8)
    predictions = k_ts @ jnp.linalg.solve(k_ss, learned["labels"])
    labels = jax.nn.one_hot(batch.labels, 4)
    half_square = 0.5 * jnp.mean(jnp.sum((predictions - (labels - 1 / 4)) ** 2, axis=1))
    scaled = by_hand.cross_entropy(jnp.exp(learned["scale"]) * predictions, labels)
    return jnp.where(squared, half_square, scaled)


def with_scale(state):
    return {**state.params, "scale": state.log_scale}


def test_updates_are_those_of_the_formula(done):
    """By AdaBelief, the scale of the predictions at a rate of its own."""
    optimizers, of_scale = {leaf: by_hand.AdaBelief() for leaf in ("images", "labels")}, by_hand.AdaBelief()
    for update in done[:2]:
        loss, slopes = plainly(with_scale(update.before), update.key, update.batch, False)
        assert float(update.metrics["loss"]) == pytest.approx(float(loss), rel=1e-4)
        by_hand.assert_stepped(update, slopes, optimizers, dict.fromkeys(optimizers, 0.02))
        moved = float(update.before.log_scale) - float(update.after.log_scale)
        assert moved == pytest.approx(0.05 * float(of_scale.step(slopes["scale"])), rel=3e-3)
    np.testing.assert_allclose(done[0].before.params["labels"], np.repeat(np.eye(4), 2, axis=0) - 1 / 4)
    assert done[0].before.log_scale == 0 and np.bincount(done[0].batch.labels).tolist() == [10, 10, 10, 10]


def test_the_loss_may_be_the_squared_error(digits):
    """Which leaves the scale as it is."""
    (update,) = toys.updates(toys.build("rfad", **OPTIONS, loss="squared_error"), digits, count=1)
    loss, slopes = plainly(with_scale(update.before), update.key, update.batch, True)
    assert float(update.metrics["loss"]) == pytest.approx(float(loss), rel=1e-4)
    by_hand.assert_stepped(update, slopes, {"images": by_hand.AdaBelief()}, {"images": 0.02})
    assert update.after.log_scale == 0


def test_it_learns_and_its_file_predicts(done, mnist, digits):
    """With four times as many networks, and always the same."""
    losses = [float(update.metrics["loss"]) for update in done]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5]) and done[-1].after.log_scale > 0
    distilled = jax.jit(bound(toys.build("rfad", **OPTIONS), digits).distilled)(done[-1].after)
    facts = {"name": "random_features", "model": MLP, "networks": 8, "seed": 0, "w_std": 1.2, "b_std": 0.3}
    assert dict(distilled.kernel) == {**facts, "ridge": 0.02, "float64": True}
    predictor = evaluation.Predictor.of(dict(distilled.kernel), (14, 14, 1), 4)
    held_out = toys.few(mnist.validation, every=1).examples
    first = jax.jit(bound(toys.build("rfad", **OPTIONS), digits).distilled)(done[0].before)
    ours, real = (evaluation.kernel_accuracy(predictor, one, held_out) for one in (distilled, first))
    assert ours > max(0.8, real + 0.03) and ours == evaluation.kernel_accuracy(predictor, distilled, held_out)


@pytest.mark.parametrize("networks", [4, pytest.param(1, marks=pytest.mark.endurance)])
def test_devices_share_the_networks_or_the_real_images(networks, digits):
    options = {"model": MLP, "networks": networks, "target_batch": 320, "block": None, "float64": False}
    method = bound(toys.build("rfad", **options), digits)
    key = jax.random.key(0)
    state = jax.jit(method.init)(key, digits)
    batch = Batch.of(digits.images[:320], digits.labels.values[:320])
    one, four = (
        jax.jit(share_networks(method.update, make_mesh(jax.devices()[:count]))).lower(key, state, batch).compile()
        for count in (1, 4)
    )
    if networks == 4:  # one each; a loop's body counts once, so it is loops that tell
        assert four.as_text().count(" while(") < one.as_text().count(" while(")
    else:
        assert four.cost_analysis()["flops"] < 0.5 * one.cost_analysis()["flops"]
    (alone, alone_metrics), (shared, metrics) = one(key, state, batch), four(key, state, batch)
    np.testing.assert_allclose(metrics["loss"], alone_metrics["loss"], rtol=1e-5)
    np.testing.assert_allclose(shared.params["images"], alone.params["images"], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ipc": 0}, "ipc of RFAD must be at least 1"),
        ({"networks": 0}, "networks of RFAD must be at least 1"),
        ({"loss": "mse"}, "loss of RFAD must be one of cross_entropy, squared_error"),
        ({"ridge": -1.0}, "ridge of RFAD must be at least 0"),
        ({"scale_learning_rate": 0.0}, "scale_learning_rate of RFAD must be positive and finite"),
    ],
)
def test_bad_hyper_parameters(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build("rfad", **options)
