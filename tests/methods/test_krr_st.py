"""KRR-ST: kernel ridge regression from learned pairs to an encoder's features."""

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxdd import engine, methods, models
from jaxdd.data.augmentation import named
from jaxdd.errors import JaxddError
from jaxdd.types import Labels, RealData, Spec

ENCODER, OUTPUTS, MEMBERS = "mlp(width=8, depth=1)", 8, 6
NORMED = models.from_linen(by_hand.Normed(OUTPUTS, 7), (14, 14, 1))
OPTIONS = {
    "images": MEMBERS, "model": NORMED, "pool": 2, "max_age": 2, "pool_learning_rate": 0.05, "target_batch": 20,
    "augmentation": "crop", "learning_rate": 0.05, "decay_steps": 40, "ridge": 1e-2,
    "encoder": ENCODER, "encoder_steps": 2, "encoder_batch": 16, "encoder_augmentation": "views-digits", "projector": 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def provided(digits):
    """With the tables and assets of its stages."""
    return engine.provide(toys.build("krr_st", block=8, **OPTIONS), digits, devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def done(digits):
    """From a pool of which one network is old."""
    return toys.updates(
        toys.build("krr_st", block=8, **OPTIONS),
        digits,
        40,
        start=lambda state: state._replace(pool=state.pool._replace(age=jnp.array([0, 2]))),
    )


def loss_of(params, theta, stats, images, targets):
    """Of one network in evaluation mode: a one is appended, the ridge is of the trace and a constant."""

    def features(images):
        found = NORMED.features(theta, images, stats)[0]
        return jnp.concatenate([found, jnp.ones((len(found), 1))], axis=1)

    f_s, f_r = features(params["images"]), features(images)
    kernel = f_s @ f_s.T
    kernel += 1e-2 * jax.lax.stop_gradient(jnp.trace(kernel)) * jnp.eye(MEMBERS)
    return jnp.mean((f_r @ f_s.T @ jnp.linalg.solve(kernel, params["labels"]) - targets) ** 2)


plainly = jax.jit(jax.value_and_grad(loss_of))


@jax.jit
def regressed(theta, stats, images, labels):
    """The gradient of the mean squared error of one network in training mode, and its new statistics."""

    def loss(theta):
        outputs, after = NORMED.apply(theta, images, stats, train=True)
        return jnp.mean((outputs - labels) ** 2), after

    return jax.grad(loss, has_aux=True)(theta)


@jax.jit
def _drawn(key, images):
    key_choose, key_advance, key_draw = jax.random.split(key, 3)
    fresh, crop = NORMED.init(jax.random.split(key_advance, 1)[0]), named("crop")
    return jax.random.randint(key_choose, (1,), 0, 2)[0], fresh, crop.apply(images, crop.draw(key_draw, 20))


def drawn(update):
    """Which network an update uses, the one that takes its place if it is old, and its augmented images."""
    return jax.device_get(_drawn(update.key, update.batch.images))


def of_slot(pool, slot):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[slot], (pool.theta, pool.stats))


@jax.jit
def encoded(encoder, images):
    theta, stats = encoder
    return models.build(ENCODER, (14, 14, 1), 5).features(theta, images, stats)[0]


def test_pairs_start_from_different_real_images_and_the_encoders_features_of_them(done, digits, provided):
    params = done[0].before.params
    flat = np.asarray(digits.images).reshape(len(digits.images), -1)
    rows = [int(np.flatnonzero((flat == image.ravel()).all(1))[0]) for image in np.asarray(params["images"])]
    assert len(set(rows)) == MEMBERS
    expected = encoded(provided.assets["encoder"], np.asarray(digits.images)[rows])
    np.testing.assert_allclose(params["labels"], expected, atol=1e-5)
    assert np.ptp(np.asarray(expected), axis=0).max() > 0.1


def test_updates_are_those_of_the_formula(done, provided):
    """By Adam at a rate that falls linearly to a thousandth; then the network that was used is trained on the pairs."""
    optimizers = {leaf: by_hand.Adam() for leaf in ("images", "labels")}
    of_networks = [jax.tree.map(lambda _: by_hand.Momentum(0.9), of_slot(done[0].before.pool, s)[0]) for s in range(2)]
    used = []
    for step, update in enumerate(done[:4]):
        chosen, fresh, images = drawn(update)
        np.testing.assert_array_equal(update.batch.rows["targets"], update.batch.rows["examples"])
        targets = np.asarray(provided.tables["targets"])[np.asarray(update.batch.rows["examples"])]
        loss, slopes = plainly(update.before.params, *of_slot(update.before.pool, chosen), images, targets)
        assert float(update.metrics["loss"]) == pytest.approx(float(loss), rel=1e-4)
        rate = 0.05 * (1 - 0.999 * step / 40)
        by_hand.assert_stepped(update, slopes, optimizers, dict.fromkeys(optimizers, rate))

        pairs = update.after.params["images"], update.after.params["labels"]
        for slot in range(2):
            theta, stats = of_slot(update.before.pool, slot)
            age = int(update.before.pool.age[slot])
            if slot == chosen and age >= 2:
                (theta, stats), age = fresh, 0
                of_networks[slot] = jax.tree.map(lambda _: by_hand.Momentum(0.9), theta)
            elif slot == chosen:
                slope, stats = regressed(theta, stats, *pairs)
                theta = jax.tree.map(lambda p, m, g: p - 0.05 * m.step(g + 1e-3 * p), theta, of_networks[slot], slope)
                age += 1
            found = of_slot(update.after.pool, slot)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, (theta, stats))
            assert int(update.after.pool.age[slot]) == age
        used.append((int(chosen), int(update.before.pool.age[chosen])))
    assert any(age == 2 for _, age in used) and any(age == 1 for _, age in used), "one is renewed, one used twice"


