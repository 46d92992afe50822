"""MCT: the ways that its students are to go, and updates by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from walking_by_hand import OPTIONS, assert_updates, left, walks

from jaxdd import methods
from jaxdd.engine import stages
from jaxdd.errors import JaxddError
from jaxdd.methods.trajectory import _trajectory as family
from jaxdd.types import NetworkState

EPOCHS = 3
CONVEX = OPTIONS | {"span": 1, "max_start": 2, "points": (0, 2, 3)}


@pytest.fixture(scope="module")
def experts(digits):
    how = stages.How(0, "default", None, 1e9, progress=False)
    real, _ = stages.provided(methods.mct(**CONVEX), digits, {}, how)
    return real


@pytest.fixture(scope="module")
def done(digits):
    return toys.updates(methods.mct(**CONVEX), digits, 6)


def plain_lengths(experts):
    """`(experts, epochs, tensors)`, in float64, of the rows of the table."""
    leaves = [np.asarray(leaf[:], np.float64) for leaf in jax.tree.leaves(experts.tables["experts"].theta)]
    leaves = [leaf.reshape(3, EPOCHS + 1, -1) for leaf in leaves]
    steps = np.stack([np.linalg.norm(np.diff(leaf, axis=1), axis=2) for leaf in leaves], axis=2)
    return np.concatenate([np.zeros_like(steps[:, :1]), np.cumsum(steps, axis=1)], axis=1)


def test_lengths_are_those_of_each_tensors_way(experts):
    np.testing.assert_allclose(experts.assets["path_lengths"], plain_lengths(experts), rtol=1e-5)


def place(networks, lengths, time):
    """Where an expert is at a time, of its networks at epochs 0 to 3 and the lengths of its way, plainly."""
    quarter = lambda leaf: 0.25 * leaf[1] + 0.5 * leaf[2] + 0.25 * leaf[3]  # noqa: E731
    leaves, structure = jax.tree.flatten(networks)
    found = []
    for leaf, way in zip(leaves, lengths.T, strict=True):
        gone = jnp.interp(time, jnp.arange(4.0), way)
        share = jnp.where(time < 2, gone / way[2], (gone - way[2]) / (way[3] - way[2]))
        low = jnp.where(time < 2, leaf[0], quarter(leaf))
        high = jnp.where(time < 2, quarter(leaf), leaf[3])
        found.append((1 - share) * low + share * high)
    return jax.tree.unflatten(structure, found)


def ends_of(update, k, key):
    start = 2 * jax.random.uniform(jax.random.fold_in(key, 3))
    networks = jax.tree.map(lambda leaf: leaf[k], update.batch.tables["experts"].theta)
    lengths = update.batch.assets["path_lengths"][update.batch.rows["experts"][k, 0] // (EPOCHS + 1)]
    return place(networks, lengths, start), place(networks, lengths, start + 1)


@jax.jit
@jax.value_and_grad
def plainly(learned, update):
    return jnp.stack([left(*walk) for walk in walks(learned, update, ends=ends_of)]).mean()


def test_updates_are_those_of_the_formula(done):
    """From a time between epochs to one an epoch later, on straight ways between smoothed points."""
    assert_updates(done[:3], plainly, {"images": 5.0, "learning_rates": 1e-3})
    keys = [jax.random.fold_in(jax.random.split(update.key, 2)[0], 3) for update in done]
    starts = [float(2 * jax.random.uniform(key)) for key in keys]
    assert min(starts) < 1 < max(starts)  # so that goals lie behind the point between, and before it


def test_points_are_not_rounded_by_matrix_units(monkeypatch):
    """Nothing made of parameters is left to what a GPU or TPU takes for float32 by default."""
    ways = []
    monkeypatch.setattr(family, "matching", lambda *args, way, **options: ways.append(way))
    methods.mct.__wrapped__(methods.mct.hyper(**CONVEX))
    networks = NetworkState({"w": jnp.ones((4, 3, 2))}, {})
    lengths = jnp.arange(4.0)[:, None]
    jaxpr = str(jax.make_jaxpr(ways[0].between)(jax.random.key(0), networks, jnp.arange(4), lengths))
    assert jaxpr.count("dot_general") == jaxpr.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"points": (0, 6)}, "points of MCT must be epochs that rise from 0 to one from max_start"),
        ({"points": (1, 50)}, "points of MCT must be epochs that rise from 0"),
        ({"points": (0, 25, 25, 50)}, "points of MCT must be epochs that rise"),
        ({"expert_rows": "used"}, "expert_rows of MCT must be all"),
    ],
)
def test_bad_hyper_parameters_say_what_would_be_right(options, sentence):
    with pytest.raises(JaxddError, match=sentence):
        methods.mct(**options)


def test_published_settings():
    published = {"steps": 30, "span": 15, "max_start": 8, "points": (0, 6, 25, 50), "expert_epochs": 50}
    assert published.items() <= methods.fields("mct").items()
