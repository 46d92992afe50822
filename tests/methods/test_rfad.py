"""RFAD: kernel ridge regression on random features."""

import jax
import numpy as np
import pytest

import jaxdd
from jaxdd import data, evaluation, kernels, methods, models
from jaxdd.engine.placement import make_mesh
from jaxdd.errors import JaxddError
from jaxdd.inner.networks import share_networks
from jaxdd.types import Batch

MODEL = "convnet(width=4, depth=2, norm='none', initializer='he')"
SMALL = {"model": MODEL, "networks": 2, "target_batch": 50, "target_block": 16}


@pytest.fixture(scope="module")
def mnist():
    dataset = data.load("mnist_5k")
    transform = data.fit_transform("standardize", dataset.train.pixels())
    return [data.real_data(s, transform, 10) for s in (dataset.train, dataset.test)]


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_the_loss_is_that_of_the_mean_kernel(mnist, loss):
    method = methods.build("rfad", **SMALL, loss=loss)
    state = method.init(jax.random.key(0), mnist[0])
    chosen = method.sample(jax.random.key(1), mnist[0].labels)
    batch = Batch(mnist[0].images[chosen], mnist[0].labels.values[chosen])
    _, metrics = method.update(jax.random.key(2), state._replace(log_scale=np.float32(0.5)), batch)
    network = models.build(MODEL, (28, 28, 1), 10)

    def features(key, images):
        theta, stats = network.init(key)
        return network.features(theta, images, stats)[0]

    kernel = kernels.conjugate_kernel(features, jax.random.split(jax.random.key(2), 2), w_std=2**0.5, b_std=0.1)
    images, labels = state.params["images"], np.asarray(state.params["labels"], np.float64)
    k_ss, k_ts = (np.asarray(k, np.float64) for k in (kernel(images), kernel(batch.images, images)))
    k_ss += 5e-3 * np.trace(k_ss) / len(k_ss) * np.eye(len(k_ss))
    predictions = k_ts @ np.linalg.solve(k_ss, labels)
    if loss == "squared_error":
        expected = 0.5 * ((predictions - (np.eye(10)[batch.labels] - 0.1)) ** 2).sum(1).mean()
    else:
        logits = np.exp(0.5) * predictions
        expected = (np.log(np.exp(logits).sum(1)) - logits[np.arange(len(logits)), batch.labels]).mean()
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-4)
    np.testing.assert_allclose(metrics["batch_accuracy"], (predictions.argmax(1) == batch.labels).mean(), atol=0.03)


def test_it_learns_and_its_file_predicts(mnist, tmp_path):
    train, test = mnist
    method = methods.build("rfad", **{**SMALL, "target_batch": 200, "learning_rate": 0.02})
    outcome = jaxdd.run(method, train, steps=40, log_every=1, devices=jax.devices()[:1], progress=False)
    losses = [row["loss"] for row in outcome.history]
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:5])
    assert outcome.state.log_scale > 0
    predictor = evaluation.Predictor.of(dict(outcome.distilled.kernel), (28, 28, 1), 10)
    some = Batch(test.images[:500], test.labels.values[:500])
    random = evaluation.random_real(jax.random.key(0), train, 1, like=outcome.distilled, predictor=predictor)
    ours, theirs = (evaluation.kernel_accuracy(predictor, one, some) for one in (outcome.distilled, random))
    assert ours == evaluation.kernel_accuracy(predictor, outcome.distilled, some)
    assert ours > max(0.4, theirs)


@pytest.mark.parametrize("networks", [4, 1])
def test_devices_share_the_networks_or_the_real_images(mnist, networks):
    method = methods.build("rfad", **{**SMALL, "networks": networks, "target_batch": 320, "target_block": None})
    key = jax.random.key(0)
    state = method.init(key, mnist[0])
    batch = Batch(mnist[0].images[:320], mnist[0].labels.values[:320])
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
    [({"networks": 0}, "networks"), ({"loss": "mse"}, "loss"), ({"precision": "x"}, "precision")],
)
def test_bad_hyper_parameters(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build("rfad", **options)
