"""Every function that takes labels takes class numbers or label vectors, and says so where it is given the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import data, inner, kernels, losses, models
from jaxdd.errors import JaxddError
from jaxdd.losses import centred_labels

RNG = np.random.default_rng(0)
X, T = (RNG.normal(size=(size, 5)).astype(np.float32) for size in (6, 9))
IMAGES = RNG.normal(size=(6, 4, 4, 1)).astype(np.float32)
LOGITS = RNG.normal(size=(6, 3)).astype(np.float32)
NUMBERS = np.arange(6, dtype=np.int32) % 3
ONE_HOT = np.eye(3, dtype=np.float32)[NUMBERS]
K_SS, K_TS = X @ X.T + np.eye(6, dtype=np.float32), T @ X.T
LINEAR = models.from_functions(lambda key: jnp.ones((16, 3)), lambda theta, x: x.reshape(len(x), -1) @ theta)

# Of label vectors `(6, 3)`.
VECTORS = {
    "kernel_ridge_solve": lambda y: kernels.kernel_ridge_solve(K_SS, y),
    "kernel_ridge_solve in float64": lambda y: kernels.kernel_ridge_solve(K_SS, y, float64=True),
    "kernel_ridge_predict": lambda y: kernels.kernel_ridge_predict(K_TS, K_SS, y),
    "label_solve": lambda y: kernels.label_solve(lambda x, z=None: x @ (x if z is None else z).T, T[:3], X, y),
    "squared_error": lambda y: losses.squared_error(LOGITS, y),
    "margin_loss": lambda y: losses.margin_loss(y, 0.1),
    "cutmix": lambda y: data.cutmix(jax.random.key(0), jnp.asarray(IMAGES), y, probability=1.0)[1],
    "regression": lambda y: inner.regression(LINEAR)(jnp.ones((16, 3)), {}, (IMAGES, y), 0, None)[0],
}
# Of class numbers `(6,)`.
CLASSES = {
    "cafe_discrimination": lambda y: losses.cafe_discrimination(X, y, X[:3, None]),
    "centred_one_hot": lambda y: losses.centred_one_hot(y, 3),
    "hard labels of a set": lambda y: centred_labels(y, "hard", 3),
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, "int32") for name in (*VECTORS, "cross_entropy")]
    + [("kernel_ridge_solve", "uint8"), ("kernel_ridge_solve", "bool"), ("cross_entropy", "bool")],
)
def test_one_hot_integers_are_what_their_floats_are(name, dtype):
    function = {**VECTORS, "cross_entropy": lambda y: losses.cross_entropy(LOGITS, y)}[name]
    expected, found = jax.jit(lambda *ys: [function(y) for y in ys])(ONE_HOT, ONE_HOT.astype(dtype))
    assert found.dtype == jnp.float32 and np.abs(expected).max() > 0
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", VECTORS)
def test_class_numbers_are_no_label_vectors(name):
    with pytest.raises(JaxddError, match=r"must be label vectors of shape .*, got int32 of shape \(6,\); class num"):
        VECTORS[name](NUMBERS)


@pytest.mark.parametrize("name", ["kernel_ridge_solve", "kernel_ridge_predict", "label_solve", "margin_loss", "cutmix"])
def test_neither_is_a_column_of_them(name):
    with pytest.raises(JaxddError, match=r"got int32 of shape \(6, 1\); class numbers become vectors by `jax.nn.one_h"):
        VECTORS[name](NUMBERS[:, None])


@pytest.mark.parametrize("name", ["kernel_ridge_solve", "kernel_ridge_predict", "label_solve", "squared_error"])
def test_vectors_of_other_examples_are_refused(name):
    with pytest.raises(JaxddError, match=r"must be label vectors of shape \(6, .*, got float32 of shape \(5, 3\)\.$"):
        VECTORS[name](np.ones((5, 3), np.float32))


@pytest.mark.parametrize("name", CLASSES)
def test_floats_are_no_class_numbers(name):
    assert np.isfinite(jax.jit(CLASSES[name])(NUMBERS)).all()
    with pytest.raises(JaxddError, match=r"labels must be integers.*, got float32 of shape \(6,\)"):
        CLASSES[name](NUMBERS.astype("float32"))


def test_one_hot_vectors_are_no_class_numbers():
    with pytest.raises(JaxddError, match=r"must be integers of shape \(6,\), .* got int32 of shape \(6, 3\)\."):
        CLASSES["cafe_discrimination"](ONE_HOT.astype(np.int32))


def test_one_example_may_be_alone():
    """Whose vector has one axis, if it is of floats."""
    one_hot = np.array([0, 0, 1], np.int32)

    @jax.jit
    def all_of_them(label, vector, number):
        by_vector, by_number = (losses.cross_entropy(LOGITS[0], y) for y in (vector, number))
        return losses.margin_loss(label, 0.1), losses.squared_error(LOGITS[0], vector), by_vector, by_number

    margin, squared, *entropies = all_of_them(np.float32([0.3, 0.25, -1.0]), one_hot, np.int32(2))
    np.testing.assert_allclose(margin, -0.05, rtol=1e-5)
    with pytest.raises(JaxddError, match=r"label vectors of shape \(..., classes\), got int32 of shape \(3,\)"):
        losses.margin_loss(one_hot, 0.1)
    np.testing.assert_allclose(squared, 0.5 * np.sum((LOGITS[0] - one_hot) ** 2), 1e-6)
    np.testing.assert_allclose(*entropies)
