"""RCIG: implicit gradients through linearised networks whose head is solved exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdd
from jaxdd import data, inner, methods, models
from jaxdd.errors import JaxddError
from jaxdd.types import TRAINED_FEATURES, Batch

MLP, CONVNET = "mlp(width=16, depth=1)", "wide_convnet(width=4, depth=2, norm='none')"
SMALL = {"model": MLP, "pool": 3, "pool_steps": 5, "target_batch": 50, "target_block": 16, "learning_rate": 0.02}
ONE_DEVICE = {"devices": jax.devices()[:1], "progress": False}


@pytest.fixture(scope="module")
def mnist():
    dataset = data.load("mnist_5k")
    return data.real_data(dataset.train, data.fit_transform("standardize", dataset.train.pixels()), 10)


def one_update(train, **options):
    method = methods.build("rcig", **{**SMALL, **options})
    state = method.init(jax.random.key(0), train)
    chosen = method.sample(jax.random.key(1), train.labels)
    batch = Batch(train.images[chosen], train.labels.values[chosen])
    return state, batch, *jax.jit(method.update)(jax.random.key(2), state, batch)


def first_gradient(state, name):
    """AdaBelief's mean after one update is a tenth of it."""
    return 10 * np.asarray(optax.tree_utils.tree_get(state.opt_state.inner_states[name], "mu")[name], np.float64)


def unrolled(network, theta, params, batch, *, ridge, flip, steps):
    """Loss, size of the inner gradient left, total and direct gradient, by gradient descent on the inner problem.

    In float64 and by the book: the Jacobian is written out, both parts of the model are penalised alike, and the head
    is the minimum of the inner loss, not a term of it.
    """

    def model(x):
        body = {name: leaf for name, leaf in theta.items() if name != "head"}
        jacobian = jax.jacrev(lambda b: network.apply({**body, **b, "head": theta["head"]}, x, {})[0])(body)
        jacobian = [leaf.reshape(len(x), 10, -1) for leaf in jax.tree.leaves(jacobian)]
        return network.features(theta, x, {})[0], jnp.concatenate(jacobian, axis=2)

    targets, j_t = model(batch.images)

    def parts(params):
        x, y = params["images"], params["labels"]
        if flip:
            x, y = jnp.concatenate([x, jnp.flip(x, 2)]), jnp.concatenate([y, y])
        features, j_s = model(x)
        penalty = ridge * jnp.trace(features @ features.T) / len(x)
        dual = jnp.linalg.inv(features @ features.T + penalty * jnp.eye(len(x)))
        return features, j_s, y, penalty, lambda w: features.T @ dual @ (y - j_s @ w)

    def inner_loss(w, params):
        features, j_s, y, penalty, head = parts(params)
        v = head(w)
        return 0.5 * jnp.sum((features @ v + j_s @ w - y) ** 2) + 0.5 * penalty * (jnp.sum(v**2) + jnp.sum(w**2))

    def outer_loss(w, params):
        y = params["labels"]
        predictions = jax.nn.log_softmax(j_t @ w + targets @ parts(params)[-1](w))
        top = jax.lax.top_k(y, 2)[0]
        margin = jnp.minimum(top[:, 0] - top[:, 1], 0.05).mean()
        return -jnp.mean(jnp.take_along_axis(predictions, batch.labels[:, None], 1)) - margin

    origin = jnp.zeros(j_t.shape[2])
    slope = jax.grad(inner_loss)
    _, j_s, _, penalty, _ = parts(params)
    curvature = penalty + jnp.linalg.norm(j_s.reshape(-1, len(origin)), 2) ** 2  # at most: the head only lowers it

    def trained(params):
        return jax.lax.scan(lambda w, _: (w - slope(w, params) / curvature, None), origin, length=steps)[0]

    minimum = trained(params)
    loss, total = jax.value_and_grad(lambda p: outer_loss(trained(p), p))(params)
    left = jnp.linalg.norm(slope(minimum, params)) / jnp.linalg.norm(slope(origin, params))
    return loss, left, total, jax.grad(outer_loss, 1)(minimum, params)


