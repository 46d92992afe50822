"""Small real digits, and a config on them, for every test of the room."""

import numpy as np
import pytest

from jaxdd import evaluation


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, mnist):
    """A data directory with 600 real digits at half their size as `tiny.npz`, and as numbers in `floats.npz`."""
    folder = tmp_path_factory.mktemp("data")
    source = mnist.dataset
    arrays = {"x_train": source.train.images[::7, ::2, ::2], "y_train": source.train.labels[::7]}
    arrays |= {"x_test": source.test.images[::10, ::2, ::2], "y_test": source.test.labels[::10]}
    np.savez(folder / "tiny.npz", **arrays)
    # Runs on what need not be decoded share a compiled program.
    np.savez(folder / "floats.npz", **{x: y if x[0] == "y" else np.float32(y) / 255 for x, y in arrays.items()})
    return folder


@pytest.fixture(autouse=True)
def data_dir(tiny, monkeypatch):
    monkeypatch.setenv("JAXDD_DATA_DIR", str(tiny))


@pytest.fixture(scope="session")
def config():
    """A config that takes seconds, of class means unless the method matters: `config(name, section={field: value})`."""
    methods = {
        "toys:means": {},
        "kip": {"target_batch": 64},
        "dm": {"model": "mlp(width=8, depth=1)", "target_per_class": 8, "augmentation": "none"},
        "dd": {"model": "mlp(width=8, depth=1)", "ipc": 1, "steps": 1, "target_batch": 32},
    }

    models = {"toys:means": "mlp(width=8, depth=1)"}  # of a method that has no networks itself

    def of(name="toys:means", **sections):
        unjudged = {} if name == "kip" else {"validate": "none"}  # networks on the way cost more than the run
        return {
            "data": {"name": "floats" if name == "toys:means" else "tiny", **sections.get("data", {})},
            "method": {"name": name, **methods[name], **sections.get("method", {})},
            "run": {"steps": 6, "validate_every": 2, **unjudged, **sections.get("run", {})},
            "evaluation": {"networks": 1, "model": models.get(name), **sections.get("evaluation", {})},
        }

    return of


@pytest.fixture
def trained(monkeypatch):
    """Networks that would be trained on a set or beside it; each scores by its place among them, at no cost."""
    seen = []

    def score(network, distilled, *args, num_networks, **options):
        seen.append(network)
        value = (0.5 if len(seen) % 3 == 1 else 0.25) + len(seen) / 1000
        return evaluation.Score((value,) * num_networks, 0.001, "quick")

    monkeypatch.setattr("jaxdd.evaluation.comparison.evaluate", score)
    return seen