def test_the_gradient_of_a_target_is_that_of_differences(done, provided):
    """Through the closed form, in the program's own loss: two of a target's entries, moved either way."""
    update = done[0]
    chosen, _, images = drawn(update)
    targets = np.asarray(provided.tables["targets"])[np.asarray(update.batch.rows["examples"])]
    params, network = update.before.params, of_slot(update.before.pool, chosen)
    _, slopes = plainly(params, *network, images, targets)
    for entry in [(0, 1), (3, 6)]:
        moved = []
        for by in (1e-2, -1e-2):
            labels = np.array(params["labels"])
            labels[entry] += by
            moved.append(plainly({**params, "labels": labels}, *network, images, targets)[0])
        difference = (float(moved[0]) - float(moved[1])) / 2e-2
        assert float(np.asarray(slopes["labels"])[entry]) == pytest.approx(difference, rel=2e-2, abs=1e-6)


def test_it_learns(done):
    losses = [float(update.metrics["loss"]) for update in done]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])


def test_targets_of_augmented_images_where_they_are_asked_for(digits, provided):
    """As the authors' code has them: the encoder sees what the networks of the pool see."""
    (update,) = toys.updates(methods.krr_st(**OPTIONS, targets="augmented"), digits, 1)
    chosen, _, images = drawn(update)
    targets = encoded(provided.assets["encoder"], images)
    loss, _ = plainly(update.before.params, *of_slot(update.before.pool, chosen), images, targets)
    assert float(update.metrics["loss"]) == pytest.approx(float(loss), rel=1e-4)


def test_labels_play_no_part_and_a_resumed_run_is_the_uninterrupted_one(digits, tmp_path):
    recipe = toys.build("krr_st", block=8, **OPTIONS)
    whole = toys.run(recipe, digits, steps=4)
    permuted = np.random.default_rng(1).permutation(np.asarray(digits.labels.values))
    other = toys.run(recipe, RealData.of(digits.images, Labels.index(permuted, 4)), steps=4)
    toys.assert_same(other.state, whole.state)
    toys.run(recipe, digits, steps=2, workdir=tmp_path)
    resumed = toys.run(recipe, digits, steps=4, workdir=tmp_path, resume=True)
    assert resumed.resumed_from == 2
    toys.assert_same(resumed.state, whole.state)
    distilled = whole.product
    assert (distilled.label_convention, distilled.label_regime) == ("features", "learned")
    assert distilled.num_bits == 32 * MEMBERS * (14 * 14 + OUTPUTS) and not distilled.training.ways


def test_more_pairs_than_there_are_examples_are_refused(digits):
    with pytest.raises(JaxddError, match="481 pairs were asked for, but the data have 480 examples"):
        toys.run(methods.krr_st(**{**OPTIONS, "images": 481}), digits, steps=1)


def test_a_stage_is_told_from_others_by_what_it_is_trained_with(digits):
    spec = Spec.of(digits)
    facts = [methods.krr_st(**{**OPTIONS, "projector": p}).stages(spec)[1].config for p in (5, 6)]
    assert facts[0] != facts[1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"images": 0}, "images of KRRST must be at least 1"),
        ({"targets": "none"}, "targets of KRRST must be one of stored, augmented"),
        ({"encoder_batch": 1}, "encoder_batch of KRRST must be at least 2"),
        ({"ridge": -1.0}, "ridge of KRRST must be at least 0"),
        ({"decay_steps": 0}, "decay_steps of KRRST must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate of KRRST must be positive and finite"),
        ({"augmentation": "crops"}, "augmentation"),
    ],
)
def test_bad_hyper_parameters(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.build("krr_st", **options)
