import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.errors import JaxddError
from jaxdd.losses import cross_entropy, distillation, taught

compiled = jax.jit(distillation)


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def logits(rng):
    return rng.normal(size=(2, 7, 5)).astype(np.float32)


def test_it_is_the_divergence_at_a_temperature(rng):
    ours, theirs = logits(rng)
    p, q = softmax(theirs / 4), softmax(ours / 4)
    expected = (p * np.log(p / q)).sum(-1)
    np.testing.assert_allclose(compiled(ours, theirs, temperature=4.0), expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(compiled(theirs, theirs, temperature=4.0), 0, atol=1e-6)


def test_its_gradient_is_that_of_cross_entropy_with_the_teachers_probabilities_and_none_goes_to_the_teacher(rng):

    @jax.jit
    def slopes(ours, theirs):
        of_labels = jax.grad(lambda a: cross_entropy(a, jax.nn.softmax(theirs)).sum())(ours)
        return *jax.grad(lambda a, b: distillation(a, b).sum(), argnums=(0, 1))(ours, theirs), of_labels

    slope, none, expected = slopes(*logits(rng))
    np.testing.assert_allclose(slope, expected, atol=1e-6)
    assert not np.asarray(none).any()


def test_logarithms_of_probabilities_serve_as_logits_at_any_temperature(rng):
    ours, theirs = logits(rng)
    logs = np.log(softmax(theirs))
    for temperature in (1.0, 30.0):
        whole = compiled(ours, theirs, temperature=temperature)
        np.testing.assert_allclose(compiled(ours, logs, temperature=temperature), whole, rtol=1e-3, atol=1e-6)


def test_other_shapes_are_refused():
    with pytest.raises(JaxddError, match="must have equal shapes"):
        distillation(jnp.zeros((3, 5)), jnp.zeros((3, 1)))


def test_what_is_taught_is_labels_and_a_teacher_at_once(rng):
    labels, shares = np.arange(7, dtype=np.int32) % 5, (0.0, 0.3, 1.0)

    @jax.jit
    def all_of_them(ours, theirs, labels):
        found = [taught(ours, labels, theirs, share=share, temperature=3.0) for share in shares]
        vectors = jax.nn.one_hot(labels, 5)
        same = [taught(ours, each, theirs, share=0.3) for each in (labels, vectors)]
        return found, cross_entropy(ours, labels), 9 * distillation(ours, theirs, temperature=3.0), same

    of_shares, hard, soft, same = jax.device_get(all_of_them(*logits(rng), labels))
    for share, found in zip(shares, of_shares, strict=True):
        np.testing.assert_allclose(found, (1 - share) * hard + share * soft, rtol=1e-5)
    np.testing.assert_allclose(*same, rtol=1e-5)


def test_a_hot_teacher_is_squared_error_of_centred_logits(rng):
    """Hinton et al. (2015, §2.1): so the teacher's term keeps its size whatever the temperature."""
    ours, theirs = rng.normal(size=(2, 7, 5))
    centred = (ours - ours.mean(1, keepdims=True)) - (theirs - theirs.mean(1, keepdims=True))
    with jax.enable_x64(True):
        hot = jax.jit(lambda ours, theirs: taught(ours, np.zeros(7, int), theirs, share=1.0, temperature=1e4))
        found = hot(ours, theirs)
    np.testing.assert_allclose(found, (centred**2).sum(1) / 10, rtol=1e-3)
