import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.errors import JaxddError
from jaxdd.losses import cross_entropy, distillation, logit_regression, smoothed_cosine, taught

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


def test_logits_are_regressed_on_and_a_little_of_the_labels_learned(rng):
    ours, theirs = logits(rng)
    labels = np.arange(7) % 5
    expected = ((ours - theirs) ** 2).mean(1) - 0.2 * np.log(softmax(ours)[np.arange(7), labels])
    found, slope = jax.jit(
        lambda a, b: (
            logit_regression(a, labels, b, label_weight=0.2),
            jax.grad(lambda b: logit_regression(a, labels, b).sum())(b),
        )
    )(ours, theirs)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not np.asarray(slope).any()


def test_the_cosine_is_with_the_teachers_direction_and_smooth_labels(rng):
    """A transcription of the formula; what changes the length of a student's or a teacher's logits changes nothing."""
    ours, theirs = logits(rng)
    labels = np.arange(7) % 5
    smooth = np.where(np.eye(5)[labels] == 1, 0.9, 0.1 / 4)
    goal = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    goal = goal + 0.3 * smooth / np.linalg.norm(smooth, axis=1, keepdims=True)
    cosines = (ours * goal).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(goal, axis=1)
    of = jax.jit(lambda a, y, b: smoothed_cosine(a, y, b, label_weight=0.3))
    np.testing.assert_allclose(of(ours, labels, theirs), 1 - cosines, atol=1e-6)
    np.testing.assert_allclose(of(ours, np.eye(5, dtype="f")[labels], theirs), 1 - cosines, atol=1e-6)
    np.testing.assert_allclose(of(3 * ours, labels, 0.1 * theirs), 1 - cosines, atol=1e-6)
    np.testing.assert_array_equal(of(0 * ours, labels, theirs), 1)
    with pytest.raises(JaxddError, match="must have equal shapes"):
        smoothed_cosine(ours, labels[:3], theirs)
