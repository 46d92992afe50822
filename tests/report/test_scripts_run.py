"""`train_torch.py` executed: what PyTorch finds is what jaxdd measured."""

import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxdd import data, evaluation, models
from jaxdd._jax import key_of
from jaxdd.report.scripts import training_scripts
from jaxdd.synthetic import DistilledDataset
from jaxdd.types import Distilled, leaves_by_path

pytestmark = pytest.mark.endurance
MODEL, SHAPE = "convnet(width=8, depth=2)", (14, 14, 1)
OF_FEATURES = "mlp(width=32)"  # for a thousand epochs


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Digits at half their size, as a data set and as the `.npz` that the program takes."""
    pytest.importorskip("torch", reason="train_torch.py needs PyTorch: pip install 'jaxdd[bench]'")
    source = data.load("mnist_5k")
    arrays = {
        "x_train": source.train.images[::4, ::2, ::2],
        "y_train": source.train.labels[::4],
        "x_test": source.test.images[:, ::2, ::2],
        "y_test": source.test.labels,
    }
    path = tmp_path_factory.mktemp("real") / "digits.npz"
    np.savez(path, **arrays)
    return path, data.load(path, validation=0.0)


def executed(folder, dataset, row, path):
    dataset.write(folder / "distilled.safetensors")
    for name, text in training_scripts(dataset, [{"name": "distilled", **row}]).items():
        (folder / name).write_text(text)
    command = [sys.executable, "train_torch.py", str(path)]
    few_threads = {**os.environ, "OMP_NUM_THREADS": "1"}  # what is so small only waits for more
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=few_threads)
    assert done.returncode == 0, done.stderr
    return float(re.match(r"(?:test accuracy|linear probes) ([\d.]+)", done.stdout)[1]) / 100


@pytest.mark.parametrize("convention", ["hard", "probability", "raw", "centred", "features"])
def test_every_convention_gives_what_jaxdd_measured(convention, real, tmp_path):
    path, dataset = real
    chosen = np.concatenate([np.flatnonzero(dataset.train.labels == k)[:5] for k in range(10)])
    transform = data.fit_transform("standardize", dataset.train.pixels())
    train, test = (data.real_data(split, transform, 10) for split in (dataset.train, dataset.test))
    labels = dataset.train.labels[chosen]
    soft = np.eye(10, dtype=np.float32)[labels]
    values = {"hard": labels, "probability": soft, "raw": 3 * soft, "centred": soft - np.float32(0.1)}
    values["features"] = np.asarray(train.images).reshape(len(train.images), -1)[chosen, 60:92]
    distilled = Distilled(train.images[chosen], values[convention], label_convention=convention)
    stored = DistilledDataset.create(distilled, transform, {"data": {"num_classes": 10}})
    row = {"model": MODEL, "networks": 4, "protocol": "quick", "learning_rate": 3e-3}
    if convention == "features":
        network = models.build(OF_FEATURES, SHAPE, 32)
        targets = np.zeros((len(train.images), 32), np.float32)
        (ours, *_) = evaluation.pretrain(
            network, distilled, train.images, targets, "krr-st", key=key_of(0), num_networks=4
        )
        (found,) = evaluation.transfer([ours], train, test.examples, name="digits", key=key_of(1))
        mean, row = np.mean(found.probe), {**row, "protocol": "krr-st", "probe_mean": 0.5, "learning_rate": None}
        row["model"] = OF_FEATURES
    else:
        network = models.build(MODEL, SHAPE, 10)
        protocol = evaluation.protocols.get("quick").without_validation()
        mean = evaluation.evaluate(
            network, distilled, None, test.examples, protocol, num_networks=4, key=key_of(0)
        ).mean
        row |= {"accuracy_mean": mean, "learning_rate": protocol.learning_rates[0]}
    assert executed(tmp_path, stored, row, path) == pytest.approx(mean, abs=0.04)


@pytest.mark.parametrize("model", ["convnet(width=8, depth=2)", "mlp(width=64)", "lenet"])
def test_a_set_of_one_initialisation_gives_the_very_figure(model, real, tmp_path):
    path, dataset = real
    transform = data.fit_transform("standardize", dataset.train.pixels())
    if model == "lenet":  # of larger images
        path, dataset = tmp_path / "large.npz", data.load("mnist_5k")
        np.savez(path, x_test=dataset.test.images, y_test=dataset.test.labels)
    train, test = (data.real_data(split, transform, 10) for split in (dataset.train, dataset.test))
    chosen = np.concatenate([np.flatnonzero(dataset.train.labels == k)[:2] for k in range(10)])
    network = models.build(model, dataset.image_shape, 10)
    theta = leaves_by_path(network.init(jax.random.key(5))[0])
    plan = np.tile(np.arange(20, dtype=np.int32).reshape(10, 2).T, (10, 1))  # one of each class a step
    own = {"plan": plan, "learning_rates": np.linspace(0.1, 0.02, 20).astype(np.float32), "theta0": theta}
    soft = np.eye(10, dtype=np.float32)[dataset.train.labels[chosen]]
    distilled = Distilled(train.images[chosen], soft, label_convention="raw", **own)
    score = evaluation.evaluate(network, distilled, None, test.examples, "as-distilled", num_networks=1, key=key_of(0))
    stored = DistilledDataset.create(distilled, transform, {"data": {"num_classes": 10}})
    row = {"model": model, "networks": 1, "protocol": "as-distilled", "accuracy_mean": score.mean, "learning_rate": 1.0}
    assert score.mean > 0.2
    assert executed(tmp_path, stored, row, path) == pytest.approx(score.mean, abs=0.003)
