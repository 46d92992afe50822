import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdd
from jaxdd import audit, models
from jaxdd.errors import JaxddError
from jaxdd.training import fit, protocols
from jaxdd.types import bound


@pytest.fixture(scope="module")
def setting(mnist):
    real, test = (split.with_images(split.images[:, ::2, ::2]) for split in (mnist.train, mnist.test))
    network = models.build("mlp(width=32, depth=1)", (14, 14, 1), 10)
    protocol = protocols.Protocol("short", "", (1e-3,), steps=150)
    keys = jax.random.split(jax.random.key(0), 10)
    trained = fit(
        network,
        real.images[None],
        real.labels.values[None],
        protocol,
        np.full(10, 1e-3),
        keys,
        label_convention="hard",
    )
    starts = (trained.theta, trained.stats)
    seen, unseen = (jax.tree.map(lambda leaf, p=part: leaf[p], starts) for part in (slice(0, 7), slice(7, None)))
    return real, test.examples, network, seen, unseen


@pytest.mark.endurance
def test_a_distilled_dose_ruins_one_class_of_networks_it_has_not_seen(setting):
    real, test, network, seen, unseen = setting
    method = audit.poisoning(network, seen, attacked=0, target=1, target_batch=400)
    dose = jaxdd.run(method, real, steps=120, devices=jax.devices()[:1], progress=False).distilled
    assert dose.images.shape == (100, 14, 14, 1) and dose.learning_rates.shape == (1,)
    np.testing.assert_array_equal(dose.labels, np.repeat(np.arange(10), 10))  # every label looks right
    found = audit.poison(network, unseen, dose, test, attacked=0, target=1)
    plain = audit.mislabelled_real(jax.random.key(1), real, dose, attacked=0, target=1)
    assert found.success_before.max() < 0.05 and found.others_before.min() > 0.8
    assert found.success.mean() > 0.6 and found.others.mean() > found.others_before.mean() - 0.1
    # With a rate that harms the other classes no more, real images with wrong labels do little.
    for factor in (0.01, 0.03, 0.1, 0.3, 1.0):
        compared = audit.poison(network, unseen, plain, test, attacked=0, target=1, rate_factor=factor)
        if compared.others.mean() > found.others_before.mean() - 0.1:
            assert 3 * compared.success.mean() < found.success.mean()


@pytest.mark.endurance
def test_mislabelled_real_images_are_real_and_lie_about_one_class(setting):
    real, _, network, seen, _ = setting
    method = bound(audit.poisoning(network, seen, attacked=3, target=8, ipc=2), real)
    dose = method.distilled(method.init(jax.random.key(0), real))
    plain = audit.mislabelled_real(jax.random.key(1), real, dose, attacked=3, target=8)
    expected = np.repeat([0, 1, 2, 8, 4, 5, 6, 7, 8, 9], 2)
    np.testing.assert_array_equal(plain.labels, expected)
    pairs = zip(np.asarray(real.images), np.asarray(real.labels.values), strict=True)
    owner = {image.tobytes(): label for image, label in pairs}
    assert [int(owner[np.asarray(i).tobytes()]) for i in plain.images] == list(np.repeat(np.arange(10), 2))


def test_no_dose_no_change(setting):
    real, test, network, seen, unseen = setting
    method = bound(audit.poisoning(network, seen, attacked=0, target=1, ipc=1), real)
    dose = method.distilled(method.init(jax.random.key(0), real))
    nothing = audit.poison(network, unseen, dose, test, attacked=0, target=1, rate_factor=0.0)
    np.testing.assert_array_equal(nothing.success, nothing.success_before)
    np.testing.assert_array_equal(nothing.others, nothing.others_before)


def test_bad_input(setting):
    real, test, network, seen, unseen = setting
    with pytest.raises(JaxddError, match="must be different classes"):
        audit.poisoning(network, seen, attacked=1, target=1)
    for attacked, target in ((42, 1), (1, -1)):
        with pytest.raises(JaxddError, match="there is no class"):
            bound(audit.poisoning(network, seen, attacked=attacked, target=target), real)
    bare = jaxdd.types.Distilled(jnp.zeros((10, 14, 14, 1)), jnp.zeros(10, jnp.int32))
    with pytest.raises(JaxddError, match="needs learning rates"):
        audit.poison(network, unseen, bare, test, attacked=0, target=1)
