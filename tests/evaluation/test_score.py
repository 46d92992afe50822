import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import models
from jaxdd.errors import JaxddError
from jaxdd.evaluation import Predictor, Score, arrays, evaluate, kernel_accuracy
from jaxdd.evaluation.accuracy import accuracy
from jaxdd.kernels import conjugate_kernel, kernel_ridge_predict, ntk
from jaxdd.training import Fitted, Protocol, fit
from jaxdd.types import Distilled, Examples

SHORT = Protocol("short", "", (3e-3,), steps=60)


@pytest.fixture(scope="module")
def mnist(mnist):
    return mnist.train, mnist.validation.examples, mnist.test.examples


@pytest.fixture(scope="module")
def mlp():
    return models.build("mlp(width=32, depth=1)", (28, 28, 1), 10)


def some(train, per_class, convention="hard", seed=0):
    classes, rng = np.asarray(train.labels.values), np.random.default_rng(seed)
    chosen = np.concatenate([rng.choice(np.flatnonzero(classes == c), per_class, replace=False) for c in range(10)])
    labels = classes[chosen]
    if convention != "hard":
        labels = np.eye(10, dtype=np.float32)[labels] - np.float32(0.1 if convention == "centred" else 0)
    return Distilled(np.asarray(train.images)[chosen], labels, label_convention=convention)


def test_a_score_is_a_function_of_its_key(mnist, mlp, key):
    train, _, test = mnist
    one, same, other = (evaluate(mlp, some(train, 2), None, test, SHORT, num_networks=3, key=k)
                        for k in (key, key, jax.random.key(1)))  # fmt: skip
    assert one == same
    assert one.accuracies != other.accuracies
    assert one.accuracies[0] != one.accuracies[1]


def test_more_images_are_better(mnist, mlp, key):
    train, _, test = mnist
    means = [evaluate(mlp, some(train, n), None, test, SHORT, num_networks=3, key=key).mean for n in (2, 5)]
    assert 0.3 < means[0] < means[1] - 0.05 < 0.85


@pytest.mark.parametrize(
    ("loss", "conventions"),
    [("auto", ("hard", "probability")), ("squared_error", ("hard", "probability", "centred")), ("auto", ("centred",))],
)
def test_equal_labels_in_any_convention_train_equally(mnist, mlp, key, loss, conventions):
    train, _, test = mnist
    protocol = dataclasses.replace(SHORT, loss=loss)
    scores = [evaluate(mlp, some(train, 5, c), None, test, protocol, num_networks=3, key=key) for c in conventions]
    for score in scores:
        np.testing.assert_allclose(score.accuracies, scores[0].accuracies, atol=4e-3)
        assert score.mean > 0.4


