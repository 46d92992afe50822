"""Soft-label dataset distillation: label vectors are learned too, and may be fewer than classes."""

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxdd import methods, models
from jaxdd.errors import JaxddError
from jaxdd.types import bound

MLP = "mlp(width=8, depth=1)"
STEPS = {"ipc": 2, "classes": 2, "steps": 2, "epochs": 1, "inner_learning_rate": 0.05}


@jax.jit
@jax.value_and_grad
def plainly(learned, key, batch, softmax):
    """Two steps on the images of two of four classes, the first of each and then the other, of one network."""
    network = models.build(MLP, (14, 14, 1), 4)
    labels = jnp.where(softmax, jax.nn.softmax(learned["labels"], axis=1), learned["labels"])
    rates = jnp.log(1 + jnp.exp(learned["learning_rates"]))
    start = network.init(jax.random.split(jax.random.split(key, 1)[0])[0])
    theta = by_hand.trained(network, start, learned["images"], labels, jnp.array([[0, 2], [1, 3]]), rates)
    return by_hand.cross_entropy(network.apply(theta, batch.images, {})[0], jax.nn.one_hot(batch.labels, 4))


@pytest.mark.parametrize("labels", ["raw", "softmax"])
def test_updates_are_those_of_the_formula(labels, digits):
    """Labels by the same optimiser as images and rates."""
    options = {"networks": 1, "target_batch": 20, "learning_rate": 0.02, "decay_every": 1}
    method = bound(methods.soft_label_dd(model=MLP, labels=labels, **STEPS, **options), digits)
    done = toys.updates(method, digits)
    optimizers = {leaf: by_hand.Adam(b1=0.5) for leaf in ("images", "labels", "learning_rates")}
    for update, rate in zip(done, (0.02, 0.01), strict=True):
        loss, slopes = plainly(update.before.params, update.key, update.batch, labels == "softmax")
        assert float(update.metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
        by_hand.assert_stepped(update, slopes, optimizers, dict.fromkeys(optimizers, rate))
    distilled = jax.jit(method.distilled)(done[-1].after)
    convention = {"raw": "raw", "softmax": "probability"}[labels]
    assert (distilled.label_convention, distilled.label_regime) == (convention, "learned")
    assert distilled.images.shape == (4, 14, 14, 1)
    np.testing.assert_array_equal(distilled.plan, [[0, 2], [1, 3]])
    leaf = np.float64(done[-1].after.params["labels"])
    odds = np.exp(leaf) / np.exp(leaf).sum(1, keepdims=True)
    np.testing.assert_allclose(distilled.labels, leaf if labels == "raw" else odds, rtol=1e-5)
    first = np.repeat(np.eye(4)[:2], 2, axis=0)
    if labels == "raw":
        np.testing.assert_array_equal(done[0].before.params["labels"], first)
    else:  # nine tenths for the class
        np.testing.assert_allclose(jax.nn.softmax(done[0].before.params["labels"])[first > 0], 0.9, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"classes": 0}, "classes of SoftLabelDD must be at least 1 or None"),
        ({"labels": "centred"}, "labels of SoftLabelDD must be one of raw, softmax"),
        ({"ipc": 3, "steps": 2}, "steps of SoftLabelDD must be a divisor of ipc, 3"),
    ],
)
def test_bad_hyper_parameters_say_what_would_be_right(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build("soft_label_dd", **options)
