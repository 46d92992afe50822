"""What a config points to: a budget in bytes, and a set to go on with."""

import json
import shutil

import numpy as np
import pytest
import toys

from jaxdd import _progress, data, engine, workflows
from jaxdd._jax import key_of
from jaxdd.errors import JaxddError
from jaxdd.selection import Selection
from jaxdd.synthetic import DistilledDataset
from jaxdd.types import Distilled, bound
from jaxdd.workflows import settled

SMALL = {"model": "mlp(width=4, depth=1)"}


@pytest.fixture(scope="module")
def real(tiny):
    section = workflows.complete({"method": {"name": "kip"}, "data": {"name": str(tiny / "tiny.npz")}})["data"]
    return workflows.Real.of_config(section)


def bytes_of(name, hyper, real):
    return engine.shape_of_product(real.method(name, hyper), real.stored).num_bits / 8


# A method whose sets cost so much an image; one with a share of its own; one that takes every other number of images;
# one with a decoder, whose sets cost nearly so much.
METHODS = [("kip", {}, 1), ("mtt", SMALL, 1), ("dd", {**SMALL, "steps": 2}, 2), ("linba", {**SMALL, "bases": 4}, 1)]


@pytest.mark.parametrize(("name", "hyper", "step"), METHODS, ids=[name for name, *_ in METHODS])
def test_a_budget_is_the_most_images_that_it_pays_for(name, hyper, step, real):
    for budget in (17_000, 90_000):
        made, told = settled.settle(name, {"bytes": budget, **hyper}, real)
        assert made == told and "bytes" not in told and made["ipc"] % step == 0
        more = {**made, "ipc": made["ipc"] + step}
        assert bytes_of(name, made, real) <= budget < bytes_of(name, more, real)
    exact = {**hyper, "ipc": 3 * step}
    assert settled.settle(name, {"bytes": int(np.ceil(bytes_of(name, exact, real))), **hyper}, real).hyper == exact


@pytest.mark.parametrize(
    ("name", "hyper", "sentence"),
    [
        ("kip", {"bytes": 8239}, "config.method.bytes=8239 is too little: ipc=1 of kip on tiny costs 8240 bytes"),
        ("dd", {**SMALL, "bytes": 9}, "config.method.bytes=9 is too little: ipc=10 of dd on tiny costs"),
        ("kip", {"bytes": 10**7}, "config.method.bytes=10000000 is more than there is: images per class is 1213, but"),
        ("kip", {"bytes": 0}, "config.method.bytes must be an integer of at least 1, got 0"),
        ("kip", {"bytes": "9kB"}, "config.method.bytes must be an integer of at least 1, got '9kB'"),
        ("krr_st", {"bytes": 9}, "config.method.bytes stands in place of ipc, and krr_st has no ipc"),
        ("kip", {"bytes": 9, "epochs": 1}, "unknown option of KIP 'epochs'"),
    ],
)
def test_budgets_that_buy_nothing(name, hyper, sentence, real):
    with pytest.raises(JaxddError) as error:
        settled.check(name, hyper)
        settled.settle(name, hyper, real)
    assert str(error.value).startswith(sentence)


@pytest.mark.endurance
def test_a_run_by_its_bytes_is_the_run_by_its_images(config, tmp_path):
    asked, told = config("kip", method={"bytes": 17_000}, run={"steps": 1}), toys.Told()
    with _progress.listening(told):
        outcome = workflows.distill(asked, tmp_path / "run", evaluate="none")
    assert outcome.result["num_images"] == 20 and outcome.result["num_bits"] <= 8 * 17_000
    assert "config.method.bytes=17000 comes to ipc=2, which costs 16480 bytes" in told.lines
    again = workflows.distill(
        config("kip", method={"ipc": 2}, run={"steps": 1}), tmp_path / "run", resume=True, evaluate="none"
    )
    assert again.result["resumed_from"] == 1


@pytest.fixture(scope="module")
def two(tiny, tmp_path_factory):
    """Two sets with an image of each class, real digits; `two[k]` is the path of the file."""
    folder, dataset = tmp_path_factory.mktemp("sets"), data.load(tiny / "tiny.npz")
    images = dataset.train.pixels()
    rows = [np.flatnonzero(dataset.train.labels == k)[:2] for k in range(10)]
    for k in range(2):
        chosen = Distilled(images[[of_class[k] for of_class in rows]], np.arange(10))
        about = {"num_classes": 10, "class_names": list("0123456789"), "pixel_range": [0.0, 1.0]}
        DistilledDataset.create(chosen, data.Identity(), {"data": about}).write(folder / f"{k}.safetensors")
    return [folder / f"{k}.safetensors" for k in range(2)]


