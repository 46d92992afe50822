"""Label codecs: what comes back, what it costs, and one of somebody's own with one label a view."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import data, models
from jaxdd.errors import JaxddError
from jaxdd.synthetic import (
    DistilledDataset,
    label_bits,
    label_codec,
    labelled_by,
    labels_of,
    learned_labels,
    pixels,
)
from jaxdd.types import Content, Distilled, Draws, LabelCodec, Labelling, NetworkState

ROWS = np.array([3, 0, 0, 5])


@pytest.mark.parametrize("classes, bits_each", [(1, 1), (2, 1), (3, 2), (8, 3), (9, 4), (1000, 10)])
def test_class_numbers_take_as_few_bits_as_their_classes_need(classes, bits_each):
    codec, numbers = label_codec("hard"), np.arange(6) % classes
    labels = jax.nn.one_hot(numbers, classes)
    stored = codec.encode(codec.fit(labels, None), labels, None)
    assert stored["values"].dtype == jnp.int32
    np.testing.assert_array_equal(codec.decode(stored, None, Draws(ROWS)), numbers[ROWS])
    assert codec.num_bits(stored, classes) == label_bits("hard", labels) == 6 * bits_each


def test_vectors_are_kept_as_they_are(rng):
    codec, labels = label_codec("dense"), rng.normal(size=(6, 3)).astype(np.float32)
    stored = codec.encode(codec.fit(labels, None), labels, None)
    np.testing.assert_array_equal(codec.decode(stored, None, Draws(ROWS)), labels[ROWS])
    assert codec.num_bits(stored, 3) == label_bits("learned", labels) == 32 * 18


def test_the_ledger_of_a_parameterisation_is_that_of_the_codecs(real):
    for labels in ("hard", "centred"):  # fixed centred labels follow from class numbers
        plain = pixels(2, labels=labels)
        params = plain.init(jax.random.key(0), real)
        assert plain.num_bits(params) == {"images": 32 * 6 * 40, "labels": 6 * 2}
        assert learned_labels(plain, "centred").num_bits(params)["labels"] == 32 * 6 * 3


def test_an_unknown_codec_is_named():
    with pytest.raises(JaxddError, match="unknown label codec 'dence'; did you mean 'dense'"):
        label_codec("dence")


def teacher(temperature=2.0):
    """A linear teacher, fitted to the labels of images, which labels views as they are asked for."""

    def fit(labels, images):
        return jnp.linalg.lstsq(images.reshape(len(images), -1), labels)[0]

    def decode(stored, images, draws):
        return jax.nn.softmax(images.reshape(len(images), -1) @ stored["weights"] / temperature)

    return LabelCodec(
        fit=fit,
        encode=lambda weights, labels, images: {"weights": weights},
        decode=decode,
        num_bits=lambda stored, classes: 32 * stored["weights"].size,
        convention="probability",
        per_view=True,
    )


def test_a_teacher_that_labels_views_needs_no_change_of_any_function(rng, tmp_path):
    images = rng.normal(size=(20, 2, 2, 1)).astype(np.float32)
    labels = np.eye(3, dtype=np.float32)[np.arange(20) % 3]
    codec = teacher()
    stored = codec.encode(codec.fit(labels, images), labels, images)
    labelling = Labelling(labels.argmax(1), codec="teacher", stored=stored)
    distilled = jax.jit(lambda one: one)(Distilled(Content(images), labelling))
    dataset = DistilledDataset.create(distilled, data.Identity(), {})
    dataset.write(tmp_path / "a.safetensors")
    back = DistilledDataset.read(tmp_path / "a.safetensors")
    assert back.to_bytes() == dataset.to_bytes() and back.header["label_codec"] == "teacher"
    seen = back.distilled().labelling
    np.testing.assert_array_equal(seen.values, labels.argmax(1))  # the class of an image, for pictures and baselines
    views = jnp.asarray(images[ROWS][:, ::-1])
    found = labels_of(seen, views, Draws(ROWS, "flipped"), {"teacher": codec})
    weights = np.linalg.lstsq(images.reshape(20, 4), labels, rcond=None)[0]
    np.testing.assert_allclose(found, jax.nn.softmax(views.reshape(4, 4) @ weights / 2), atol=1e-5)
    assert codec.num_bits(seen.stored, 3) == 32 * 4 * 3
    with pytest.raises(JaxddError, match="labels of the codec 'teacher' are one a view: give the views"):
        labels_of(seen, None, Draws(ROWS), {"teacher": codec})
    with pytest.raises(JaxddError, match="unknown label codec 'teacher'"):  # a file names no code that is run
        labels_of(seen, views, Draws(ROWS))


def test_a_teacher_of_the_zoo_labels_views_by_its_numbers_in_a_file(rng):
    images = rng.normal(size=(7, 8, 8, 1)).astype(np.float32)
    model = "convnet(width=4, depth=1, norm='batch')"
    network = models.build(model, (8, 8, 1), 3)
    trained = NetworkState(*jax.jit(network.init)(jax.random.key(0)))
    labelling, bits = labelled_by(model, trained, jnp.asarray(images), 3, views=True)
    dataset = DistilledDataset.create(Distilled(Content(images), labelling), data.Identity(), {})
    seen = DistilledDataset.from_bytes(dataset.to_bytes()).distilled().labelling
    views = jnp.asarray(images[ROWS][:, ::-1])
    expected = jax.nn.softmax(network.apply(trained.theta, views, trained.stats)[0])
    np.testing.assert_allclose(labels_of(seen, views, Draws(ROWS)), expected, atol=1e-6)
    np.testing.assert_allclose(labels_of(seen, jnp.asarray(images), Draws(np.arange(7))), labelling.values, atol=1e-6)
    assert bits == 32 * sum(leaf.size for leaf in jax.tree.leaves(trained))
    single, of_vectors = labelled_by(model, trained, jnp.asarray(images), 3, views=False)
    assert single.codec is None and of_vectors == 32 * 21
    with pytest.raises(JaxddError, match="a teacher is not made from labels"):
        label_codec(f"teacher:{model}").fit(labelling.values, None)


def test_no_code_of_somebodys_own_is_named_by_a_file():
    """Nor run, where a file names it all the same."""
    with pytest.raises(JaxddError, match="labels of views need a teacher of the zoo, since a file names no code"):
        labelled_by("my_models:net", NetworkState({}, {}), jnp.zeros((1, 8, 8, 1)), 3, views=True)
    with pytest.raises(JaxddError, match="'teacher:os:getcwd' names code of somebody's own, which is not run"):
        label_codec("teacher:os:getcwd")


def test_without_a_codec_a_view_has_the_label_of_its_image():
    values = np.arange(6)
    np.testing.assert_array_equal(labels_of(Labelling(values), None, Draws(ROWS)), values[ROWS])


SMALL = ("mlp(width=4, depth=1)", "convnet(width=2, depth=1, norm='batch')")


@pytest.fixture(scope="module")
def committee():
    images = jax.random.normal(jax.random.key(0), (6, 4, 4, 1))
    networks = [models.build(model, (4, 4, 1), 3) for model in SMALL]
    return networks, [NetworkState(*network.init(jax.random.key(1))) for network in networks], images


def test_a_committee_labels_by_the_weighted_sum_of_its_logits(committee, tmp_path):
    networks, states, images = committee
    logits = [n.apply(s.theta, images, s.stats)[0] for n, s in zip(networks, states, strict=True)]
    expected = jax.nn.softmax(0.75 * logits[0] + 0.25 * logits[1])
    plain, bits = labelled_by(SMALL, states, images, 3, views=False, weights=(0.75, 0.25))
    np.testing.assert_allclose(plain.values, expected, atol=1e-6)
    assert bits == 32 * 18 and plain.codec is None
    views, bits = labelled_by(SMALL, states, images, 3, views=True, weights=(0.75, 0.25))
    assert views.codec == f"teachers:{SMALL[0]} + {SMALL[1]}"
    assert bits == 32 * (sum(leaf.size for leaf in jax.tree.leaves(states)) + 2)
    dataset = DistilledDataset.create(Distilled(Content(images), views), data.Identity(), {})
    dataset.write(tmp_path / "set.safetensors")
    read = DistilledDataset.read(tmp_path / "set.safetensors").distilled().labelling
    some = images[ROWS] + 0.1
    logits = [n.apply(s.theta, some, s.stats)[0] for n, s in zip(networks, states, strict=True)]
    expected = jax.nn.softmax(0.75 * logits[0] + 0.25 * logits[1])
    np.testing.assert_allclose(labels_of(read, some, Draws(ROWS)), expected, atol=1e-6)
    equal, _ = labelled_by(SMALL, states, images, 3, views=True)
    np.testing.assert_array_equal(equal.stored["weights"], [0.5, 0.5])


def test_labels_by_the_batch_are_of_networks_that_normalise_by_it(committee):
    networks, states, images = committee
    views, _ = labelled_by(SMALL[1], states[1], images, 3, views=True, by_batch=True)
    assert views.codec == f"teachers-by-batch:{SMALL[1]}"
    logits, _ = networks[1].apply(states[1].theta, images[:2], states[1].stats, mode="batch")
    np.testing.assert_allclose(labels_of(views, images[:2], Draws(ROWS[:2])), jax.nn.softmax(logits), atol=1e-6)
    values = jax.nn.softmax(networks[1].apply(states[1].theta, images, states[1].stats)[0])
    np.testing.assert_allclose(views.values, values, atol=1e-6)  # of images as they are


def test_a_committee_needs_its_numbers(committee):
    _, states, images = committee
    with pytest.raises(JaxddError, match="2 models need as many teachers and weights, got 1 and 2"):
        labelled_by(SMALL, states[:1], images, 3, views=True)
    with pytest.raises(JaxddError, match="2 models need as many teachers and weights, got 2 and 3"):
        labelled_by(SMALL, states, images, 3, views=True, weights=(1.0, 2.0, 3.0))
    with pytest.raises(JaxddError, match="names code of somebody's own"):
        label_codec("teachers:mlp + my.module:make")
