"""A distilled file measured again."""

import json

import numpy as np
import pytest

from jaxdd import data, evaluation, workflows
from jaxdd.errors import JaxddError
from jaxdd.synthetic import DistilledDataset
from jaxdd.types import Distilled


@pytest.fixture
def stored(tiny, tmp_path):
    """Ten real digits as a distilled file, `stored(about=.., spec=..)`."""
    dataset = data.load(tiny / "tiny.npz")

    def write(spec="standardize", model=None, **about):
        transform = data.fit_transform(spec, dataset.train.pixels(), name="mnist_5k")
        images = np.float32(transform.apply(dataset.train.pixels()[:10]))
        facts = {"name": "tiny", "validation": 0.1, "split_seed": 0, "num_classes": 10, **about}
        path = tmp_path / "distilled.safetensors"
        header = {"data": facts, **({} if model is None else {"model": model})}
        DistilledDataset.create(Distilled(images, np.arange(10)), transform, header).write(path)
        return path

    return write


def test_a_file_or_its_directory_is_measured_beside_real_images(stored, tmp_path):
    path = stored()
    options = {"model": "mlp(width=8, depth=1)", "protocol": "quick", "networks": 1}
    outcome = workflows.evaluate(tmp_path, **options, learning_rate=0.001)
    assert outcome.path == path and outcome.result["distilled_from_this_data"]
    assert [row["name"] for row in outcome.rows] == ["distilled", "random real, hard labels", "herding"]
    assert {row["learning_rate"] for row in outcome.rows} == {0.001} and 0 < outcome.result["accuracy_mean"] < 1
    known = outcome.rows[0]["by_class"]
    assert known["class_names"] == list("0123456789") and "by_class" not in outcome.rows[1]
    accuracy, images = known["networks"]["accuracy"], known["test_images"]
    assert np.average(accuracy, weights=images) == pytest.approx(outcome.result["accuracy_mean"])
    assert np.sum(known["networks"]["confusion"], axis=1).tolist() == images and "kernel" not in known
    again = workflows.evaluate(path, **options, learning_rate=0.001)
    assert again.rows == outcome.rows


def test_other_data_are_refused_unless_they_are_named(stored):
    path = stored(source_hash="another")
    with pytest.raises(JaxddError, match=r"'tiny' here is not the data .* was distilled from"):
        workflows.evaluate(path)
    outcome = workflows.evaluate(path, data_name="tiny", model="mlp(width=4, depth=1)", protocol="quick", networks=1)
    assert outcome.result["distilled_from_this_data"] is False


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        ({"name": None}, "does not say which data it was distilled from: name it by --data=NAME_OR_PATH."),
        ({"name": "nowhere"}, "--data=NAME_OR_PATH says where 'nowhere' lies."),
    ],
)
def test_data_that_cannot_be_found(about, sentence, stored):
    with pytest.raises(JaxddError) as caught:
        workflows.evaluate(stored(**about))
    assert str(caught.value).endswith(sentence)


def test_a_directory_without_a_file(tmp_path):
    with pytest.raises(JaxddError, match=r"holds no distilled\.safetensors: is its run finished"):
        workflows.distilled_file(tmp_path)
    assert workflows.distilled_file(tmp_path / "any") == tmp_path / "any"


def test_full_data_are_known_by_the_numbers_of_their_transform(stored, monkeypatch):
    """Two standardisations have one name, and networks of one must not stand for those of the other."""
    seen = []

    def asked(*arguments, identity, **options):
        seen.append(json.dumps(identity))
        raise JaxddError("enough")

    monkeypatch.setattr(evaluation, "full_data_reference", asked)
    for spec in ("published", "standardize", "standardize"):
        with pytest.raises(JaxddError, match="enough"):
            workflows.evaluate(stored(spec), model="mlp", full_data=True)
    assert seen[0] != seen[1] == seen[2]


def no_networks(monkeypatch):
    """What was loaded ends an evaluation, before anything is trained."""

    def refused(dataset, real):
        raise JaxddError(f"loaded {real.name}: {real.source_hash}.")

    monkeypatch.setattr(evaluation, "check_fits", refused)


def test_data_are_found_by_the_path_that_was_a_hint(stored, tiny, tmp_path, monkeypatch):
    no_networks(monkeypatch)
    np.savez(tmp_path / "own.npz", **np.load(tiny / "tiny.npz"))
    expected = data.load(tiny / "tiny.npz").source_hash
    monkeypatch.chdir(tmp_path)
    for hint in ("own.npz", "./own.npz", str(tmp_path / "own.npz")):
        with pytest.raises(JaxddError, match=f"loaded own: {expected}"):
            workflows.evaluate(stored(name="own", path=hint))
    # Another name is another name; without the path the name is left.
    with pytest.raises(JaxddError, match="loaded tiny"):
        workflows.evaluate(stored(name="own", path="own.npz"), data_name="tiny")
    for hint in ("gone/tiny.npz", "~nobody/tiny.npz", 5):
        with pytest.raises(JaxddError, match="loaded tiny"):
            workflows.evaluate(stored(path=hint))
    with pytest.raises(JaxddError) as caught:
        workflows.evaluate(stored(name="own", path="gone/own.npz"))
    assert str(caught.value).endswith(
        "; it was distilled from gone/own.npz (no such path here); --data=NAME_OR_PATH says where 'own' lies."
    )


@pytest.mark.parametrize("about", [{"name": "os:abort"}, {"path": "os:abort", "name": "os:abort"}])
def test_a_file_calls_no_function(about, stored):
    with pytest.raises(
        JaxddError, match="names a function, os:abort, which is called only if you name it: --data=os:ab"
    ):
        workflows.evaluate(stored(**about))


def test_a_network_by_its_code_runs_only_if_it_is_named(stored):
    with pytest.raises(JaxddError, match=r"by its code, os:abort, which runs only if you name it: --model=os:abort"):
        workflows.evaluate(stored(model="os:abort"))
