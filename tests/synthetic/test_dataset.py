"""The file: equal bytes for equal sets, any change noticed, readable without jaxdd."""

import dataclasses
import errno
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxdd import _files, data
from jaxdd.errors import JaxddError
from jaxdd.synthetic import DistilledDataset
from jaxdd.types import Distilled

HEADER = {"method": "kip", "seed": 3, "data": {"name": "mnist_5k", "class_names": ["0", "1"]}}


@pytest.fixture
def dataset(rng):
    images = rng.normal(size=(4, 5, 6, 1)).astype(np.float32)
    real = rng.uniform(size=(20, 5, 6, 1)).astype(np.float32)
    distilled = Distilled(
        images=images,
        labels=rng.normal(size=(4, 2)).astype(np.float32),
        learning_rates=np.float32([0.1, 0.2]),
        params={"images": images},
        label_convention="centred",
        label_regime="learned",
        num_bits=123,
    )
    return DistilledDataset.create(distilled, data.fit_transform("zca", real), HEADER)


def test_round_trip(dataset, tmp_path):
    dataset.write(tmp_path / "a.safetensors")
    back = DistilledDataset.read(tmp_path / "a.safetensors")
    for name in ("images", "labels", "learning_rates"):
        np.testing.assert_array_equal(getattr(back, name), getattr(dataset, name))
    np.testing.assert_array_equal(back.params["images"], dataset.params["images"])
    assert back.header | {"format_version": 1} == dataset.header | {"format_version": 1}
    # What networks see is what the method learned, through pixel space and back.
    np.testing.assert_allclose(back.distilled().images, dataset.params["images"], atol=1e-4)
    assert back.distilled().label_convention == "centred"


@pytest.mark.endurance
def test_equal_sets_give_equal_bytes_in_any_process(dataset, tmp_path):
    assert dataset.to_bytes() == dataset.to_bytes()
    dataset.write(tmp_path / "a.safetensors")
    code = (
        "import sys; from jaxdd import DistilledDataset; "
        "sys.stdout.buffer.write(DistilledDataset.read(sys.argv[1]).to_bytes())"
    )
    for seed in ("0", "1"):
        again = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "a.safetensors"],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "JAX_PLATFORMS": "cpu"},
        )
        assert again.stdout == dataset.to_bytes()


def test_opens_with_safetensors_alone(dataset, tmp_path):
    dataset.write(tmp_path / "a.safetensors")
    with safetensors.safe_open(tmp_path / "a.safetensors", framework="numpy") as file:
        header = json.loads(file.metadata()["jaxdd"])
        assert list(file.metadata()) == ["jaxdd"]
        np.testing.assert_array_equal(file.get_tensor("images"), dataset.images)
        assert header["label_convention"] == "centred" and header["data"]["name"] == "mnist_5k"


