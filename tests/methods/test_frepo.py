"""FRePo: kernel ridge regression on the features of a pool."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdd
from jaxdd import data, evaluation, inner, methods, models
from jaxdd.errors import JaxddError
from jaxdd.types import TRAINED_FEATURES, Batch

MODEL = "wide_convnet(width=4, depth=2)"
SMALL = {"model": MODEL, "pool": 3, "target_batch": 50, "target_block": 16, "learning_rate": 0.01, "decay_steps": 100}


@pytest.fixture(scope="module")
def mnist():
    dataset = data.load("mnist_5k")
    transform = data.fit_transform("standardize", dataset.train.pixels())
    return [data.real_data(s, transform, 10) for s in (dataset.train, dataset.validation, dataset.test)]


def one_update(train, **options):
    method = methods.build("frepo", **{**SMALL, **options})
    state = method.init(jax.random.key(0), train)
    chosen = method.sample(jax.random.key(1), train.labels)
    batch = Batch(train.images[chosen], train.labels.values[chosen])
    return state, batch, *method.update(jax.random.key(2), state, batch)


@pytest.mark.parametrize("flip", [False, True])
def test_the_loss_is_that_of_the_formula(mnist, flip):
    state, batch, _, metrics = one_update(mnist[0], flip=flip)
    network = models.build(MODEL, (28, 28, 1), 10)
    key_choose, _ = jax.random.split(jax.random.key(2))
    slot = inner.pool(network, None, size=3).choose(key_choose, 1)[0]
    theta, stats = jax.tree.map(lambda leaf: leaf[slot], (state.pool.theta, state.pool.stats))
    images, labels = state.params["images"], np.asarray(state.params["labels"], np.float64)
    top = np.sort(labels)[:, -2:]
    margin = -np.minimum(top[:, 1] - top[:, 0], 0.1).mean()
    if flip:
        images, labels = jnp.concatenate([images, images[:, :, ::-1]]), np.concatenate([labels, labels])
    f_s, f_t = (np.asarray(network.features(theta, x, stats)[0], np.float64) for x in (images, batch.images))
    k_ss = f_s @ f_s.T
    k_ss += 1e-6 * np.trace(k_ss) / len(k_ss) * np.eye(len(k_ss))
    predictions = f_t @ f_s.T @ np.linalg.solve(k_ss, labels)
    error = predictions - (np.eye(10)[batch.labels] - 0.1)
    np.testing.assert_allclose(metrics["loss"], 0.5 * (error**2).sum(1).mean() + margin, rtol=1e-3)
    np.testing.assert_allclose(metrics["batch_accuracy"], (predictions.argmax(1) == batch.labels).mean(), atol=0.03)


@pytest.mark.parametrize("float64", [False, True])
def test_the_solve_may_be_in_float64_and_the_file_says_so(mnist, float64):
    method = methods.build("frepo", **SMALL, float64=float64)
    state = jax.eval_shape(method.init, jax.random.key(0), mnist[0])
    batch = Batch(mnist[0].images[:50], mnist[0].labels.values[:50])
    assert ("f64" in str(jax.make_jaxpr(method.update)(jax.random.key(0), state, batch))) == float64
    predictor = evaluation.Predictor.of(dict(jax.eval_shape(method.distilled, state).kernel), (28, 28, 1), 10)
    assert predictor == evaluation.Predictor(None, 1e-6, float64)


def test_blocks_of_real_images_change_nothing(mnist):
    _, _, whole, _ = one_update(mnist[0], target_block=None)
    _, _, blocked, _ = one_update(mnist[0])
    np.testing.assert_allclose(whole.params["images"], blocked.params["images"], atol=1e-5)


def test_one_network_of_the_pool_is_trained_on_the_new_set(mnist):
    before, _, after, _ = one_update(mnist[0])
    moved = [
        not np.array_equal(a, b)
        for a, b in zip(before.pool.theta["head"]["kernel"], after.pool.theta["head"]["kernel"], strict=True)
    ]
    assert sum(moved) == 1
    assert (after.pool.age - before.pool.age).sum() == 1
    statistics = jax.tree.leaves(jax.tree.map(lambda a, b: jnp.abs(a - b).sum(), before.pool.stats, after.pool.stats))
    assert max(map(float, statistics)) > 0  # batch norm in training mode


def test_it_learns_and_its_networks_features_regress(mnist):
    train, _, test = mnist
    method = methods.build("frepo", **{**SMALL, "target_batch": 200, "decay_steps": 60})
    outcome = jaxdd.run(method, train, steps=60, log_every=1, devices=jax.devices()[:1], progress=False)
    losses = [row["loss"] for row in outcome.history]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    assert dict(outcome.distilled.kernel)["name"] == TRAINED_FEATURES
    assert outcome.distilled.label_convention == "centred"
    network = models.build("wide_convnet(width=4, depth=2, norm='none')", (28, 28, 1), 10)
    protocol = evaluation.Protocol("short", "for tests", (3e-3,), steps=50)
    score = evaluation.evaluate(
        network,
        outcome.distilled,
        None,
        Batch(test.images[:500], test.labels.values[:500]),
        protocol,
        num_networks=2,
        key=jax.random.key(0),
        predictor=evaluation.Predictor(None, float64=True),
    )
    assert len(score.kernel_accuracies) == 2
    assert min(*score.kernel_accuracies, *score.accuracies) > 0.3


def test_resumed_it_is_the_same_bit_for_bit(mnist, tmp_path):
    method = methods.build("frepo", **SMALL)
    options = {"devices": jax.devices()[:1], "progress": False}
    whole = jaxdd.run(method, mnist[0], steps=6, **options)
    jaxdd.run(method, mnist[0], steps=3, workdir=tmp_path, checkpoint_seconds=0.0, **options)
    resumed = jaxdd.run(method, mnist[0], steps=6, workdir=tmp_path, resume=True, **options)
    assert resumed.resumed_from == 3
    for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(resumed.state), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pool": 0}, "pool"),
        ({"networks": 4, "pool": 3}, "networks"),
        ({"precision": "bf16"}, "precision"),
        ({"max_age": 0}, "max_age"),
        ({"ridge": -1.0}, "ridge"),
        ({"ipc": 0}, "ipc"),
    ],
)
def test_bad_hyper_parameters(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build("frepo", **options)
