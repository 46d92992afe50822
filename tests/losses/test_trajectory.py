import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxdd.losses import trajectory_matching

SHAPES = {"conv": {"kernel": (3, 3, 1, 4), "bias": (4,)}, "head": {"kernel": (16, 3)}}
matching = jax.jit(trajectory_matching)


def parameters(rng, dtype=np.float32):
    is_shape = lambda node: isinstance(node, tuple)  # noqa: E731
    return jax.tree.map(lambda shape: jnp.array(rng.normal(size=shape), dtype), SHAPES, is_leaf=is_shape)


def flat(theta):
    return np.concatenate([np.float64(leaf).ravel() for leaf in jax.tree.leaves(theta)])


def test_equals_the_formula(rng):
    """Of one vector of all parameters, so that a large leaf counts as much as its entries do."""
    student, start, goal = (parameters(rng) for _ in range(3))
    a, b, c = map(flat, (student, start, goal))
    np.testing.assert_allclose(matching(student, start, goal), ((a - c) ** 2).sum() / ((b - c) ** 2).sum(), rtol=1e-5)
    assert matching(start, start, goal) == 1 and matching(goal, start, goal) == 0


def test_an_expert_that_has_not_moved_leaves_the_squared_distance(rng):
    student, start = parameters(rng), parameters(rng)
    value, slope = jax.jit(jax.value_and_grad(trajectory_matching))(student, start, start)
    np.testing.assert_allclose(value, ((flat(student) - flat(start)) ** 2).sum(), rtol=1e-5)
    np.testing.assert_allclose(flat(slope), 2 * (flat(student) - flat(start)), rtol=1e-5)


def test_gradients_are_those_of_finite_differences(rng, x64):
    with x64():
        arguments = [parameters(rng, np.float64) for _ in range(3)]
        check_grads(matching, arguments, order=1, modes=["rev"], rtol=1e-6)


def test_bad_input_is_refused(rng):
    whole = parameters(rng)
    for other in ({"head": whole["head"]}, {**whole, "head": {"kernel": jnp.zeros((16, 4))}}):
        with pytest.raises(ValueError, match="must be parameters of one network"):
            trajectory_matching(whole, whole, other)