@pytest.mark.endurance
def test_a_run_goes_on_with_a_file(two, config, tmp_path):
    """Through pixel space, whatever transform there is, and known by what is in it, wherever it lies."""
    elsewhere = tmp_path / "elsewhere" / "distilled.safetensors"
    elsewhere.parent.mkdir()
    shutil.copy(two[0], elsewhere)
    still = {"labels": "fixed", "learning_rate": 1e-9, "ema": 0.0}

    def run(init, **options):
        asked = config("kip", method={**still, "init": str(init)}, run={"steps": 1}, data={"transform": "zca"})
        return workflows.distill(asked, tmp_path / "run", evaluate="none", **options)

    outcome = run(two[0])
    first, there = DistilledDataset.read(outcome.path), DistilledDataset.read(two[0])
    np.testing.assert_allclose(first.images, there.images, atol=1e-4)
    told = first.header["config"]["method"]["init"]
    assert told.startswith("set:") and told.endswith("+real") and len(told) == len("set:+real") + 64
    assert json.loads((tmp_path / "run" / "run.json").read_text())["config"]["method"]["init"] == told
    assert str(two[0]) not in outcome.path.read_bytes().decode(errors="replace")
    assert run(elsewhere.parent, resume=True).result["resumed_from"] == 1
    for other, shown in (
        (two[1], "set:"),
        (f"{two[0]}+noise", f"{told.removesuffix('+real')}+noise"),
        ("noise", "noise"),
    ):
        with pytest.raises(JaxddError) as error:
            run(other, resume=True)
        assert f"config.method.init is '{told}' there and '{shown}" in str(error.value)


def test_the_rest_is_what_the_method_begins_with_or_what_is_named(two, real):
    for name, init, rest in (
        ("dm", two[0], "real"),
        ("dc", two[0], "noise"),
        ("rat_bptt", two[0], "unit"),
        ("dm", f"{two[0]}+unit", "unit"),
    ):
        assert settled.settle(name, {"init": str(init)}, real).hyper["init"].rest == rest
    assert settled.settle("dm", {"init": "noise"}, real) == ({"init": "noise"},) * 2


def test_what_is_not_to_be_seen_in_a_file_is_said(two, real, tmp_path, caplog):
    dataset = DistilledDataset.read(two[0])

    def write(rows=10, **about):
        header = {**dataset.header, "data": {**dataset.header["data"], **about}}
        path = tmp_path / "a.safetensors"
        DistilledDataset(dataset.images[:rows], dataset.labels[:rows], dataset.transform, header).write(path)
        return str(path)

    settled.settle("dm", {"init": write(5, num_classes=5, class_names=["zero", "one"])}, real)
    assert "class 0 is 'zero' in" in caplog.messages[0]
    assert "has 5 of the 10 classes; the others begin with real images." in caplog.messages[1]
    with pytest.raises(JaxddError, match=r"lie in \[0.0, 255.0\] and those of the data in \[0.0, 1.0\]: scale both"):
        settled.settle("dm", {"init": write(pixel_range=[0.0, 255.0])}, real)
    settled.settle("dm", {"init": write(pixel_range="unknown")}, real)


@pytest.mark.parametrize(
    ("init", "sentence"),
    [
        ("gone.safetensors", "gone.safetensors: there is no such file"),
        ("gone.safetensors+noise", "gone.safetensors: there is no such file"),
        (".", "holds no distilled.safetensors: is its run finished"),
        ("nois", "did you mean 'noise'"),
    ],
)
@pytest.mark.parametrize("name", ["dm", "dd"])
def test_files_that_are_not_there_cost_no_loading(name, init, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(JaxddError, match=sentence):
        settled.check(name, {"init": init})


def test_a_run_begins_with_what_was_selected(real, tmp_path):
    numbers = real.dataset.train.numbers
    rows = np.array([np.flatnonzero(real.dataset.train.labels == label)[3] for label in range(10)])
    facts = {"source_hash": real.dataset.source_hash, "name": "tiny"}
    Selection(numbers[rows], np.ones(10, np.float32), {"data": facts}).write(tmp_path / "selection.safetensors")
    hyper = {"ipc": 2, "init": f"{tmp_path / 'selection.safetensors'}+noise"}
    settled.check("kip", hyper)
    made, told = settled.settle("kip", hyper, real)
    assert str(tmp_path) not in str(told)
    begun = real.method("kip", made)
    state = bound(begun, real.stored).init(key_of(0), real.stored)
    np.testing.assert_allclose(state.params["images"][::2], real.train.images[rows], atol=1e-6)
    Selection(numbers[rows], np.ones(10), {"data": {**facts, "source_hash": "0"}}).write(tmp_path / "other.safetensors")
    with pytest.raises(JaxddError, match="hashes differ"):
        settled.settle("kip", {"init": str(tmp_path / "other.safetensors")}, real)
