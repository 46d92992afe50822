import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdd import data, evaluation, models
from jaxdd.errors import JaxddError
from jaxdd.evaluation import (
    Predictor,
    Protocol,
    Row,
    check_fits,
    compare,
    comparison,
    full_data_reference,
    kernel_accuracy,
    random_real,
    score,
    verify,
)
from jaxdd.kernels import ntk
from jaxdd.synthetic import DistilledDataset
from jaxdd.types import Distilled, Examples

SHORT = Protocol("short", "", (3e-3,), steps=40)


@pytest.fixture(scope="module")
def dataset():
    return data.load("mnist_5k")


@pytest.fixture(scope="module")
def transform(dataset):
    return data.fit_transform("standardize", dataset.train.pixels())


@pytest.fixture(scope="module")
def mnist(dataset, transform):
    real = [data.real_data(s, transform, 10) for s in (dataset.train, dataset.validation, dataset.test)]
    return real[0], *(Examples(r.images, r.labels.values) for r in real[1:])


@pytest.fixture(scope="module")
def mlp():
    return models.build("mlp", (28, 28, 1), 10, width=32)


def like(convention="centred", regime="hard", per_class=1):
    labels = jnp.zeros(10 * per_class, jnp.int32) if convention == "hard" else jnp.zeros((10 * per_class, 10))
    return Distilled(jnp.zeros((10 * per_class, 28, 28, 1)), labels, label_convention=convention, label_regime=regime)


def test_hard_baselines_are_real_images_with_their_own_labels(mnist, key):
    train = mnist[0]
    pairs = zip(np.asarray(train.images), np.asarray(train.labels.values), strict=True)
    rows = {image.tobytes(): int(label) for image, label in pairs}
    drawn = {c: random_real(key, train, 2, like=like(c)) for c in ("hard", "probability", "centred")}
    truth = [rows[np.asarray(image).tobytes()] for image in drawn["hard"].images]
    assert truth == sorted([*range(10)] * 2)
    np.testing.assert_array_equal(drawn["hard"].labels, truth)
    np.testing.assert_allclose(drawn["probability"].labels, np.eye(10)[truth], atol=1e-6)
    np.testing.assert_allclose(drawn["centred"].labels, np.eye(10)[truth] - 0.1, atol=1e-6)
    for convention, one in drawn.items():
        assert (one.label_convention, one.label_regime) == (convention, "hard")
        np.testing.assert_array_equal(one.images, drawn["hard"].images)
    other = random_real(jax.random.key(1), train, 2, like=like())
    assert np.any(other.images != drawn["hard"].images)


def test_learned_labels_are_the_better_baseline(mnist, key):
    train, _, test = mnist
    hard, learned = (
        random_real(key, train, 3, like=like("centred", r), predictor=Predictor(ntk)) for r in ("hard", "learned")
    )
    np.testing.assert_array_equal(hard.images, learned.images)
    assert learned.label_regime == "learned"
    assert learned.num_bits > hard.num_bits
    gain = kernel_accuracy(Predictor(ntk), learned, test) - kernel_accuracy(Predictor(ntk), hard, test)
    assert gain > 0.03


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"like": like(regime="learned")}, "needs the method's kernel"),
        ({"like": like("probability", "learned"), "predictor": Predictor(ntk)}, "centred labels"),
        ({"like": like(), "per_class": 100_000}, "100000"),
        ({"like": like(), "per_class": 0}, "at least 1"),
    ],
)
def test_impossible_baselines(mnist, key, arguments, sentence):
    with pytest.raises(JaxddError, match=sentence):
        random_real(key, mnist[0], **{"per_class": 1, **arguments})


