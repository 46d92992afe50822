import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.errors import JaxddError
from jaxdd.losses import cross_entropy, distillation, taught


def test_it_is_the_divergence_at_a_temperature(rng):
    ours, theirs = rng.normal(size=(2, 7, 5)).astype(np.float32)
    p, q = jax.nn.softmax(theirs / 4), jax.nn.softmax(ours / 4)
    expected = (p * np.log(p / q)).sum(-1)
    np.testing.assert_allclose(distillation(ours, theirs, temperature=4.0), expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(distillation(theirs, theirs, temperature=4.0), 0, atol=1e-6)


def test_its_gradient_is_that_of_cross_entropy_with_the_teachers_probabilities_and_none_goes_to_the_teacher(rng):
    ours, theirs = jnp.asarray(rng.normal(size=(2, 7, 5)), jnp.float32)
    slope, none = jax.grad(lambda a, b: distillation(a, b).sum(), argnums=(0, 1))(ours, theirs)
    expected = jax.grad(lambda a: cross_entropy(a, jax.nn.softmax(theirs)).sum())(ours)
    np.testing.assert_allclose(slope, expected, atol=1e-6)
    assert not np.asarray(none).any()


def test_logarithms_of_probabilities_serve_as_logits_at_any_temperature(rng):
    ours, theirs = jnp.asarray(rng.normal(size=(2, 7, 5)), jnp.float32)
    logs = jnp.log(jax.nn.softmax(theirs))
    for temperature in (1.0, 30.0):
        whole = distillation(ours, theirs, temperature=temperature)
        np.testing.assert_allclose(distillation(ours, logs, temperature=temperature), whole, rtol=1e-3, atol=1e-6)


def test_other_shapes_are_refused():
    with pytest.raises(JaxddError, match="must have equal shapes"):
        distillation(jnp.zeros((3, 5)), jnp.zeros((3, 1)))


def test_what_is_taught_is_labels_and_a_teacher_at_once(rng):
    ours, theirs = jnp.asarray(rng.normal(size=(2, 7, 5)), jnp.float32)
    labels = jnp.arange(7) % 5
    hard, soft = cross_entropy(ours, labels), 9 * distillation(ours, theirs, temperature=3.0)
    for share in (0.0, 0.3, 1.0):
        found = taught(ours, labels, theirs, share=share, temperature=3.0)
        np.testing.assert_allclose(found, (1 - share) * hard + share * soft, rtol=1e-5)
    vectors = jax.nn.one_hot(labels, 5)
    np.testing.assert_allclose(
        taught(ours, vectors, theirs, share=0.3), taught(ours, labels, theirs, share=0.3), rtol=1e-5
    )


def test_a_hot_teacher_is_squared_error_of_centred_logits(rng):
    """Hinton et al. (2015, §2.1): so the teacher's term keeps its size whatever the temperature."""
    ours, theirs = rng.normal(size=(2, 7, 5))
    centred = (ours - ours.mean(1, keepdims=True)) - (theirs - theirs.mean(1, keepdims=True))
    with jax.enable_x64(True):
        found = taught(jnp.asarray(ours), jnp.zeros(7, int), jnp.asarray(theirs), share=1.0, temperature=1e4)
    np.testing.assert_allclose(found, (centred**2).sum(1) / 10, rtol=1e-3)
