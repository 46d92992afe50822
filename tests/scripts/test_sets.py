"""A run's set goes on the shelf as it is, but for what its decoder needs."""

import json

import sets as script

from jaxdd import sets, workflows
from jaxdd.synthetic import DistilledDataset


def test_a_set_is_shelved_as_it_was(tmp_path):
    row, dataset = sets.SETS["mnist_10"], sets.load("mnist_10")
    run = tmp_path / "run"
    run.mkdir()
    more = {**dataset.more, "params.images": dataset.transform.apply(dataset.images)}
    DistilledDataset(dataset.images, dataset.labels, dataset.transform, dataset.header, more).write(
        run / workflows.FILE
    )
    (run / workflows.RESULTS).write_text(json.dumps({"result": {"kernel_accuracy": row.accuracy}}))
    found = script.shelve("mnist_10", row.command, run, folder=tmp_path)
    assert found._replace(seen=None) == row._replace(seen=None)
    assert abs(found.seen[1] - row.seen[1]) < 0.003
    assert (tmp_path / "mnist_10.safetensors").read_bytes() == sets.path("mnist_10").read_bytes()
    measured = {"accuracy_mean": 0.71239, "networks": 5, "model": "convnet", "protocol": "quick"}
    (run / workflows.RESULTS).write_text(json.dumps({"result": {**measured, "kernel_accuracy": 0.5}}))
    found = script.shelve("new", row.command, run, folder=tmp_path)
    assert (found.accuracy, found.measured, found.about) == (0.7124, "5 × convnet, quick", "")
