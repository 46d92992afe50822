"""A run goes on with a set: where its images and labels go, what fills the rest, and what is refused."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd.data import Identity, Standardize
from jaxdd.errors import JaxddError
from jaxdd.synthetic import (
    DistilledDataset,
    clipped,
    continued,
    frequencies,
    learned_labels,
    multi_formation,
    pixels,
    render,
)
from jaxdd.types import Labels, RealData

THERE = Standardize(np.float32([0.5, 0.1]), np.float32([0.2, 3.0]))
HERE = Standardize(np.float32([-1.0, 0.4]), np.float32([1.5, 0.3]))
WAYS = {
    "hard": lambda init, ipc=2: pixels(ipc, init=init),
    "centred": lambda init, ipc=2: pixels(ipc, init=init, labels="centred"),
    "learned raw": lambda init, ipc=2: learned_labels(pixels(ipc, init=init), "raw"),
    "learned softmax": lambda init, ipc=2: learned_labels(pixels(ipc, init=init), "softmax"),
    "learned centred": lambda init, ipc=2: learned_labels(pixels(ipc, init=init, labels="centred"), "centred"),
    "mosaics": lambda init, ipc=2: multi_formation(pixels(ipc, init=init, factor=2), 2),
    "all frequencies": lambda init, ipc=2: frequencies(ipc, 20, init=init),
}


@functools.cache
def left(way, real):
    """What a run of a parameterisation leaves that has learned something."""
    synthetic = WAYS[way]("noise")

    @jax.jit
    def made(key):
        params = synthetic.init(key, real.value)
        keys = jax.random.split(key, len(synthetic.learned))
        steps = {n: jax.random.normal(k, params[n].shape) for n, k in zip(synthetic.learned, keys, strict=True)}
        return render(synthetic, {**params, **{n: params[n] + 0.2 * step for n, step in steps.items()}})

    return made(jax.random.key(3))


class Once(NamedTuple):
    """Something that is equal to itself alone."""

    value: Any
    __hash__ = object.__hash__
    __eq__ = object.__eq__


@pytest.fixture(scope="module")
def once(real):
    return Once(real)


@pytest.fixture
def set_of(once):
    """A set that a run of a parameterisation has left, by the transform THERE."""
    return lambda way: DistilledDataset.create(left(way, once), THERE, {"data": {"num_classes": 3}})


def begun(way, dataset, real, rest="noise", **options):
    """What a run leaves that has gone on with a set and done nothing, by the transform HERE."""
    synthetic = WAYS[way](continued(dataset, HERE, rest=rest), **options)
    made = jax.jit(lambda key: render(synthetic, synthetic.init(key, real)))(jax.random.key(5))
    return DistilledDataset.create(made, HERE, {"data": {}})


@pytest.mark.parametrize("way", WAYS)
def test_a_run_without_updates_gives_its_set_back(way, real, set_of):
    dataset = set_of(way)
    again = begun(way, dataset, real)
    np.testing.assert_allclose(again.images, dataset.images, atol=2e-6)
    np.testing.assert_allclose(again.labels, dataset.labels, atol=2e-5)
    assert again.header["label_convention"] == dataset.header["label_convention"]


PAIRS = [
    ("hard", "learned raw"),
    ("hard", "learned softmax"),
    ("learned raw", "hard"),
    ("learned raw", "learned softmax"),
    ("learned softmax", "learned centred"),
    ("learned centred", "learned raw"),
    ("mosaics", "learned raw"),
]


@pytest.mark.parametrize(("there", "here"), PAIRS)
def test_from_one_way_to_another(there, here, real, set_of):
    """Learned labels go where labels are learned, shifted to their convention; else to the class of the largest."""
    dataset = set_of(there)
    again = begun(here, dataset, real, ipc=8 if there == "mosaics" else 2)
    np.testing.assert_allclose(again.images, dataset.images, atol=2e-6)
    shift = {"centred": 1 / 3}
    vectors = dataset.labels + shift.get(dataset.header["label_convention"], 0)
    if there in ("hard", "mosaics"):
        vectors = np.eye(3)[dataset.labels]
    if here == "hard":
        np.testing.assert_array_equal(again.labels, vectors.argmax(1))
        return
    found = again.labels + shift.get(again.header["label_convention"], 0)
    if here == "learned softmax":
        vectors = np.maximum(vectors, 1e-6)
        vectors = vectors / vectors.sum(1, keepdims=True)
        if there in ("hard", "mosaics"):  # which begin as such labels do
            vectors = 0.9 * (dataset.labels[:, None] == np.arange(3)) + 0.05 * (dataset.labels[:, None] != np.arange(3))
    np.testing.assert_allclose(found, vectors, atol=2e-5)


@pytest.mark.parametrize("rest", ["real", "noise", "unit"])
@pytest.mark.parametrize("way", ["hard", "learned raw"])
def test_more_images_of_each_class(rest, way, real, key, set_of):
    dataset = set_of(way)
    more = begun(way, dataset, real, rest=rest, ipc=5)
    assert more.images.shape == (15, 4, 5, 2)
    ours, others = more.images.reshape(3, 5, 4, 5, 2)[:, :2], more.images.reshape(3, 5, 4, 5, 2)[:, 2:]
    np.testing.assert_allclose(ours.reshape(dataset.images.shape), dataset.images, atol=2e-6)
    usual = jax.jit(lambda key: pixels(5, init=rest).init(key, real)["images"])(jax.random.key(5))
    usual = HERE.inverse(np.asarray(usual)).reshape(3, 5, 4, 5, 2)[:, 2:]
    np.testing.assert_allclose(others, usual, atol=2e-6)
    labels = np.repeat(np.arange(3), 5).reshape(3, 5)[:, 2:]
    expected = labels if way == "hard" else np.eye(3)[labels]
    np.testing.assert_array_equal(more.labels.reshape(3, 5, *more.labels.shape[1:])[:, 2:], expected)


@pytest.mark.parametrize("way", ["hard", "learned centred", "learned raw", "learned softmax"])
def test_more_classes_begin_with_real_images(way, real, set_of):
    dataset = set_of(way)
    labels = Labels.index(np.arange(30) % 5)
    wider = RealData.of(real.images, labels)
    more = begun(way, dataset, wider, rest="noise")
    np.testing.assert_allclose(more.images[:6], dataset.images, atol=2e-6)
    pool = np.asarray(HERE.inverse(np.asarray(real.images)))
    for image, label in zip(more.images[6:], (3, 3, 4, 4), strict=True):
        rows = np.flatnonzero(np.abs(pool - image).max(axis=(1, 2, 3)) < 1e-5)
        assert len(rows) == 1 and rows[0] % 5 == label
    if way == "hard":
        np.testing.assert_array_equal(more.labels, np.repeat(np.arange(5), 2))
    else:
        shift = 1 / 5 if way == "learned centred" else 0
        np.testing.assert_array_equal((more.labels + shift).argmax(1)[6:], (3, 3, 4, 4))
        there = dataset.labels + (1 / 3 if way == "learned centred" else 0)
        np.testing.assert_allclose((more.labels + shift)[:6, :3], there, atol=2e-5)
        np.testing.assert_allclose((more.labels + shift)[:6, 3:], 0, atol=2e-5)


def test_images_go_to_the_class_of_their_label_in_any_order(real, set_of):
    dataset = set_of("hard")
    order = np.array([5, 0, 3, 2, 4])
    shuffled = DistilledDataset(dataset.images[order], dataset.labels[order], THERE, dataset.header)
    again = begun("hard", shuffled, real, ipc=3)
    places = again.images.reshape(3, 3, -1)
    expected = {0: [0], 1: [3, 2], 2: [5, 4]}  # rows of a class stay in their order
    for label, rows in expected.items():
        np.testing.assert_allclose(places[label, : len(rows)], dataset.images[rows].reshape(len(rows), -1), atol=2e-6)


def test_learned_labels_that_do_not_name_their_class_keep_their_places(real):
    """As of fewer images than classes, which each stand for several."""
    synthetic = learned_labels(pixels(1, init="noise", classes=2), "raw")
    params = {
        **jax.jit(synthetic.init)(jax.random.key(3), real),
        "labels": jnp.array([[0.1, 0.2, 0.9], [0.4, 0.1, 0.8]]),
    }
    dataset = DistilledDataset.create(render(synthetic, params), THERE, {"data": {"num_classes": 3}})
    init = continued(dataset, HERE)
    again = learned_labels(pixels(1, init=init, classes=2), "raw").init(jax.random.key(5), real)
    np.testing.assert_allclose(again["labels"], params["labels"], atol=1e-6)
    np.testing.assert_allclose(HERE.inverse(np.asarray(again["images"])), dataset.images, atol=2e-6)
    with pytest.raises(JaxddError, match="has images of class 2, and only the first 2 classes get some here"):
        pixels(2, init=init, classes=2).init(jax.random.key(5), real)


def test_constraints_hold_from_the_start(real, set_of):
    bright = DistilledDataset(np.full((3, 4, 5, 2), 90, np.float32), np.arange(3), THERE, set_of("hard").header)
    params = clipped(pixels(1, init=continued(bright, HERE))).init(jax.random.key(0), real)
    expected = jnp.broadcast_to(real.images.max((0, 1, 2))[None, None, None], params["images"].shape)
    np.testing.assert_array_equal(params["images"], expected)


def test_equal_sets_are_equal_inits(real, set_of):
    first, again, other = set_of("hard"), set_of("hard"), set_of("centred")
    one = continued(first, HERE)
    assert one == continued(again, HERE) and hash(one) == hash(continued(again, HERE))
    for another in (continued(first, THERE), continued(first, HERE, rest="unit"), continued(other, HERE), "real"):
        assert one != another
    header = {**first.header, "jaxdd_version": "another"}
    elsewhere = DistilledDataset(first.images, first.labels, THERE, header, first.more)
    assert continued(elsewhere, HERE).source == one.source != continued(other, HERE).source
    assert "6 images" in repr(one) and len(repr(one)) < 80


def test_a_file_is_read(real, tmp_path, set_of):
    dataset = set_of("learned raw")
    dataset.write(tmp_path / "a.safetensors")
    assert continued(tmp_path / "a.safetensors", HERE) == continued(dataset, HERE)


REFUSED = [
    ("hard", {"ipc": 1}, lambda real: real, "has 2 images of class 0, more than the 1 of this run: take ipc=2 or more"),
    (
        "mosaics",
        {},
        lambda real: real,
        "stores mosaics of 4 tiles, and the set .* has plain images: take a factor of 1",
    ),
    (
        "hard",
        {},
        lambda real: RealData.of(real.images[:, :3], real.labels),
        "has images of 4x5x2 and the data of 3x5x2: nothing is resized here",
    ),
    (
        "hard",
        {},
        lambda real: RealData.of(real.images, Labels.index(np.arange(30) % 2)),
        "the set to go on with has 3 classes, but the data have 2",
    ),
]


@pytest.mark.parametrize(("way", "options", "change", "sentence"), REFUSED, ids=[s[:30] for *_, s in REFUSED])
def test_what_does_not_fit_is_refused(way, options, change, sentence, real, set_of):
    init = continued(set_of("hard"), HERE)
    with pytest.raises(JaxddError, match=sentence):
        WAYS[way](init, **options).init(jax.random.key(0), change(real))


def test_mosaics_of_another_number_features_and_names(real, set_of):
    tiles = continued(set_of("mosaics"), Identity())
    with pytest.raises(JaxddError, match=r"mosaics of 9 tiles, .* has mosaics of 4 tiles: take a factor of 2"):
        multi_formation(pixels(2, init=tiles, factor=3), 3).init(jax.random.key(0), real)
    dataset = set_of("learned raw")
    features = DistilledDataset(
        dataset.images, dataset.labels, THERE, {**dataset.header, "label_convention": "features"}
    )
    with pytest.raises(JaxddError, match="labels of this set are features, which know no classes"):
        continued(features, HERE)
    with pytest.raises(JaxddError, match="unknown initialisation of pixels 'rael'; did you mean 'real'"):
        continued(dataset, HERE, rest="rael")
    with pytest.raises(JaxddError, match=r"is a file: methods and pixels take synthetic.continued\(file, tr"):
        pixels(1, init="a.safetensors")


def test_classes_with_numbers_of_their_own_take_the_images_of_their_class(real):
    """And learned labels, which may name other classes, stay where they are in a set of the same numbers."""
    key, some = jax.random.key(5), (3, 1, 2)
    synthetic = pixels(some, init="noise")
    file = DistilledDataset.create(render(synthetic, jax.jit(synthetic.init)(key, real)), Identity(), {})
    init = continued(file, Identity(), rest="noise")
    params, usual = (jax.jit(pixels((3, 2, 4), init=each).init)(key, real)["images"] for each in (init, "noise"))
    places = np.array([0, 1, 2, 3, 5, 6])
    np.testing.assert_array_equal(params[places], file.images)
    lacking = np.array([4, 7, 8])
    np.testing.assert_array_equal(params[lacking], usual[lacking])
    with pytest.raises(JaxddError, match="has 2 images of class 2, more than the 1 of this run: take 2 of it or more"):
        pixels((3, 2, 1), init=init).init(key, real)
    learned = dataclasses.replace(init, learned=True, vectors=np.eye(3, dtype=np.float32)[[1] * 6])
    again = learned_labels(pixels(some, init=learned)).init(key, real)
    np.testing.assert_array_equal(again["labels"], learned.vectors)
    np.testing.assert_array_equal(again["images"], file.images)
