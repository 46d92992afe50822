"""The sets that travel with jaxdd are what their rows say."""

import hashlib

import numpy as np
import pytest

from jaxdd import data, evaluation, sets, workflows
from jaxdd.errors import JaxddError
from jaxdd.sets import table
from jaxdd.workflows import settled


def test_files_and_rows_are_the_same_and_small():
    files = {file.stem: file for file in sets.path(next(iter(sets.SETS))).parent.glob("*.safetensors")}
    assert set(files) == set(sets.SETS) and {"mnist_10", "fashion_mnist_10"} <= set(files)
    assert sum(file.stat().st_size for file in files.values()) <= table.MOST
    assert sets.available() == {name: row.about for name, row in sets.SETS.items()}


@pytest.mark.parametrize("name", sets.SETS)
def test_a_set_is_what_its_row_says(name):
    row, dataset = sets.SETS[name], sets.load(name)
    content = sets.path(name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == row.sha256 and dataset.to_bytes() == content
    about = dataset.header["data"]
    assert (about["license"], about["source_hash"]) == (row.license, row.source_hash)
    assert about["license"] != "unknown" and "path" not in about and b"/home" not in content and b"/tmp" not in content
    assert row.command.startswith("jaxdd distill --config=") and f"--config.data.name={about['name']}" in row.command
    assert f"{100 * row.accuracy:.1f} %" in row.about and 0 < row.accuracy < 1 and row.measured
    classes = dataset.labels.argmax(1) if dataset.labels.ndim == 2 else dataset.labels
    counts = np.bincount(classes, minlength=about["num_classes"])
    assert counts.min() == counts.max() > 0


def kernel_accuracy(name, data_name):
    dataset = sets.load(name)
    real = workflows.Real.load(data_name, dataset.transform, validation=0.0, seed=0, stream=False)
    distilled = dataset.distilled()
    predictor = evaluation.Predictor.of(dict(distilled.kernel), real.dataset.image_shape, real.dataset.num_classes)
    return evaluation.kernel_accuracy(predictor, distilled, real.test.examples), real.dataset


@pytest.mark.parametrize("name", [name for name, row in sets.SETS.items() if row.seen])
def test_its_kernel_sees_what_it_saw(name):
    there, accuracy = sets.SETS[name].seen
    assert kernel_accuracy(name, there)[0] == pytest.approx(accuracy, abs=0.003)


@pytest.mark.parametrize("name", [name for name, row in sets.SETS.items() if row.measured == "its kernel"])
def test_its_accuracy_where_its_data_are(name):
    source = sets.load(name).header["data"]["name"]
    if source not in data.available():
        pytest.skip(f"{source} is not on this machine")
    accuracy, dataset = kernel_accuracy(name, source)
    if dataset.source_hash != sets.SETS[name].source_hash:
        pytest.skip(f"{source} on this machine is another one")
    assert accuracy == pytest.approx(sets.SETS[name].accuracy, abs=0.003)


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(JaxddError, match="unknown set 'mnist10'; did you mean 'mnist_10'"):
        sets.load("mnist10")


def test_wherever_a_file_is_asked_for(tmp_path):
    assert workflows.distilled_file("sets:mnist_10") == sets.path("mnist_10")
    with pytest.raises(JaxddError, match="unknown set 'mnits_10'; did you mean 'mnist_10'"):
        workflows.distilled_file("sets:mnits_10")
    section = workflows.complete({"method": {"name": "kip"}})["data"]
    begun = settled.settle("kip", {"init": "sets:mnist_10"}, workflows.Real.of_config(section)).hyper["init"]
    assert begun.images.shape == (10, 28, 28, 1) and begun.learned
    outcome = workflows.evaluate(
        "sets:mnist_10", data_name="mnist_5k", model="mlp(width=4, depth=1)", protocol="quick", networks=1
    )
    assert outcome.result["kernel_accuracy"] == pytest.approx(sets.SETS["mnist_10"].seen[1], abs=0.01)
