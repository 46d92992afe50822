"""A set without classes, from the command line: distilled, measured, and measured on another data set."""

import json

import numpy as np
import pytest

from jaxdd.cli.main import main

pytestmark = pytest.mark.endurance  # quick ones: evaluation/test_transfer.py, methods/test_krr_st.py

# No size is a multiple of the number of devices: a checkpoint would compile a program for each share of each array.
TINY = [
    "--config.method.images=6", "--config.method.model=mlp(width=9, depth=1)", "--config.method.pool=2",
    "--config.method.target_batch=16", "--config.method.decay_steps=3", "--config.method.augmentation=none",
    "--config.method.encoder=mlp(width=9, depth=1)", "--config.method.encoder_steps=3",
    "--config.method.encoder_batch=16", "--config.method.encoder_augmentation=none", "--config.method.projector=3",
    "--config.run.steps=3", "--config.evaluation.networks=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two data sets of other sizes and numbers of classes, and a third in colour."""
    folder, rng = tmp_path_factory.mktemp("transfer"), np.random.default_rng(0)
    for name, side, classes, channels in (("source", 7, 3, 1), ("other", 4, 2, 1), ("colour", 7, 2, 3)):
        labels = np.arange(60 * classes) % classes
        images = 40 * labels[:, None, None, None] + rng.integers(0, 100, (len(labels), side, side, channels))
        np.savez(folder / f"{name}.npz", x=images.astype(np.uint8), y=labels)
    return folder


@pytest.fixture(scope="module")
def run(folder):
    data, workdir = f"--config.data.name={folder / 'source.npz'}", folder / "run"
    assert main(["distill", "--config=krr_st", data, *TINY, f"--workdir={workdir}"]) == 0
    return workdir


def test_a_run_ends_with_probes_beside_what_it_stands_beside(run):
    results = json.loads((run / "results.json").read_text())
    names = ["distilled", "random real", "random initialisation", "encoder"]
    assert [row["name"] for row in results["rows"]] == names
    result = results["result"]
    assert result["protocol"] == "quick" and result["networks"] == 2
    assert 0 <= result["probe_mean"] <= 1 and {"random_real_probe_mean", "encoder_probe_mean"} <= set(result)
    assert "linear probe" in (run / "report.html").read_text()


def test_it_is_measured_on_another_data_set_and_by_fine_tuning(run, folder, capsys):
    flags = [f"--transfer={folder / 'other.npz'}", "--fine_tuning=short-fine-tuning", "--seeds=1", "--protocol=quick"]
    assert main(["evaluate", str(run), f"--data={folder / 'source.npz'}", *flags, "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["measured_on"] == str(folder / "other.npz") and result["distilled_from_this_data"]
    assert result["probe_mean"] > 0.9 and result["fine_tuned_mean"] > 0.9, "two classes of different brightness"


def test_probes_may_see_few_labels(run, folder, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "jaxdd.evaluation.transfer", lambda pretrained, train, *args, **options: seen.append(train) or []
    )
    monkeypatch.setattr("jaxdd.workflows.transfer._scores", lambda *args: {})
    flags = [f"--transfer={folder / 'other.npz'}", "--labels_per_class=3", "--seeds=1", "--protocol=quick"]
    assert main(["evaluate", str(run), f"--data={folder / 'source.npz'}", *flags]) == 0
    (train,) = seen
    assert train.labels.counts == (3, 3)
    assert train.images[:3].mean() < train.images[3:].mean(), "class after class, the brighter one last"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--transfer={}/colour.npz"], "have 3 channels and 1 are needed"),
        (["--full_data"], "--full_data is for sets with classes"),
        (["--fine_tuning=fine-tunin"], "fine-tuning"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_sentence(run, folder, capsys, flags, sentence):
    flags = [flag.format(folder) for flag in flags]
    assert main(["evaluate", str(run), f"--data={folder / 'source.npz'}", "--seeds=1", *flags]) == 2
    assert sentence in capsys.readouterr().err