def test_comparison_by_regime(mnist, mlp, key):
    train, validation, test = mnist
    full = evaluation.Score((0.9,), 1e-3, "full-data")
    learned = random_real(key, train, 2, like=like(regime="learned"), predictor=Predictor(ntk))
    options = {"key": key, "num_networks": 2, "predictor": Predictor(ntk), "full_data": full, "full_bits": 12345}
    rows = compare(mlp, learned, train, validation, test, SHORT, **options)
    names = ["distilled", "random real, learned labels", "random real, hard labels", "full data"]
    assert [row.name for row in rows] == names
    assert [row.num_images for row in rows] == [20, 20, 20, len(train.images)]
    assert [row.label_regime for row in rows] == ["learned", "learned", "hard", "hard"]
    assert rows[3].score is full
    assert rows[3].num_bits == 12345
    assert rows[3].kernel_accuracy is None
    assert rows[1].kernel_accuracy > rows[2].kernel_accuracy
    assert rows[0].num_bits == rows[1].num_bits > rows[2].num_bits
    assert all(len(row.score.accuracies) == 2 for row in rows[:3])
    for row in rows[:3]:  # what is counted class by class is what is measured
        seen = row.score.confusion.test_images
        assert row.score.mean == pytest.approx(np.average(row.score.confusion.accuracy, weights=seen))
        assert row.kernel_accuracy == pytest.approx(np.average(row.kernel_confusion.accuracy, weights=seen))
    assert [row.kernel_confusion.networks for row in rows[:3]] == [1, 2, 2]
    # The distilled set of this test is itself such a draw, so it stands where its baseline stands.
    assert abs(rows[0].kernel_accuracy - rows[1].kernel_accuracy) < 0.15

    hard = dataclasses.replace(learned, label_regime="hard")
    rows = compare(None, hard, train, None, test, key=key, num_networks=2, predictor=Predictor(ntk))
    assert [(row.name, row.score) for row in rows] == [("distilled", None), ("random real, hard labels", None)]
    assert rows == compare(None, hard, train, None, test, key=key, num_networks=2, predictor=Predictor(ntk))
    rows = compare(mlp, hard, train, None, test, SHORT, key=key, num_networks=1)
    assert [(row.name, row.kernel_accuracy) for row in rows][1:] == [
        ("random real, hard labels", None),
        ("herding", None),
    ]
    assert rows[2].num_bits == rows[1].num_bits and rows[2].num_images == 20


def test_comparison_solves_as_it_is_told(mnist, key, monkeypatch):
    train, _, test = mnist
    asked = []

    def predictions(predictor, distilled, test):
        asked.append(predictor)
        return np.zeros(len(test.labels), np.int32)

    monkeypatch.setattr(comparison, "kernel_predictions", predictions)
    compare(None, like(), train, None, test, key=key, num_networks=2, predictor=Predictor(ntk, 0.1, True))
    assert asked == [Predictor(ntk, 0.1, True)] * 3


def test_a_row_as_a_dict():
    pair = Row("distilled", 10, 320, "learned", evaluation.Score((0.5, 0.7), 0.1, "quick"), 0.8)
    assert json.loads(json.dumps(pair.as_dict())) == {
        "name": "distilled",
        "num_images": 10,
        "bits": 320,
        "label_regime": "learned",
        "kernel_accuracy": 0.8,
        "accuracy_mean": pytest.approx(0.6),
        "accuracy_std": pytest.approx(0.02**0.5),
        "networks": 2,
        "protocol": "quick",
        "learning_rate": 0.1,
        "note": None,
    }
    single = dataclasses.replace(pair, score=evaluation.Score((0.5,), 0.1, "quick")).as_dict()
    assert (single["accuracy_mean"], single["accuracy_std"], single["networks"]) == (0.5, None, 1)
    without = dataclasses.replace(pair, score=None).as_dict()
    assert without.keys() == single.keys()
    assert all(without[name] is None for name in ("accuracy_mean", "accuracy_std", "networks", "learning_rate"))


def test_no_key_serves_two_purposes(mnist, mlp, key, monkeypatch):
    """Neither the keys of draws and networks nor what either makes of them by splitting coincide."""
    train, validation, test = mnist
    draws, networks = [], []

    def recorded(function, into, position):
        def call(*arguments, **options):
            into.append(jax.random.key_data(arguments[position]))
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(comparison, "random_real", recorded(random_real, draws, 0))
    monkeypatch.setattr(score, "fit", recorded(score.fit, networks, 5))
    protocol = Protocol("two", "", (1e-3, 3e-3), steps=2)
    compare(mlp, random_real(key, train, 1, like=like()), train, validation, test, protocol, key=key, num_networks=3)
    assert len(draws) == 3
    networks = np.concatenate(networks)
    distilled, random, herding = np.split(networks, 3)
    np.testing.assert_array_equal(distilled, random, "all rows train the same networks")
    np.testing.assert_array_equal(distilled, herding)

    def family(keys):
        keys = jax.random.wrap_key_data(jnp.asarray(keys))
        both = jnp.concatenate([keys, jax.vmap(lambda k: jax.random.split(k, 4))(keys).ravel()])
        return {tuple(data.tolist()) for data in jax.random.key_data(both)}

    drawn, trained = family(np.stack(draws)), family(np.unique(distilled, axis=0))
    assert (len(drawn), len(trained)) == (3 * 5, (2 + 3) * 5)
    assert not drawn & trained


