"""FTD: experts in flat places, and the average of what is learned."""

import by_hand
import jax
import numpy as np
import pytest
import toys
from walking_by_hand import CLASSES, OPTIONS, network

from jaxdd import methods
from jaxdd.data import augmentation
from jaxdd.errors import JaxddError
from jaxdd.training import sharpness_aware
from jaxdd.types import Spec


@pytest.fixture(scope="module")
def done(digits):
    return toys.updates(methods.ftd(**OPTIONS, radius=0.05, surrogate=0.5, decay=0.6), digits, 2)


def test_a_run_leaves_the_moving_average(done):
    average = np.asarray(done[0].before.params["images"])
    for update in done:
        average = 0.6 * average + 0.4 * np.asarray(update.after.params["images"])
        np.testing.assert_allclose(update.after.average["images"], average, rtol=1e-5, atol=1e-6)


def test_the_set_is_the_average_or_without_a_decay_the_last_iterate(done, digits):
    state = done[1].after
    of_average = methods.ftd(**OPTIONS, decay=0.6).bind(Spec.of(digits)).product(state)
    np.testing.assert_array_equal(of_average.images, state.average["images"])
    last = methods.ftd(**OPTIONS, decay=0.0).bind(Spec.of(digits)).product(state._replace(average=None))
    np.testing.assert_array_equal(last.images, state.params["images"])
    assert np.abs(state.params["images"] - state.average["images"]).max() > 1e-3


def test_experts_descend_by_sharpness_aware_gradients(digits):
    """The first step of one, as GSAM takes it from the initialisation."""
    (stage,) = methods.ftd(**OPTIONS, radius=0.5, surrogate=0.5).stages(Spec.of(digits))
    (update,) = toys.updates(stage.recipe, digits, 1)
    augment, batch = augmentation.named("cutout"), update.batch
    images = augment.apply(batch.images, augment.draw(update.key, len(batch.images)))

    def loss(theta, stats):
        logits = network().apply(theta, images, stats, train=True)[0]
        return by_hand.cross_entropy(logits, jax.nn.one_hot(batch.labels, CLASSES)), (stats, {})

    theta = update.before.network.theta
    _, slope = jax.jit(sharpness_aware(0.5, 0.5)(loss))(theta, {})
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, theta, slope)
    for found, right in zip(*map(jax.tree.leaves, (update.after.network.theta, expected)), strict=True):
        by_hand.assert_near(found, right, 1e-4)


def test_published_settings(digits):
    assert {"radius": 0.01, "surrogate": 0.3, "decay": 0.9995, "steps": 30}.items() <= methods.fields("ftd").items()
    (stage,) = methods.ftd(**OPTIONS).stages(Spec.of(digits))
    assert stage.config["flat"] == [0.01, 0.3]
    with pytest.raises(JaxddError, match="decay of FTD must be at least 0 and under 1"):
        methods.ftd(decay=1.0)
