"""Exports hold what the set holds, need no pickle, and are whole or absent."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from jaxdd import data
from jaxdd.errors import JaxddError
from jaxdd.report import exports, to_npz, to_png_folder
from jaxdd.report.pictures import clipped_share, to_8_bit


def test_npz_round_trip(make, provenance, tmp_path):
    dataset = make(2, noise=0.2, **provenance)
    to_npz(dataset, tmp_path / "set.npz")
    with np.load(tmp_path / "set.npz", allow_pickle=False) as file:
        arrays = dict(file)
    np.testing.assert_array_equal(arrays["images"], dataset.images)
    np.testing.assert_array_equal(arrays["labels"], dataset.labels)
    header = json.loads(str(arrays["header"]))
    assert header["method"] == "kip" and header["data"] == provenance["data"]
    transform = data.transform_from_tensors(header["transform"], arrays)
    np.testing.assert_array_equal(transform.apply(dataset.images), dataset.transform.apply(dataset.images))
    assert "learning_rates" not in arrays


def test_npz_of_equal_sets_are_equal_bytes(make, tmp_path):
    for name in ("a.npz", "b.npz"):
        to_npz(make(1), tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_npz_onto_a_directory(make, tmp_path):
    with pytest.raises(JaxddError, match="directory"):
        to_npz(make(1), tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("soft", [False, True])
def test_png_folder_round_trip(make, provenance, tmp_path, channels, soft):
    names = ["T-shirt/top", "a, b", "..", "é\n", *map(str, range(4, 10))]
    dataset = make(2, channels=channels, soft=soft, noise=0.3, data=provenance["data"] | {"class_names": names})
    share = to_png_folder(dataset, tmp_path / "png")
    assert share == clipped_share(dataset, (0, 1)) > 0.1
    with (tmp_path / "png" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    pixels = to_8_bit(dataset.pixels(), (0, 1))
    for index, row in enumerate(rows):
        image = np.asarray(Image.open(tmp_path / "png" / row["file"]))
        np.testing.assert_array_equal(image.reshape(28, 28, channels), pixels[index])
        assert int(row["label"]) == index // 2 and row["class_name"] == names[index // 2]
        values = [np.float32(row[f"soft_label_{k}"]) for k in range(10)] if soft else []
        np.testing.assert_array_equal(values, dataset.labels[index] if soft else [])
    assert rows[0]["file"] == "00_T-shirt_top/0000.png" and rows[1]["file"] == "00_T-shirt_top/0001.png"
    assert len(rows) == 20 == len(list((tmp_path / "png").glob("*/*.png")))


def test_png_folder_is_a_data_set_again(make, mnist, tmp_path):
    to_png_folder(make(4), tmp_path / "png")
    again = data.load(tmp_path / "png", validation=0)
    assert again.num_classes == 10 and len(again.train) + len(again.test) == 40
    pixels = {image.tobytes() for image in mnist.train.images}
    assert all(image.tobytes() in pixels for image in again.train.images)


def test_an_empty_directory_is_taken_and_a_full_one_refused(make, tmp_path):
    (tmp_path / "empty").mkdir()
    to_png_folder(make(1), tmp_path / "empty")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(JaxddError, match=r"empty is not empty: give a new or an empty directory"):
        to_png_folder(make(1), tmp_path / "empty")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_instead_of_a_directory(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JaxddError, match="file, not a directory"):
        to_png_folder(make(1), tmp_path / "file")


def test_channels_that_png_has_not(make, tmp_path):
    with pytest.raises(JaxddError, match=r"1 or 3 channels, these have 2: export to \.npz"):
        to_png_folder(make(1, channels=2), tmp_path / "png")
    assert not (tmp_path / "png").exists()


@pytest.mark.parametrize("existed", [False, True])
def test_nothing_is_left_of_an_export_that_fails(make, tmp_path, monkeypatch, existed):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exports, "write_atomically", full)
    if existed:
        (tmp_path / "png").mkdir()
    with pytest.raises(JaxddError, match="the disk is full"):
        to_png_folder(make(1), tmp_path / "png")
    assert (tmp_path / "png").exists() == existed and not list(tmp_path.rglob("*.png"))
    if existed:
        assert not list((tmp_path / "png").iterdir())


def test_a_set_whose_labels_are_features_has_one_folder_and_its_vectors(make, tmp_path):
    dataset = make(1)
    features = np.arange(30, dtype=np.float32).reshape(10, 3)
    header = {**dataset.header, "label_convention": "features"}
    to_png_folder(dataclasses.replace(dataset, labels=features, header=header), tmp_path / "images")
    assert len(list((tmp_path / "images" / "00_all").iterdir())) == 10
    with open(tmp_path / "images" / "labels.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["feature_2"]) for row in rows] == features[:, 2].tolist()


def test_uint8_pixels_are_exported_as_they_are(make, tmp_path):
    dataset = make(1)
    whole = np.rint(255 * dataset.images).astype(np.uint8)
    stored = dataclasses.replace(dataset, images=whole)
    np.testing.assert_array_equal(to_8_bit(stored.pixels(), (0.0, 1.0)), whole)
    assert clipped_share(stored, (0.0, 1.0)) == 0
    to_npz(stored, tmp_path / "set.npz")
    with np.load(tmp_path / "set.npz") as file:
        np.testing.assert_array_equal(file["images"], whole)
