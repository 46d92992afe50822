"""Encoders without labels, and their features of every example as a table."""

import dataclasses

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from jaxdd import engine, models, training
from jaxdd.data.augmentation import named
from jaxdd.engine.stages import How, provided
from jaxdd.errors import JaxddError
from jaxdd.types import Batch, Labels, Method, RealData, Recipe, Record, Spec, Stage, bound

SHAPE, WIDTH, BATCH, BLOCK = (14, 14, 1), 6, 40, 100
NETWORK = models.from_linen(by_hand.Normed(WIDTH), SHAPE)
ENCODER = training.barlow_twins(
    NETWORK, optax.sgd(0.05), batch_size=BATCH, augment="views-digits", projector=WIDTH, off_diagonal=0.1
)


@pytest.fixture(scope="module")
def done(digits):
    method, keys = bound(ENCODER, digits), jax.random.split(jax.random.key(1), 12)
    state, update, found = jax.jit(method.init)(jax.random.key(0), digits), jax.jit(method.update), []
    examples = jax.device_get(digits.examples)
    for step, key in enumerate(keys):
        batch = Batch.of(*(leaf[step * 40 : step * 40 + BATCH] for leaf in examples))
        after, metrics = update(key, state, batch)
        found.append(toys.Update(key, batch, state, after, metrics))
        state = after
    return found


@jax.jit
def plainly(theta, stats, images, key):
    """The loss of two views, one after the other, and its gradient: all maps written out."""
    keys, augment = jax.random.split(key, 2), named("views-digits")
    first, second = (augment.apply(images, augment.draw(each, len(images))) for each in keys)

    def normed(x):
        return (x - x.mean(0)[None]) / jnp.sqrt(x.var(0) + 1e-5)[None]

    def embed(theta, views, stats):
        x, stats = NETWORK.apply(theta["encoder"], views, stats, train=True)
        for layer in theta["projector"]:
            x = jax.nn.relu(normed(x) * layer["scale"][None] + layer["bias"][None]) @ layer["kernel"]
        return normed(x), stats

    def loss(theta):
        z1, after = embed(theta, first, stats)
        z2, after = embed(theta, second, after)
        c = z1.T @ z2 / len(images)
        ones = jnp.eye(WIDTH)
        return jnp.sum((ones * (c - 1)) ** 2) + 0.1 * jnp.sum(((1 - ones) * c) ** 2), after

    return jax.value_and_grad(loss, has_aux=True)(theta)


def test_updates_are_those_of_the_formula(done):
    for update in done[:2]:
        theta, stats = update.before.network
        (loss, after), slope = plainly(theta, stats, update.batch.images, update.key)
        assert float(update.metrics["loss"]) == pytest.approx(float(loss), rel=1e-4)
        expected = jax.tree.map(lambda leaf, g: leaf - 0.05 * g, theta, slope)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), update.after.network.theta, expected)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), update.after.network.stats, after)
        assert np.linalg.norm(slope["encoder"]["hidden"]["kernel"]) > 1e-3


def test_it_learns_and_leaves_the_encoder_alone(done):
    losses = [float(update.metrics["loss"]) for update in done]
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    product = jax.eval_shape(lambda: ENCODER.bind(Spec.of(_nothing())).product(done[0].after))
    assert jax.tree.map(jnp.shape, product.theta) == jax.tree.map(
        jnp.shape, jax.eval_shape(NETWORK.init, jax.random.key(0))[0]
    )


def _nothing():
    return RealData.of(jnp.zeros((BATCH, *SHAPE)), Labels.index(np.zeros(BATCH, int), 2))


def after(every=None):
    """A method that shows what stages left, of the rows that it draws from both tables."""
    targets = training.encoded(NETWORK, outputs=WIDTH, block=BLOCK)

    def bind(spec):
        def update(key, state, batch):
            return batch.tables["targets"], {"loss": jnp.zeros(())}

        rows = jnp.array([0, 99, 100, 479, 7])
        return Method(
            lambda key, data: jnp.zeros((5, 8)),
            lambda key, labels: {"examples": rows, "targets": rows},
            update,
            product=lambda state: state,
        )

    def stages(spec):
        yield Stage("encoder", ENCODER, 3, {})
        steps = training.num_blocks(spec, BLOCK)
        yield Stage("targets", targets, steps, {}, record=Record(1, lambda s: s.features, first=False, block=BLOCK))

    return Recipe(bind, stages=lambda spec: tuple(stages(spec)))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDD_CACHE_DIR", str(tmp_path / "cache"))


HOW = How(0, "default", jax.devices()[:1], 1e9, progress=False)


@pytest.mark.endurance
def test_row_i_of_the_table_is_what_the_encoder_sees_in_example_i_however_labels_lie(digits, cache):
    """And nothing of it is another one's, where the last block has fewer examples than others."""
    left, _ = provided(after(), digits, {}, HOW)
    theta, stats = left.assets["encoder"]
    expected = np.asarray(jax.jit(NETWORK.features)(theta, digits.images, stats)[0])
    table = np.asarray(left.tables["targets"])
    assert table.shape == (500, 8) and len(expected) == 480 and np.ptp(expected, axis=0).max() > 0.1
    np.testing.assert_allclose(table[:480], expected, atol=1e-5)
    np.testing.assert_allclose(table[480:], np.broadcast_to(table[479:480], (20, 8)), atol=1e-5)

    seen = toys.run(after(), digits, steps=1).product
    np.testing.assert_array_equal(seen, table[[0, 99, 100, 479, 7]])

    permuted = np.random.default_rng(1).permutation(np.asarray(digits.labels.values))
    other, _ = provided(after(), RealData.of(digits.images, Labels.index(permuted, 4)), {}, HOW)
    toys.assert_same(other.assets["encoder"], left.assets["encoder"])
    np.testing.assert_array_equal(other.tables["targets"], table)


def test_features_need_the_stage_of_their_encoder(digits):
    with pytest.raises(JaxddError, match="need the stage 'encoder'"):
        bound(training.encoded(NETWORK, outputs=WIDTH), digits)


def test_blocks_of_rows_of_several_parts_and_their_first_state(digits, cache):
    """Row numbers follow from part, step and place in the block."""

    def init(key, data, part):
        return 10.0 * part + jnp.zeros(2)

    method = Method(
        init, lambda key, labels: jnp.arange(2), lambda key, state, batch: (state + 1, {"loss": state[0]}), lambda s: ()
    )
    for first, per_part in ((True, 3), (False, 2)):
        record = Record(2, lambda state: {"x": state + jnp.array([0.0, 0.5])}, first=first, block=2)
        stage = Stage(f"blocks{first}", method, 4, {}, parts=2, record=record)
        assert stage.rows_of_part == 2 * per_part
        recipe = dataclasses.replace(after(), stages=lambda spec, stage=stage: (stage,))
        found = np.asarray(provided(recipe, digits, {}, HOW)[0].tables[stage.name]["x"])
        steps = [0, 2, 4][-per_part:]
        np.testing.assert_array_equal(found, [10 * p + s + half for p in range(2) for s in steps for half in (0, 0.5)])
        assert engine.foretold(recipe, digits).tables[stage.name]["x"].shape == found.shape


@pytest.mark.parametrize("options", [{"block": 0}, {"every": 0}])
def test_a_record_of_no_rows_is_refused(options):
    with pytest.raises(JaxddError, match="must be an integer of at least 1"):
        Record(**{"every": 1, **options}, of=lambda state: state)
