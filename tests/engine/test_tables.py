"""Tables of anything: token ids with target vectors, several draws, pairs of rows, nothing at all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import assert_same, run

from jaxdd import engine
from jaxdd._files import digest
from jaxdd.data import uniform_sampler
from jaxdd.engine import feed
from jaxdd.errors import JaxddError
from jaxdd.types import Batch, Distilled, HostArray, Labels, Method, RealData, Recipe

WORDS, LENGTH, TARGETS = 11, 5, 3


@pytest.fixture
def text(rng):
    return {
        "tokens": rng.integers(0, WORDS, (40, LENGTH)).astype(np.int32),
        "target": rng.normal(size=(40, TARGETS)).astype(np.float32),
    }


def resident(text):
    return RealData(
        {"examples": {name: jnp.asarray(leaf) for name, leaf in text.items()}}, Labels.index(np.zeros(40, int))
    )


def streamed(text):
    """The targets lie on the devices, the tokens do not."""
    tokens = text["tokens"]
    hosted = HostArray(tokens.shape, tokens.dtype, lambda rows: tokens[rows], digest([tokens]))
    tables = {"examples": {"tokens": hosted, "target": jnp.asarray(text["target"])}}
    return RealData(tables, Labels.index(np.zeros(40, int)))


def embedding(rate: float = 0.5, batch: int = 8):
    """A vector for each word, whose sums over a text are to be its target."""

    def bind(spec):
        tokens, target = (spec.tables["examples"][name] for name in ("tokens", "target"))
        assert tokens.shape == (40, LENGTH) and tokens.dtype == jnp.int32 and spec.num_classes == 1

        def init(key, data):
            return jax.random.normal(key, (WORDS, target.shape[1])) + data.tables["examples"]["target"][:1]

        def update(key, state, batch):
            seen = batch.tables["examples"]

            def loss(table):
                return jnp.mean((table[seen["tokens"]].sum(1) - seen["target"]) ** 2)

            value, slope = jax.value_and_grad(loss)(state)
            return state - rate * slope, {"loss": value, "rows": batch.rows["examples"].sum().astype(jnp.float32)}

        return Method(
            init, uniform_sampler(batch), update, lambda state: Distilled(state[None, ..., None], jnp.zeros(1, int))
        )

    return Recipe(bind, identity=("embedding", rate, batch))


def test_a_method_of_ones_own_over_texts_runs_streams_and_resumes(text, tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "_WINDOW_STEPS", 4)
    method = embedding()
    options = {"steps": 24, "log_every": 1}
    whole = run(method, resident(text), **options)
    losses = [row["loss"] for row in whole.history]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3])
    assert len({row["rows"] for row in whole.history}) > 10
    assert_same(run(method, streamed(text), **options).state, whole.state)
    for steps, data in ((5, streamed(text)), (11, resident(text)), (24, streamed(text))):
        part = run(method, data, workdir=tmp_path, resume=True, **{**options, "steps": steps})
    assert part.resumed_from == 11
    assert_same(part.state, whole.state)
    other = {**text, "tokens": (text["tokens"] + 1) % WORDS}
    with pytest.raises(JaxddError, match="data is"):
        run(method, streamed(other), workdir=tmp_path, resume=True, **options)


@pytest.mark.parametrize("count", [1, 4])
def test_several_draws_pairs_and_draws_of_nothing(text, count):
    """Whatever their number is, and whether their rows are read or lie there."""
    numbers = np.arange(12, dtype=np.float32)
    hosted = HostArray((12,), np.float32, lambda rows: numbers[rows], digest([numbers]))

    def sample(key, labels):
        first = jax.random.randint(key, (4, 1), 0, 11)
        return {"walk": first + jnp.arange(2)[None], "walk/again": jnp.arange(8) % 12, "examples": jnp.arange(0)}

    def update(key, state, batch):
        assert isinstance(batch, Batch) and set(batch.tables) == set(batch.rows) == {"walk", "walk/again", "examples"}
        pairs = batch.tables["walk"]
        assert pairs.shape == (4, 2) and batch.tables["examples"]["tokens"].shape == (0, LENGTH)
        steps = pairs[:, 1] - pairs[:, 0]  # of each pair, together
        return state + batch.tables["walk/again"].sum() + pairs.sum(), {"loss": jnp.abs(steps - 1).sum()}

    method = Method(lambda key, data: jnp.zeros(()), sample, update, lambda state: state)
    found = []
    for walk in (jnp.asarray(numbers), hosted):
        data = RealData({**resident(text).tables, "walk": walk}, Labels.index(np.zeros(40, int)))
        result = run(method, data, steps=6, log_every=1, devices=jax.devices()[:count])
        assert all(row["loss"] == 0 for row in result.history)
        found.append(float(result.state))
    assert found[0] == found[1] > 6 * 28


def test_images_are_decoded_whatever_the_shape_of_their_rows(rng):
    stored, labels = rng.integers(0, 256, (30, 4, 4, 1), np.uint8), np.arange(30) % 3
    rows = jnp.arange(12).reshape(6, 2) % 30

    def decode(images):
        assert images.ndim == 4
        return images / jnp.float32(255)

    def update(key, state, batch):
        assert batch.images.shape == (6, 2, 4, 4, 1)
        return state + batch.images, {"loss": jnp.zeros(())}

    method = Method(lambda key, data: jnp.zeros((6, 2, 4, 4, 1)), lambda key, labels: rows, update, lambda state: state)
    hosted = HostArray(stored.shape, stored.dtype, lambda at: stored[at], digest([stored]), decode)
    resident = run(engine.decoding(method, decode), RealData.of(jnp.asarray(stored), Labels.index(labels)), steps=1)
    streamed = run(method, RealData.of(hosted, Labels.index(labels)), steps=1)
    for result in (resident, streamed):
        np.testing.assert_allclose(result.product, stored[np.asarray(rows)] / 255, rtol=1e-6)


def test_a_sample_that_knows_the_step_has_epochs(text):
    def sample(key, labels, step):
        return jax.random.permutation(jax.random.fold_in(key, step // 5), 40)[step % 5 * 8 + jnp.arange(8)]

    def update(key, state, batch):
        return state.at[batch.rows["examples"]].add(1), {"loss": jnp.zeros(())}

    method = Method(lambda key, data: jnp.zeros(40), sample, update, lambda state: state)
    for data in (resident(text), streamed(text)):
        np.testing.assert_array_equal(run(method, data, steps=10).product, np.full(40, 2.0))


@pytest.mark.parametrize(
    ("sample", "sentence"),
    [
        (lambda key, labels: {"experts": jnp.arange(3)}, "draws from the table 'experts'; there are only: examples"),
        (
            lambda key, labels: jnp.ones(3),
            r"row numbers for 'examples', integers \(rows, ..\), got float32 of shape \(3,\)",
        ),
        (lambda key, labels: jnp.int32(3), r"got int32 of shape \(\)"),
    ],
)
def test_draws_that_cannot_be_are_one_sentence(text, sample, sentence):
    method = Method(lambda key, data: jnp.zeros(()), sample, lambda key, state, batch: (state, {}), lambda state: state)
    with pytest.raises(JaxddError, match=sentence):
        run(method, resident(text), steps=1)


def test_a_table_of_other_things_has_no_images(text):
    with pytest.raises(JaxddError, match=r"no table of labelled images called 'examples' here \(tables: examples\)"):
        _ = resident(text).images
    batch = engine.draw(embedding(), resident(text), jax.random.key(0))
    np.testing.assert_array_equal(
        batch.tables["examples"]["tokens"], text["tokens"][np.asarray(batch.rows["examples"])]
    )
    with pytest.raises(JaxddError, match="no table of labelled images"):
        _ = batch.labels