@pytest.mark.parametrize(("model", "flip"), [(MLP, False), (CONVNET, True)])
def test_its_gradient_is_that_of_an_unrolled_converged_inner_problem(mnist, x64, model, flip):
    """Whose implicit term is scaled down to the norm of the direct one where it is longer, leaf by leaf."""
    train = mnist._replace(images=mnist.images[:, ::4, ::4])  # small, for Jacobians
    options = {"model": model, "flip": flip, "ridge": 1.0, "inner_steps": 60, "hessian_steps": 60}
    state, batch, after, metrics = one_update(train, **options)
    network = models.build(model, train.images.shape[1:], 10)
    slot = inner.pool(network, None, size=3).choose(jax.random.split(jax.random.key(2), 3)[0], 1)[0]
    given = jax.tree.map(lambda leaf: leaf[slot], state.pool.theta), state.params, batch
    with x64():
        precise = jax.tree.map(lambda a: jnp.asarray(a, "float64") if a.dtype == jnp.float32 else a, given)
        reference = jax.jit(lambda *given: unrolled(network, *given, ridge=1.0, flip=flip, steps=500))(*precise)
    loss, left, total, direct = jax.tree.map(np.asarray, reference)
    assert left < 1e-4
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-4)
    for name in ("images", "labels"):
        implicit, limit = total[name] - direct[name], np.linalg.norm(direct[name])
        implicit *= min(1, limit / np.linalg.norm(implicit))
        error = np.linalg.norm(first_gradient(after, name) - direct[name] - implicit)
        assert error < 1e-3 * np.linalg.norm(implicit)


def test_blocks_of_real_images_change_nothing(mnist):
    _, _, whole, _ = one_update(mnist, target_block=None, ridge=1.0)
    _, _, blocked, _ = one_update(mnist, ridge=1.0)
    for name in ("images", "labels"):
        one, other = (first_gradient(state, name) for state in (whole, blocked))
        assert np.linalg.norm(one - other) < 1e-3 * np.linalg.norm(one)


def test_one_network_of_the_pool_is_trained_up_to_so_many_steps(mnist):
    before, _, after, _ = one_update(mnist)
    grown = np.asarray(after.pool.age - before.pool.age)
    assert np.count_nonzero(grown) == 1
    assert 1 <= grown.sum() <= 5
    moved = [
        not np.array_equal(*pair)
        for pair in zip(before.pool.theta["head"]["kernel"], after.pool.theta["head"]["kernel"], strict=True)
    ]
    np.testing.assert_array_equal(moved, grown > 0)
    assert after.log_scale != 0


def test_it_learns_and_the_average_is_the_result(mnist):
    method = methods.build("rcig", **{**SMALL, "model": CONVNET, "target_batch": 200, "target_block": None})
    outcome = jaxdd.run(method, mnist, steps=40, log_every=1, **ONE_DEVICE)
    losses = [row["loss"] for row in outcome.history]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert np.mean([row["batch_accuracy"] for row in outcome.history[-5:]]) > 0.6
    np.testing.assert_array_equal(outcome.distilled.params["images"], outcome.state.average["images"])
    assert not np.array_equal(outcome.state.average["images"], outcome.state.params["images"])
    assert dict(outcome.distilled.kernel)["name"] == TRAINED_FEATURES
    assert (outcome.distilled.label_convention, outcome.distilled.iterate) == ("centred", "average")


def test_resumed_it_is_the_same_bit_for_bit(mnist, tmp_path):
    method = methods.build("rcig", **SMALL)
    whole = jaxdd.run(method, mnist, steps=4, **ONE_DEVICE)
    jaxdd.run(method, mnist, steps=2, workdir=tmp_path, checkpoint_seconds=0.0, **ONE_DEVICE)
    resumed = jaxdd.run(method, mnist, steps=4, workdir=tmp_path, resume=True, **ONE_DEVICE)
    assert resumed.resumed_from == 2
    for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(resumed.state), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ipc": 0}, "ipc of RCIG must be at least 1, got 0"),
        ({"pool": 0}, "pool of RCIG must be at least 1, got 0"),
        ({"max_age": 0}, "max_age of RCIG must be at least 1"),
        ({"pool_steps": 0}, "pool_steps of RCIG must be at least 1"),
        ({"inner_steps": 0}, "inner_steps of RCIG must be at least 1"),
        ({"hessian_steps": 0}, "hessian_steps of RCIG must be at least 1"),
        ({"target_block": 0}, "target_block of RCIG must be at least 1 or None"),
        ({"precision": "bf16"}, "precision of RCIG must be one of"),
        ({"learning_rate": 0.0}, "learning_rate of RCIG must be positive and finite"),
        ({"ema": 1.0}, "ema of RCIG must be at least 0 and under 1"),
        ({"ridge": -1.0}, "ridge of RCIG must be at least 0"),
        ({"networks": 2}, "option of RCIG"),
    ],
)
def test_bad_hyper_parameters(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build("rcig", **options)