def test_full_data_reference_is_cached(mnist, mlp, tmp_path, monkeypatch):
    train, _, test = mnist
    protocol = Protocol("one", "", (1e-2,), epochs=2)

    def reference(identity, **options):
        return full_data_reference(mlp, train, test, protocol, identity=identity, cache_dir=tmp_path, **options)

    first = reference({"data": "abc"})
    assert first.mean > 0.7
    assert len(first.accuracies) == 5
    (file,) = tmp_path.iterdir()
    monkeypatch.setattr(evaluation.baselines, "evaluate", lambda *a, **k: pytest.fail("trained again"))
    assert reference({"data": "abc"}) == first
    same = {"identity": {"data": "abc"}}
    for other in ({"identity": {"data": "abd"}}, {**same, "seed": 1}, {**same, "cache": False}):
        with pytest.raises(pytest.fail.Exception, match="trained again"):
            reference(**other)
    with monkeypatch.context() as later, pytest.raises(pytest.fail.Exception, match="trained again"):
        later.setattr(evaluation.baselines, "__version__", "99")
        reference(**same)
    file.write_text(file.read_text()[:-20])
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        reference({"data": "abc"})
    monkeypatch.setattr(evaluation.baselines, "evaluate", lambda *a, **k: first)
    assert reference({"data": "abc"}) == first
    monkeypatch.setattr(evaluation.baselines, "evaluate", lambda *a, **k: pytest.fail("trained again"))
    assert reference({"data": "abc"}) == first, "the damaged file was written again"


def test_cache_directory_from_the_environment_and_unwritable(mnist, mlp, tmp_path, monkeypatch):
    train, _, test = mnist
    score = evaluation.Score((0.5,), 1e-3, "full-data")
    monkeypatch.setattr(evaluation.baselines, "evaluate", lambda *a, **k: score)
    monkeypatch.setenv("JAXDD_CACHE_DIR", str(tmp_path / "cache"))
    assert full_data_reference(mlp, train, test, identity={}) == score
    assert len(list((tmp_path / "cache" / "references").iterdir())) == 1
    assert full_data_reference(mlp, train, test, identity={"own": "code"}, cache=False) == score
    assert len(list((tmp_path / "cache" / "references").iterdir())) == 1
    (tmp_path / "file").write_text("")
    assert full_data_reference(mlp, train, test, identity={}, cache_dir=tmp_path / "file") == score


@pytest.fixture(scope="module")
def stored(mnist, dataset, transform):
    distilled = random_real(jax.random.key(0), mnist[0], 1, like=like(regime="learned"), predictor=Predictor(ntk))
    kernel = {"name": "ntk", "depth": 1, "activation": "relu", "w_std": 2**0.5, "b_std": 0.1, "ridge": 1e-6}
    distilled = dataclasses.replace(distilled, kernel=tuple(kernel.items()))
    header = {
        "method": "label solve",
        "config": {},
        "seed": 0,
        "data": {"name": dataset.name, "source_hash": dataset.source_hash, "num_classes": 10},
        "protocol": "quick",
    }
    return DistilledDataset.create(distilled, transform, header)