def test_random_changes_are_read_right_or_refused_in_a_sentence(dataset, rng):
    content, reference = dataset.to_bytes(), dataset.to_bytes()
    for _ in range(300):
        kind = rng.integers(3)
        if kind == 0:
            mutated = content[: rng.integers(len(content))]
        elif kind == 1:
            mutated = bytearray(content)
            for position in rng.integers(len(content), size=rng.integers(1, 4)):
                mutated[position] ^= 1 << rng.integers(8)
            mutated = bytes(mutated)
        else:
            mutated = content + rng.bytes(rng.integers(1, 20))
        try:
            back = DistilledDataset.from_bytes(mutated)
        except JaxddError as error:
            assert "\n" not in str(error)
        else:
            assert back.to_bytes() == reference


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a distilled set"),
        (b"\x80\x04\x95", "not a distilled set"),
        (np.random.default_rng(0).bytes(100), "not a distilled set"),
        (safetensors.numpy.save({"images": np.zeros(3)}), "not a distilled set"),
        (safetensors.numpy.save({"images": np.zeros(3)}, {"jaxdd": "[1]"}), "not a distilled set"),
        (safetensors.numpy.save({"images": np.zeros(3)}, {"jaxdd": '{"format_version": 1}'}), "missing"),
        (safetensors.numpy.save({"images": np.zeros(3)}, {"jaxdd": '{"format_version": 99}'}), "update jaxdd"),
    ],
)
def test_foreign_files(content, message, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(JaxddError, match=message):
        DistilledDataset.read(path)


def ramp(*shape):
    return (0.125 * (np.arange(np.prod(shape)) % 7 - 3)).reshape(shape).astype(np.float32)


@pytest.mark.parametrize("regime", ["hard", "learned"])
def test_files_of_format_1_stay_readable(regime, rng):
    """Written by jaxdd 0.1.0, when the format was new."""
    stored = DistilledDataset.read(pathlib.Path(__file__).parent / f"format_1_{regime}.safetensors")
    assert stored.header["format_version"] == 1 and stored.header["data"]["class_names"] == ["cat", "dog"]
    assert stored.header["protocol"] == {"hard": "idc", "learned": "as-distilled"}[regime]
    assert stored.header["config"]["method"]["ipc"] == 1 and stored.header["seed"] == 3
    standardize = data.Standardize(np.float32([0.25, 0.5]), np.float32([0.5, 2.0]))
    x = rng.uniform(size=(3, 2, 3, 2)).astype(np.float32)
    seen = stored.distilled()
    np.testing.assert_allclose(seen.images, ramp(4, 2, 3, 2), atol=1e-5)  # what the method had learned
    if regime == "hard":
        np.testing.assert_array_equal(stored.transform.apply(x), standardize.apply(x))
        np.testing.assert_array_equal(seen.labels, [0, 0, 1, 1])
        assert (seen.label_convention, seen.label_regime, seen.kernel) == ("hard", "hard", None)
        assert (seen.decoder, seen.num_bits, seen.iterate) == ("multi_formation", 770, "last")
        np.testing.assert_array_equal(seen.params["images"], ramp(2, 2, 3, 2))
        assert seen.plan is seen.learning_rates is seen.theta0 is None
        return
    whitening = (2 * np.eye(12) + 0.25 * np.ones((12, 12))).astype(np.float32)
    expected = (standardize.apply(x) - ramp(2, 3, 2)).reshape(3, 12) @ whitening
    np.testing.assert_allclose(stored.transform.apply(x).reshape(3, 12), expected, atol=1e-5)
    assert stored.transform.transforms[1].ridge == 0.1
    np.testing.assert_array_equal(seen.labels, ramp(4, 2))
    assert (seen.label_convention, seen.label_regime, seen.iterate) == ("centred", "learned", "average")
    assert dict(seen.kernel) == {"name": "ntk", "depth": 1, "ridge": 1e-6, "float64": True}
    np.testing.assert_array_equal(seen.learning_rates, [0.5, 0.25])
    np.testing.assert_array_equal(seen.plan, [[0, 2], [1, 3]])
    np.testing.assert_array_equal(seen.theta0["head/kernel"], ramp(12, 2))
    np.testing.assert_array_equal(seen.theta0["head/bias"], ramp(2))
    np.testing.assert_array_equal(seen.params["rates"], ramp(2))


@pytest.mark.parametrize("regime", ["hard", "learned"])
def test_files_of_format_1_are_still_written_so(regime):
    path = pathlib.Path(__file__).parent / f"format_1_{regime}.safetensors"
    stored = DistilledDataset.read(path)
    assert stored.to_bytes() == path.read_bytes()
    again = DistilledDataset.create(stored.distilled(), stored.transform, stored.header)
    assert (again.header, again.tensors.keys()) == (stored.header, stored.tensors.keys())


def readers():
    import safetensors.flax

    yield safetensors.numpy.load
    yield safetensors.flax.load
    try:
        import safetensors.torch
    except ImportError:
        return
    yield safetensors.torch.load


def test_features_are_labels_without_classes(rng):
    images, targets = rng.normal(size=(4, 5, 6, 1)), rng.normal(size=(4, 7)).astype(np.float32)
    distilled = Distilled(images, targets, label_convention="features", label_regime="learned")
    dataset = DistilledDataset.create(distilled, data.Identity(), {"data": {"num_classes": 10}})
    back = DistilledDataset.from_bytes(dataset.to_bytes())
    assert back.header["format_version"] == 2  # an older jaxdd says that it is too old
    assert back.distilled().label_convention == "features"
    np.testing.assert_array_equal(back.distilled().labels, targets)
    for load in readers():
        np.testing.assert_array_equal(np.asarray(load(dataset.to_bytes())["labels"]), targets)


def test_real_pixels_may_stay_uint8(rng):
    pixels = rng.integers(0, 256, size=(4, 5, 6, 1), dtype=np.uint8)
    transform = data.Standardize(np.float32([0.1307]), np.float32([0.3081]))
    chosen = Distilled(transform.apply(pixels / np.float32(255)), np.arange(4))
    dataset = DistilledDataset.create(chosen, transform, {}, dtype=np.uint8)
    back = DistilledDataset.from_bytes(dataset.to_bytes())
    assert back.images.dtype == np.uint8 and back.header["format_version"] == 2
    np.testing.assert_array_equal(back.images, pixels)
    np.testing.assert_array_equal(back.pixels(), pixels / np.float32(255))
    np.testing.assert_array_equal(back.distilled().images, chosen.images)
    for load in readers():
        found = load(dataset.to_bytes())["images"]
        assert "uint8" in str(found.dtype)
        np.testing.assert_array_equal(np.asarray(found), pixels)
    plain = DistilledDataset.create(chosen, transform, {})
    assert plain.images.dtype == np.float32 and len(dataset.to_bytes()) < len(plain.to_bytes()) - 2 * pixels.size
    as_stored = DistilledDataset.create(Distilled(pixels, np.arange(4)), transform, {})
    assert as_stored.to_bytes() == dataset.to_bytes()


@pytest.mark.parametrize("wrong", [0.5 / 255, 1.5, -1 / 255])
def test_other_pixels_are_not_rounded(wrong):
    images = np.zeros((2, 3, 3, 1), np.float32)
    images[1, 2, 0, 0] = wrong
    with pytest.raises(JaxddError, match=r"cannot be stored as uint8: .*; store them as float32"):
        DistilledDataset.create(Distilled(images, np.arange(2)), data.Identity(), {}, dtype=np.uint8)
    with pytest.raises(JaxddError, match="as float32 or uint8, not as float16"):
        DistilledDataset.create(Distilled(images, np.arange(2)), data.Identity(), {}, dtype=np.float16)


def test_the_tensors_of_training_are_keywords_and_attributes(dataset):
    plan, theta0 = np.int32([[0], [3]]), {"head/bias": np.zeros(2, np.float32)}
    made = DistilledDataset(
        dataset.images, dataset.labels, dataset.transform, dataset.header,
        learning_rates=np.float32([1, 2]), plan=plan, theta0=theta0, params=dataset.params,
    )  # fmt: skip
    assert made.plan is made.schedule is plan and made.theta0 == theta0
    assert made.more.keys() == {"learning_rates", "plan", "theta0.head/bias", "params.images"}
    bare = dataclasses.replace(made, more={})
    assert bare.plan is bare.learning_rates is bare.theta0 is None and bare.params == {}
    with pytest.raises(JaxddError, match="tensors that nothing is known of, planet"):
        dataclasses.replace(made, more={"planet": plan})


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(JaxddError, match="no such file"):
        DistilledDataset.read(tmp_path / "none")
    with pytest.raises(JaxddError, match="a directory"):
        DistilledDataset.read(tmp_path)


def test_full_disk_leaves_the_old_file_whole(dataset, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    dataset.write(path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_files.os, "fsync", full)
    with pytest.raises(JaxddError, match="disk is full"):
        dataset.write(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.zeros((4, 3), np.float32)}, "not of 2 classes"),
        ({"labels": np.zeros(4, np.int64)}, "centred labels of shape"),
        ({"images": np.full((4, 5, 6, 1), np.nan, np.float32)}, "not finite"),
        ({"images": np.zeros((3, 5, 6, 1), np.float32)}, "images of shape"),
        ({"header": {"data": "x"}}, "'data' of its header"),
        ({"header": {"num_bits": "x"}}, "'num_bits' of its header"),
        ({"header": {"kernel": []}}, "'kernel' of its header"),
        ({"header": {"label_convention": "odd"}}, "unknown label convention"),
        ({"header": {"label_codec": 3}}, "'label_codec' of its header"),
        ({"header": {"label_codec": "top_k"}}, "a label codec without what that decodes"),
        ({"images": np.zeros((4, 5, 6, 1), np.int32)}, "int32 images"),
        ({"header": {"label_convention": "features"}, "labels": np.zeros((4, 3), int)}, "features labels of type"),
    ],
)
def test_what_is_no_distilled_set_is_neither_made_nor_read(dataset, changes, message):
    changes = {**changes, "header": {**dataset.header, "data": {"num_classes": 2}, **changes.get("header", {})}}
    with pytest.raises(JaxddError, match=message):
        dataclasses.replace(dataset, **changes)
    sealed = dataclasses.replace(dataset)  # forged: sealed as write() would, behind the check's back
    for name, value in changes.items():
        object.__setattr__(sealed, name, value)
    with pytest.raises(JaxddError, match=message):
        DistilledDataset.from_bytes(sealed.to_bytes())