def test_networks_per_batch_changes_nothing(mnist, key):
    train, *real = mnist
    network = models.build("convnet(width=4, depth=1)", (14, 14, 1), 10)
    support = some(train, 1)
    support = dataclasses.replace(support, images=np.asarray(support.images)[:, ::2, ::2])
    # As many of both: programs are for a number of images.
    validation, test = (
        Examples(*(np.asarray(leaf)[:: len(leaf) // 200][:200] for leaf in (images[:, ::2, ::2], labels)))
        for images, labels in jax.device_get(real)
    )
    protocol = Protocol("grid", "", (1e-3, 1e-2), steps=20)
    one, two = (
        evaluate(network, support, validation, test, protocol, num_networks=3, key=key, networks_per_batch=b)
        for b in (1, 2)
    )
    assert one.learning_rate == two.learning_rate
    np.testing.assert_allclose(one.accuracies, two.accuracies, atol=0.011)
    np.testing.assert_allclose(one.selection, two.selection, atol=0.011)
    assert len(set(one.accuracies)) > 1


def test_accuracy_in_blocks(mnist, mlp, monkeypatch):
    _, _, test = mnist
    rng = np.random.default_rng(3)
    theta, stats = jax.eval_shape(jax.vmap(mlp.init), jax.random.split(jax.random.key(3), 2))
    trained = Fitted(jax.tree.map(lambda leaf: 0.1 * rng.normal(size=leaf.shape).astype(np.float32), theta), stats)
    part = Examples(*(np.asarray(leaf)[::3] for leaf in test))
    logits = jax.jit(jax.vmap(lambda theta: mlp.apply(theta, part.images, {})[0]))(trained.theta)
    expected = (np.argmax(logits, 2) == part.labels[None]).mean(1)
    by_kernel = kernel_directly(mnist, part)
    for block in (1000, 100):
        monkeypatch.setattr(arrays, "BLOCK", block)
        np.testing.assert_allclose(accuracy(mlp, trained, part), expected, rtol=1e-6)
        assert kernel_accuracy(Predictor(ntk), some(mnist[0], 1), part) == pytest.approx(by_kernel, abs=1e-6)


def kernel_directly(mnist, test):
    support = some(mnist[0], 1, "centred")

    @jax.jit
    def predict(images):
        return kernel_ridge_predict(ntk(images, support.images), ntk(support.images), support.labels)

    return float(np.mean(np.argmax(predict(test.images), 1) == np.asarray(test.labels)))


@pytest.mark.parametrize("broken", ["repeated", "diverged"])
def test_a_kernel_that_cannot_be_solved_is_an_error(mnist, broken):
    train, _, test = mnist
    support = some(train, 2, "centred")
    # Whole numbers and a division by 256: the kernel itself is the same in both precisions.
    kernel = conjugate_kernel(lambda x: jnp.round(x.reshape(len(x), -1)[:, 264:520]))
    if broken == "repeated":
        support = Distilled(
            np.repeat(support.images, 20, 0), np.repeat(support.labels, 20, 0), label_convention="centred"
        )
    else:
        images = support.images.copy()
        images[3] = np.nan
        support = dataclasses.replace(support, images=images)
    sentence = "kernel ridge regression failed: .* not positive definite at float32; use a larger ridge or float64"
    with pytest.raises(JaxddError, match=sentence):
        kernel_accuracy(Predictor(kernel, 1e-9), support, test)
    if broken == "repeated":
        assert kernel_accuracy(Predictor(kernel, 1e-9, float64=True), support, test) > 0.2
    else:
        with pytest.raises(JaxddError, match=r"not positive definite at float64; use a larger ridge\.$"):
            kernel_accuracy(Predictor(kernel, float64=True), support, test)


def test_the_best_rate_on_validation_is_taken_and_a_diverging_one_is_no_accident(mnist, mlp, key):
    train, validation, test = mnist
    protocol = Protocol("grid", "", (1e-5, 0.1, 1e30), steps=40, optimizer="sgd", momentum=0.5)
    score = evaluate(mlp, some(train, 2), validation, test, protocol, num_networks=2, key=key)
    assert score.selected_on == "validation"
    assert [rate for rate, _ in score.selection] == list(protocol.learning_rates)
    assert score.learning_rate == max(score.selection, key=lambda pair: pair[1])[0] == 0.1
    assert score.selection[2][1] < 0.2
    diverged = evaluate(mlp, some(train, 2), None, test, dataclasses.replace(protocol, learning_rates=(1e30,)), key=key)
    assert all(0.05 < a < 0.2 for a in diverged.accuracies)
    assert diverged.selected_on == "none"


def test_networks_take_several_sets_in_turn(mnist, mlp, key):
    train, _, test = mnist
    sets = [some(train, 2, seed=s) for s in (0, 1)]
    both = evaluate(mlp, sets, None, test, SHORT, num_networks=3, key=key)
    first, second = (evaluate(mlp, s, None, test, SHORT, num_networks=3, key=key) for s in sets)
    expected = (first.accuracies[0], second.accuracies[1], first.accuracies[2])
    np.testing.assert_allclose(both.accuracies, expected, atol=2e-3)
    assert abs(first.accuracies[0] - second.accuracies[0]) > 5e-3


def test_statistics():
    score = Score((0.5, 0.7), 0.1, "p")
    assert score.mean == pytest.approx(0.6)
    assert score.std == pytest.approx(np.sqrt(0.02))
    assert score.standard_error == pytest.approx(0.1)
    assert Score((0.5,), 0.1, "p").std == 0


def linear(n, classes):
    return models.from_functions(lambda key: jnp.zeros((n, classes)), lambda theta, x: x.reshape(len(x), -1) @ theta)


def test_every_example_once_an_epoch():
    """One-hot images make the rows of a linear network independent: each moves once for each time it is seen."""
    n, batch = 12, 3
    labels = np.eye(4, dtype=np.float32)[np.arange(n) % 4] - np.float32(0.25)
    protocol = Protocol("p", "", (1.0,), epochs=1, batch_size=batch, optimizer="sgd", schedule="constant")
    trained = fit(
        linear(n, 4), np.eye(n, dtype=np.float32).reshape(1, n, n, 1, 1), labels[None], protocol, np.ones(2),
        jax.random.split(jax.random.key(0), 2), label_convention="centred",
    )  # fmt: skip
    for theta in trained.theta:
        np.testing.assert_allclose(theta, labels / batch, rtol=1e-6)


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_optimisers_are_their_formulas(optimizer, schedule, warmup):
    rate, decay, momentum, steps = 0.1, 0.05, 0.9, 8
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 5)), rng.normal(size=(6, 3))
    protocol = Protocol(
        "p", "", (rate,), steps=steps, optimizer=optimizer, schedule=schedule, warmup=warmup, weight_decay=decay,
        momentum=momentum,
    )  # fmt: skip
    w, first, second = np.zeros((5, 3)), 0, 0
    for t in range(steps):
        gradient = x.T @ (x @ w - y) / 6
        shape = 1.0 if schedule == "constant" else 0.5 * (1 + np.cos(np.pi * (t - warmup) / (steps - warmup)))
        lr = rate * (t / warmup if t < warmup else shape)
        if optimizer == "sgd":
            first = momentum * first + gradient + decay * w
            w = w - lr * first
        else:
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            direction = first / (1 - 0.9 ** (t + 1)) / (np.sqrt(second / (1 - 0.999 ** (t + 1))) + 1e-8)
            w = w - lr * (direction + decay * w)
    trained = fit(
        linear(5, 3), np.float32(x).reshape(1, 6, 5, 1, 1), np.float32(y)[None], protocol,
        [rate], jax.random.split(jax.random.key(0), 1), label_convention="centred",
    )  # fmt: skip
    np.testing.assert_allclose(trained.theta[0], w, rtol=1e-4, atol=1e-6)


def test_batch_norm_statistics_are_trained(mnist, key):
    train_set, _, test = mnist

    class Net(nn.Module):
        @nn.compact
        def __call__(self, images, train=False):
            x = nn.BatchNorm(use_running_average=not train, momentum=0.8)(images.reshape(len(images), -1) + 5)
            return nn.Dense(10)(nn.Dropout(0.1, deterministic=not train)(x))

    score = evaluate(
        models.from_linen(Net(), (28, 28, 1)), some(train_set, 5), None, test, SHORT, num_networks=1, key=key
    )
    assert score.mean > 0.4, "untrained statistics would leave every image shifted by five"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"protocol": "default", "validation": None}, "chooses its learning rate on validation data"),
        ({"protocol": "defualt"}, "did you mean 'default'"),
        ({"protocol": Protocol("ce", "", (0.1,), steps=1, loss="cross_entropy")}, "cannot use centred labels"),
        ({"test": Examples(jnp.zeros((2, 8, 8, 1)), jnp.zeros(2, jnp.int32))}, "test images are"),
        ({"distilled": []}, "at least one set"),
        ({"num_networks": 0}, "at least one set and one network"),
    ],
)
def test_impossible_evaluations(mnist, mlp, key, changes, sentence):
    train, validation, test = mnist
    arguments = {
        "distilled": some(train, 1, "centred"), "validation": validation, "test": test, "protocol": SHORT, "key": key,
        **changes,
    }  # fmt: skip
    with pytest.raises(JaxddError, match=sentence):
        evaluate(mlp, **arguments)


def test_sets_must_be_alike(mnist, mlp, key):
    train, _, test = mnist
    with pytest.raises(JaxddError, match="equal shapes"):
        evaluate(mlp, [some(train, 1), some(train, 2)], None, test, SHORT, key=key)
