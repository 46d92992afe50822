import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import losses
from jaxdd.losses import cross_entropy, squared_error


def test_squared_error_is_half_the_squared_distance(rng):
    a, b = rng.normal(size=(2, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(jax.jit(squared_error)(a, b), 0.5 * ((a - b) ** 2).sum(-1), rtol=1e-6)


def test_cross_entropy_hard_equals_soft_one_hot_and_numpy(rng):
    logits, labels = rng.normal(size=(6, 4)).astype(np.float32), rng.integers(0, 4, 6)
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(6), labels]
    for given in (labels, np.eye(4, dtype=np.float32)[labels]):
        np.testing.assert_allclose(jax.jit(cross_entropy)(logits, given), expected, rtol=1e-5)


def test_soft_labels_are_not_normalised(rng):
    logits, soft = rng.normal(size=(2, 2, 3)).astype(np.float32)
    entropy = jax.jit(cross_entropy)
    np.testing.assert_allclose(entropy(logits, 2 * soft), 2 * np.asarray(entropy(logits, soft)), rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "arguments"),
    [
        (squared_error, (jnp.zeros((2, 3)), jnp.zeros((2, 4)))),
        (cross_entropy, (jnp.zeros((2, 3)), jnp.zeros((3,), int))),
        (cross_entropy, (jnp.zeros((2, 3)), jnp.zeros((2,)))),
    ],
)
def test_wrong_shapes_are_refused(loss, arguments):
    with pytest.raises(ValueError, match="shape"):
        loss(*arguments)


def test_margin_loss_is_bounded_and_pulls_only_below_the_bound():
    labels = np.float32([[0.9, -0.1, -0.1], [0.05, 0.0, -1.0], [0.2, 0.2, 0.1]])

    @jax.jit
    def both(labels):
        return losses.margin_loss(labels, 0.1), jax.grad(lambda y: losses.margin_loss(y, 0.1).sum())(labels)

    costs, slope = map(np.asarray, both(labels))
    np.testing.assert_allclose(costs, [-0.1, -0.05, 0.0], atol=1e-7)
    np.testing.assert_array_equal(slope[0], [0, 0, 0])
    np.testing.assert_array_equal(slope[1], [-1, 1, 0])


def test_centred_one_hot_sums_to_zero():
    targets = jax.jit(losses.centred_one_hot, static_argnums=1)(np.array([[2, 0]]), 4)
    np.testing.assert_allclose(targets, [[[-0.25, -0.25, 0.75, -0.25], [0.75, -0.25, -0.25, -0.25]]])