def test_jax_arrays_and_hard_labels(tmp_path):
    distilled = Distilled(jax.numpy.ones((2, 3, 3, 1)), jax.numpy.arange(2))
    dataset = DistilledDataset.create(distilled, data.Identity(), {"data": {}})
    back = DistilledDataset.from_bytes(dataset.to_bytes())
    assert back.labels.tolist() == [0, 1] and back.header["label_convention"] == "hard"


def test_numbers_of_images_by_class_travel_with_a_set():
    """And are in no file of a set that has none."""
    made = Distilled(np.zeros((3, 2, 2, 1), np.float32), np.array([0, 0, 1]))
    uneven = dataclasses.replace(made, labelling=dataclasses.replace(made.labelling, counts=(2, 1)))
    plain, own = (DistilledDataset.create(each, data.Identity(), {}) for each in (made, uneven))
    assert DistilledDataset.from_bytes(own.to_bytes()).distilled().labelling.counts == (2, 1)
    assert "counts" not in plain.header and own.header["counts"] == [2, 1]
    for wrong in ([2, 2], [3, "0"], [4, -1]):
        with pytest.raises(JaxddError, match=r"'counts' of its header, .* are not those of 3 images"):
            DistilledDataset(own.images, own.labels, own.transform, {**own.header, "counts": wrong})
