"""BPTT and linear bases: long inner trainings with momentum, all of them differentiated."""

import functools

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxdd import inner, methods, models
from jaxdd.data import augmentation
from jaxdd.errors import JaxddError
from jaxdd.types import Batch, bound

MLP = "mlp(width=8, depth=1)"
INNER = {"steps": 3, "inner_learning_rate": 0.05, "momentum": 0.8, "target_batch": 20}


def on_real(images, labels, plan, key, batch):
    """The loss on real examples of one network after the three steps."""
    network = models.build(MLP, (14, 14, 1), 4)
    start = network.init(jax.random.split(key)[0])
    theta = by_hand.trained(network, start, images, labels, plan, jnp.full(3, 0.05), momentum=0.8)
    return by_hand.cross_entropy(network.apply(theta, batch.images, {})[0], jax.nn.one_hot(batch.labels, 4))


def test_bptt_updates_are_those_of_the_formula(digits):
    """All images at every step, flipped or turned by one draw, as the real ones are; by gradient descent with a
    momentum of a half."""
    augment = augmentation.named(methods.BPTT().augmentation)
    assert augment.name == methods.LinBa().augmentation == "flip_rotate"
    method = toys.build("bptt", model=MLP, ipc=2, **INNER, block=10, learning_rate=0.3)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def plainly(images, key, batch):
        plan, labels = jnp.tile(jnp.arange(8), (3, 1)), jnp.repeat(jnp.eye(4), 2, axis=0)
        key = jax.random.split(key, 1)[0]
        draw = augment.draw(jax.random.fold_in(jax.random.split(key)[1], 2), 1)
        real = Batch.of(augment.apply(batch.images, draw), batch.labels)
        return on_real(augment.apply(images, draw), labels, plan, key, real), jnp.abs(draw.matrix[0] - jnp.eye(2)).max()

    optimizers = {"images": by_hand.Momentum(0.5)}
    done, moved = toys.updates(method, digits, seed=14), []
    for update in done:
        (loss, far), slope = plainly(update.before.params["images"], update.key, update.batch)
        moved.append(float(far))
        assert float(update.metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
        by_hand.assert_stepped(update, {"images": slope}, optimizers, {"images": 0.3})
    assert max(moved) == 2 and 0 < min(moved) < 0.3, "a flip and a rotation"
    images = np.asarray(done[0].before.params["images"])
    assert images.shape == (8, 14, 14, 1) and abs(images.mean()) < 0.1 and abs(images.std() - 1) < 0.1
    assert np.ptp(done[0].after.params["labels"] - done[0].before.params["labels"]) == 0


def test_linba_updates_are_those_of_the_formula(digits):
    """Some images of each class at a step, the coefficients' squares in the loss; here by Adam."""
    options = {"per_class": 3, "bases": 8, "networks": 2, "coefficient_decay": 0.1, "augmentation": "none"}
    method = methods.linba(model=MLP, **INNER, **options, optimizer="adam", learning_rate=0.02)
    done = toys.updates(method, digits)
    rows = done[0].before.params["coefficients"].shape[1]
    labels = jnp.repeat(jnp.eye(4), rows, axis=0)
    up = np.asarray(done[0].before.params["upsample_height"])
    np.testing.assert_array_equal(up, done[0].before.params["upsample_width"])

    @jax.jit
    def plans(key):
        return jax.vmap(
            lambda key: inner.balanced_plan(jax.random.split(jax.random.split(key)[1])[0], 4, rows, 3, steps=3)
        )(jax.random.split(key, 2))

    @jax.jit
    @jax.value_and_grad
    def plainly(learned, key, batch):
        low = jnp.einsum("crk,khwz->crhwz", learned["coefficients"], learned["bases"])
        images = jnp.einsum("yh,xw,crhwz->cryxz", up, up, low).reshape(-1, 14, 14, 1)
        losses = jax.vmap(lambda key, plan: on_real(images, labels, plan, key, batch))
        return losses(jax.random.split(key, 2), plans(key)).mean() + 0.1 * jnp.sum(learned["coefficients"] ** 2)

    optimizers = {leaf: by_hand.Adam() for leaf in ("bases", "coefficients")}
    for update in done:
        learned = {leaf: update.before.params[leaf] for leaf in optimizers}
        loss, slopes = plainly(learned, update.key, update.batch)
        assert float(update.metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
        by_hand.assert_stepped(update, slopes, optimizers, dict.fromkeys(optimizers, 0.02))
        of_step = np.asarray(plans(update.key)).reshape(6, 12)
        assert all(np.array_equal(np.sort(one // rows), np.repeat(range(4), 3)) for one in of_step)
        assert all(len(set(one)) == 12 for one in of_step)


def test_linear_bases_cost_no_more_bits_than_the_pixels_they_stand_for(digits):
    """Known from shapes alone."""

    def distilled(recipe):
        method = bound(recipe, digits)
        return jax.eval_shape(lambda: method.distilled(method.init(jax.random.key(0), digits)))

    bases, plain = distilled(methods.linba(bases=8)), distilled(methods.bptt())
    assert len(bases.images) > 5 * len(plain.images)
    assert 0.9 * plain.num_bits < bases.num_bits <= plain.num_bits
    assert bases.decoder == "linear_bases"


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("bptt", {"steps": 0}, "steps of BPTT must be at least 1"),
        ("bptt", {"momentum": 1.0}, "momentum of BPTT must be at least 0 and under 1"),
        ("bptt", {"optimizer": "rmsprop"}, "optimizer of BPTT must be one of sgd, adam"),
        ("bptt", {"per_class": 0}, "per_class of BPTT must be at least 1 or None"),
        ("linba", {"bases": 0}, "bases"),
        ("linba", {"coefficient_decay": -1.0}, "coefficient_decay of LinBa must be at least 0"),
    ],
)
def test_bad_hyper_parameters_say_what_would_be_right(name, options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build(name, **options)
