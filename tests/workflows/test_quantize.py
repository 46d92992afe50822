"""A network with few bits, from a file of PyTorch's arrays, by the public command."""

import json

import jax
import numpy as np
import pytest

from jaxdd import data, models, workflows
from jaxdd.cli import main
from jaxdd.errors import JaxddError
from jaxdd.synthetic import DistilledDataset
from jaxdd.types import Content, Distilled, Labelling

MODEL = "resnet8(width=2)"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    theta, stats = jax.jit(models.build(MODEL, (28, 28, 1), 10).init)(jax.random.key(0))
    arrays = {}
    for name in [name for name in theta if name.startswith("conv")]:
        norm, running = theta[f"norm{name[4:]}"], stats["batch_stats"][f"norm{name[4:]}"]
        arrays[f"{name}.weight"] = np.asarray(theta[name]["kernel"]).transpose(3, 2, 0, 1)
        fields = {"weight": norm["scale"], "bias": norm["bias"]}
        fields |= {"running_mean": running["mean"], "running_var": running["var"]}
        arrays |= {f"norm{name[4:]}.{field}": np.asarray(value) for field, value in fields.items()}
    arrays |= {"head.weight": np.asarray(theta["head"]["kernel"]).T, "head.bias": np.asarray(theta["head"]["bias"])}
    order = ["stem", *[f"{stage}_0_{k}" for stage in range(3) for k in (0, 1)]]
    kept = {}
    for name in order:
        kept |= {key: value for key, value in arrays.items() if key.split(".")[0] in (f"conv_{name}", f"norm_{name}")}
    kept |= {key: value for key, value in arrays.items() if key.startswith("head")}
    path = tmp_path_factory.mktemp("weights") / "small.npz"
    np.savez(path, **kept)
    return path


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(workflows.quantize, "BITS", ((8, 8),))


def test_the_command_measures_and_writes(weights, few, tmp_path, capsys):
    made = tmp_path / "calibration.npz"
    flags = [f"--model={MODEL}", "--data=mnist_5k", "--normalisation=data", "--json", "--nofront"]
    more = ["--count=8", "--steps=2", f"--write={made}"]
    assert main(["quantize", str(weights), *flags, *more]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert sorted(found) == ["float", "seconds", "w8a8_distilled", "w8a8_gaussian", "w8a8_real"]
    assert abs(found["w8a8_distilled"] - found["float"]) < 0.05
    with np.load(made) as images:
        assert images["images"].shape == (8, 28, 28, 1)
    assert main(["quantize", str(weights), *flags, f"--calibration={made}"]) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["w8a8_distilled"] == found["w8a8_distilled"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"weights": "none.npz"}, "there is no file none.npz"),
        ({"model": "resnet9"}, "unknown model 'resnet9'"),
        ({"model": "resnet20(width=2)"}, "another architecture"),
        ({"normalisation": "imagenet"}, "images of 1 channels, which ImageNet's mean and deviation are not of"),
        ({"normalisation": "images"}, "normalisation must be one of imagenet, data"),
        ({"calibration": "none.npy"}, "there is no file none.npy"),
        ({"steps": 0}, "steps must be an integer of at least 1"),
    ],
)
def test_bad_input_is_one_sentence(weights, change, sentence):
    asked = {"weights": weights, "model": MODEL, "name": "mnist_5k", "normalisation": "data"} | change
    with pytest.raises(JaxddError, match=sentence):
        workflows.quantize_network(asked.pop("weights"), **asked)


def test_images_of_another_shape_are_named(weights, tmp_path):
    np.save(tmp_path / "small.npy", np.zeros((2, 8, 8, 1), np.float32))
    with pytest.raises(JaxddError, match="and the network sees float ones of"):
        workflows.quantize_network(
            weights, model=MODEL, name="mnist_5k", normalisation="data", calibration=tmp_path / "small.npy"
        )
    (tmp_path / "text.npz").write_text("no arrays")
    with pytest.raises(JaxddError, match="npz of arrays by name"):
        workflows.quantize_network(tmp_path / "text.npz", model=MODEL, name="mnist_5k")


def test_a_distilled_set_calibrates_by_its_pixels(tmp_path):
    dataset = data.load("mnist_5k", validation=0.0)
    pixels = np.asarray(dataset.train.pixels()[:3])
    doubled = data.Standardize(np.zeros(1, np.float32), np.full(1, 0.5, np.float32))  # not what the network sees
    made = Distilled(Content(doubled.apply(pixels)), Labelling(np.arange(3)))
    DistilledDataset.create(made, doubled, {}).write(tmp_path / "set.safetensors")
    found = workflows.quantize._calibration(tmp_path / "set.safetensors", dataset, "data", (28, 28, 1))
    own = data.fit_transform("standardize", dataset.train.pixels())
    np.testing.assert_allclose(found, own.apply(pixels), atol=1e-4)
