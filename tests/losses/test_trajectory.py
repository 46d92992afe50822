import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxdd.losses import (
    intermediate_trajectory_matching,
    largest_differences,
    nearest_step,
    trajectory_matching,
    trajectory_matching_by_layer,
)

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


@pytest.mark.parametrize("drop", [0.0, 0.25, 0.5])
def test_the_smallest_differences_count_above_and_below_the_line(rng, drop):
    """Of PAD: exactly so many, and nothing of them is in the gradient."""
    student, start, goal = (parameters(rng) for _ in range(3))
    kept = jax.jit(largest_differences, static_argnums=2)(student, goal, drop)
    a, b, c = map(flat, (student, start, goal))
    counts = flat(kept).astype(bool)
    out = np.argsort((a.astype("f") - c.astype("f")) ** 2, kind="stable")[: int(drop * len(a))]
    assert set(np.flatnonzero(~counts)) == set(out)

    def left(student):
        return trajectory_matching(student, start, goal, kept=largest_differences(student, goal, drop))

    value, slope = jax.jit(jax.value_and_grad(left))(student)
    moved = ((b - c) ** 2)[counts].sum()
    np.testing.assert_allclose(value, ((a - c) ** 2)[counts].sum() / moved, rtol=1e-5)
    np.testing.assert_allclose(flat(slope), np.where(counts, 2 * (a - c) / moved, 0), rtol=1e-4, atol=1e-8)


def test_equal_differences_leave_the_first_out():
    kept = largest_differences({"a": jnp.zeros(2), "b": jnp.zeros(2)}, {"a": jnp.ones(2), "b": jnp.ones(2)}, 0.75)
    np.testing.assert_array_equal(flat(kept), [0, 0, 0, 1])


def test_layers_count_alike(rng):
    student, start, goal = (parameters(rng) for _ in range(3))
    leaves = [list(map(np.float64, jax.tree.leaves(tree))) for tree in (student, start, goal)]
    each = [((a - c) ** 2).sum() / ((b - c) ** 2).sum() for a, b, c in zip(*leaves, strict=True)]
    np.testing.assert_allclose(trajectory_matching_by_layer(student, start, goal), np.mean(each), rtol=1e-5)


def test_places_between_are_weighted(rng):
    walk, goals = ([parameters(rng) for _ in range(3)] for _ in range(2))
    start, weights = parameters(rng), np.array([0.5, 0.25, 2.0])
    students, ends = (jax.tree.map(lambda *leaves: jnp.stack(leaves), *each) for each in (walk, goals))
    each = [float(trajectory_matching(a, start, b)) for a, b in zip(walk, goals, strict=True)]
    found = jax.jit(intermediate_trajectory_matching)(students, start, ends, weights)
    np.testing.assert_allclose(found, np.dot(weights, each), rtol=1e-5)
    with pytest.raises(ValueError, match=r"leading axis of \(2,\) places"):
        intermediate_trajectory_matching(students, start, ends, weights[:2])


def test_the_nearest_step_is_the_last_of_equal_ones():
    """By the sum over all leaves."""
    goal = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    walk = {"a": jnp.array([[3.0, 0], [1, -1], [0, 0], [2, 2]]), "b": jnp.array([[0.0], [0], [2], [0]])}
    assert nearest_step(walk, goal) == 2
