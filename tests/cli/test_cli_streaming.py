"""A folder of images streamed through the command line: what it gives in memory."""

import json

import numpy as np
import pytest
from PIL import Image
from toys import once

from jaxdd import data
from jaxdd.cli import main
from jaxdd.synthetic import DistilledDataset

TINY = (
    "--config=dm",
    "--config.method.ipc=1",
    "--config.method.model=mlp(width=16, depth=1)",
    "--config.method.target_per_class=8",
    "--config.method.augmentation=none",
    "--config.evaluation.model=mlp(width=16, depth=1)",
    "--config.evaluation.networks=1",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """300 real digits, halved in size, as PNG files."""
    source = data.load("mnist_5k")
    root = tmp_path_factory.mktemp("data") / "digits"
    for split, part in (("train", source.train), ("test", source.test)):
        for k in range(0, len(part), 10):
            file = root / split / str(part.labels[k]) / f"{k}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(part.images[k, ::2, ::2, 0]).save(file)
    return root


def distill(folder, workdir, steps, *arguments):
    run = [f"--config.data.name={folder}", f"--config.run.steps={steps}", f"--workdir={workdir}", *arguments]
    return main(once(["distill", *TINY, *run]))


STREAM = "--config.data.stream=True"


@pytest.mark.endurance
def test_a_streamed_run_is_that_of_data_in_memory_and_either_goes_on_as_the_other(folder, tmp_path):
    assert distill(folder, tmp_path / "memory", 6, "--evaluate=none") == 0
    assert distill(folder, tmp_path / "streamed", 4, STREAM) == 0
    rows = json.loads((tmp_path / "streamed" / "results.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["distilled", "random real, hard labels", "herding"]
    assert [row["accuracy_mean"] is None for row in rows] == [False, False, True]
    note = "not measured: needs all real images in memory, and the data are streamed"
    assert [row["note"] for row in rows] == [None, None, note]
    assert distill(folder, tmp_path / "streamed", 6, "--evaluate=none", "--resume") == 0
    whole, streamed = (
        DistilledDataset.read(tmp_path / name / "distilled.safetensors") for name in ("memory", "streamed")
    )
    assert whole.header == streamed.header and whole.header["data"]["path"] == str(folder)
    np.testing.assert_allclose(streamed.images, whole.images, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((STREAM, "--full_data"), "--full_data trains on all real images in memory"),
        ((STREAM, "--config.data.name=tiny"), "tiny.npz cannot be streamed"),
    ],
)
def test_what_cannot_be_streamed_is_one_sentence(arguments, sentence, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAXDD_DATA_DIR", str(tmp_path))
    np.savez(tmp_path / "tiny.npz", x=np.zeros((40, 4, 4, 1), np.uint8), y=np.arange(40) % 4)
    assert distill(folder, tmp_path / "out", 6, *arguments) == 2
    assert sentence in capsys.readouterr().err