@pytest.mark.endurance
def test_verification(stored, dataset, mnist, tmp_path):
    path = tmp_path / "set.safetensors"
    stored.write(path)
    options = {"model": "mlp", "model_options": {"width": 32}, "num_networks": 2}
    found = verify(path, dataset, **options)
    assert found.score.protocol == "quick"
    assert found.agrees is None
    expected = kernel_accuracy(Predictor(ntk), stored.distilled(), mnist[2])
    assert found.kernel_accuracy == expected > 0.3

    recorded = Row("distilled", 10, 0, "learned", found.score, found.kernel_accuracy).as_dict()
    assert verify(stored, dataset, recorded=recorded, **options).agrees is True
    wrong = {"accuracy_mean": found.score.mean + 0.5, "kernel_accuracy": found.kernel_accuracy + 0.002}
    refuted = verify(path, dataset, recorded=wrong, **options)
    assert refuted.agrees is False
    assert [sentence.split()[0] for sentence in refuted.disagreements] == ["accuracy_mean", "kernel_accuracy"]
    kernel_only = verify(path, dataset, model=None, recorded=wrong | {"kernel_accuracy": found.kernel_accuracy})
    assert kernel_only.score is None
    assert kernel_only.agrees is True
    assert kernel_only.compared == ("kernel_accuracy",)


def test_verification_solves_as_the_file_says(stored, dataset, monkeypatch):
    asked = []
    monkeypatch.setattr(evaluation.verification, "kernel_accuracy", lambda how, *a: asked.append(how) or 0.5)
    for extra in ({}, {"float64": True}):
        header = {**stored.header, "kernel": {**stored.header["kernel"], **extra}}
        verify(dataclasses.replace(stored, header=header), dataset, model=None)
    assert [how[1:] for how in asked] == [(1e-6, False), (1e-6, True)]


@pytest.mark.parametrize(("away", "agrees"), [(0.27, True), (0.30, False)])
def test_accuracies_agree_within_twice_their_standard_error(stored, dataset, monkeypatch, away, agrees):
    """That of both means, each of two networks that are 0.2 apart: 0.1 and 0.1."""
    score = evaluation.Score((0.6, 0.8), 1e-3, "quick")
    monkeypatch.setattr(evaluation.verification, "evaluate", lambda *arguments, **options: score)
    recorded = {"accuracy_mean": 0.7 + away, "accuracy_std": score.std, "networks": 2}
    assert verify(stored, dataset, model="mlp", num_networks=2, recorded=recorded).agrees is agrees


def test_what_was_not_measured_is_not_compared(stored, dataset):
    found = verify(stored, dataset, model=None, recorded={"accuracy_mean": None, "kernel_accuracy": None})
    assert found.agrees is None


@pytest.mark.parametrize("convention", ["centred", "hard"])
def test_a_small_header_is_enough(dataset, transform, mnist, key, convention):
    """The classes come from the labels where the header does not tell, and no hash is no disagreement."""
    distilled = random_real(key, mnist[0], 1, like=like(convention))
    stored = DistilledDataset.create(distilled, transform, {"method": "own", "seed": 0, "data": {"name": "mnist_5k"}})
    check_fits(stored, dataset)
    assert verify(stored, dataset, model="mlp", num_networks=1, protocol=SHORT).disagreements == ()
    fewer = dataclasses.replace(dataset, class_names=dataset.class_names[:9])
    with pytest.raises(JaxddError, match=r"the distilled set has 10 classes .* has 9 of"):
        check_fits(stored, fewer)
    more = dataclasses.replace(dataset, class_names=(*dataset.class_names, "more"))
    if convention == "hard":
        check_fits(stored, more)
        stored.header["data"]["num_classes"] = 10
    with pytest.raises(JaxddError, match=r"the distilled set has 10 classes .* has 11 of"):
        check_fits(stored, more)
    images = np.zeros((30, 14, 14, 1), np.uint8)
    small = data.from_arrays(images, np.arange(30) % 10)
    with pytest.raises(JaxddError, match=r"classes of images \(28, 28, 1\), arrays has 10 of \(14, 14, 1\)"):
        check_fits(stored, small)


def test_verification_with_other_data(stored, dataset):
    other = dataclasses.replace(dataset, source_hash="0" * 64, name="other")
    found = verify(stored, other, model=None)
    assert found.agrees is False
    assert found.disagreements == ("other is not the data this set was distilled from: their hashes differ",)
    fewer = dataclasses.replace(dataset, class_names=dataset.class_names[:9])
    with pytest.raises(JaxddError, match="give the data it was distilled from"):
        verify(stored, fewer, model=None)


def test_verification_refuses_a_damaged_file(stored, dataset, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(stored.to_bytes()[:-100])
    with pytest.raises(JaxddError, match=r"cut\.safetensors"):
        verify(path, dataset)
