"""Streamed data: the same as in memory, never more than a block of them at once, and what is said of faults."""

from __future__ import annotations

import dataclasses
import os
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image

from jaxdd import data
from jaxdd._files import digest
from jaxdd.data import pictures, transforms
from jaxdd.errors import JaxddError
from jaxdd.types import HostArray

SHAPE = (60, 4, 5, 3)


def arrays(dtype=np.uint8, shape=SHAPE):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (2 * len(range(shape[0])), *shape[1:]))
    x = (x / 255).astype(dtype) if np.dtype(dtype).kind == "f" else x.astype(dtype)
    y = (np.arange(len(x)) % 3).astype(np.int32)
    n = shape[0]
    return {"x_train": x[:n], "y_train": y[:n], "x_test": x[n:], "y_test": y[n:]}


def npy_folder(path, arrays):
    path.mkdir()
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)
    return path


def image_folder(path, splits=("train", "test"), suffix="png", mode=lambda k: "RGB"):
    given = arrays()
    for split in splits:
        for k, (pixels, label) in enumerate(zip(given[f"x_{split}"], given[f"y_{split}"], strict=True)):
            file = path / (split if len(splits) > 1 else "") / f"class {label}" / f"{k:03d}.{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).convert(mode(k)).save(file)
    return path


@pytest.fixture(params=["files", "files without test", "grey among colour", "uint8", "int64", "float32", "float64"])
def source(request, tmp_path):
    if request.param == "files":
        return image_folder(tmp_path / "data")
    if request.param == "files without test":
        return image_folder(tmp_path / "data", splits=["train"], suffix="jpg")
    if request.param == "grey among colour":
        return image_folder(tmp_path / "data", mode=lambda k: "RGB" if k == 40 else "L")
    return npy_folder(tmp_path / "data", arrays(request.param))


@pytest.fixture
def small_blocks(monkeypatch):
    """Seven images a block, so that these small sets have several."""
    monkeypatch.setattr(transforms, "_BLOCK_BYTES", 7 * 4 * 60)


def everything(split):
    return split.images.read(np.arange(len(split))) if isinstance(split.images, HostArray) else split.images


@pytest.mark.usefixtures("small_blocks")
def test_what_is_streamed_is_what_is_in_memory(source):
    options = {"validation": 0.2, "test": 0.3, "seed": 5}
    whole, streamed = (data.load(source, stream=stream, **options) for stream in (False, True))
    facts = [f.name for f in dataclasses.fields(whole) if f.name not in ("train", "validation", "test")]
    for name in (*facts, "num_classes", "image_shape", "pixel_range"):
        assert getattr(whole, name) == getattr(streamed, name)
    for name in ("train", "validation", "test"):
        ours, theirs = getattr(streamed, name), getattr(whole, name)
        assert isinstance(ours.images, HostArray) and isinstance(theirs.images, np.ndarray)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        np.testing.assert_array_equal(everything(ours), theirs.images)
        assert ours.images.stored == theirs.images.dtype and ours.images.shape == theirs.images.shape
        assert ours.images.fingerprint == digest([theirs.images])


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("spec", ["none", "standardize", "zca"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_transforms_are_the_same_bits_and_batches_decode_to_the_same_pixels(spec, dtype, tmp_path):
    folder = npy_folder(tmp_path / "data", arrays(dtype))
    whole, streamed = (data.load(folder, stream=stream) for stream in (False, True))
    fitted = [data.fit_transform(spec, dataset.train.pixels()) for dataset in (whole, streamed)]
    one, other = (data.transform_to_tensors(transform) for transform in fitted)
    assert one[0] == other[0]
    for name in one[1]:
        np.testing.assert_array_equal(one[1][name], other[1][name])
    expected = data.real_data(whole.train, fitted[0], 3)
    stored, decode = data.compact_data(streamed.train, fitted[1], 3)
    np.testing.assert_array_equal(stored.labels.values, expected.labels.values)
    images = stored.images
    assert isinstance(images, HostArray) and decode is None and images.dtype == np.float32
    assert images.stored == np.dtype(dtype)
    rows = np.array([5, 1, 1, 30])
    for batch in (jax.jit(images.decode)(images.read(rows)), images[rows], jax.jit(lambda: images[rows])()):
        np.testing.assert_allclose(batch, expected.images[rows], atol=1e-5)


def test_a_standard_deviation_in_blocks_is_numpys(monkeypatch):
    images = np.random.default_rng(0).normal([100, 0, 1e-3], [1, 5, 1e-4], (50, 4, 4, 3)).astype(np.float32)
    monkeypatch.setattr(transforms, "_BLOCK_BYTES", 7 * 4 * 48)
    fitted = data.Standardize.fit(images)
    np.testing.assert_allclose(fitted.mean, images.mean((0, 1, 2), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(fitted.std, images.std((0, 1, 2), dtype=np.float64), rtol=1e-6)


@pytest.mark.usefixtures("small_blocks")
def test_never_more_than_a_block_is_read_at_once(tmp_path, monkeypatch):
    """Each image once: by the scan, which counts what the transform is fitted to."""
    sizes = []
    read = pictures.FileSource.read
    monkeypatch.setattr(pictures.FileSource, "read", lambda self, rows: sizes.append(len(rows)) or read(self, rows))
    dataset = data.load(image_folder(tmp_path / "data"), stream=True)
    assert max(sizes) == 7 and sum(sizes) == 120
    data.fit_transform("standardize", dataset.train.pixels())
    assert sum(sizes) == 120


def test_a_map_is_not_copied_and_own_arrays_are_left_alone(tmp_path):
    given = arrays()
    path = npy_folder(tmp_path / "data", given)
    mapped = np.load(path / "x_train.npy", mmap_mode="r+")
    of_map = data.from_arrays(mapped, given["y_train"])
    of_array = data.from_arrays(given["x_train"], given["y_train"], stream=True)
    assert (
        of_map.source_hash == of_array.source_hash == data.from_arrays(given["x_train"], given["y_train"]).source_hash
    )
    mapped[:] = given["x_train"][:] = 0
    for dataset in (of_map, of_array):
        assert not everything(dataset.train).any()


def vanish(folder):
    file = sorted(folder.glob("train/*/*.png"))[3]
    file.unlink()
    return rf"{file.name} has vanished since the folder was read"


def resize(folder):
    file = sorted(folder.glob("train/*/*.png"))[3]
    Image.new("RGB", (6, 4)).save(file)
    return rf"{file.name} is 4x6x3 \(height x width x channels\), but was 4x5x3 when the data were loaded"


def spoil(folder):
    file = sorted(folder.glob("train/*/*.png"))[3]
    file.write_bytes(file.read_bytes()[:60])
    return rf"{file.name} is not a readable PNG or JPEG file"


@pytest.mark.parametrize("fault", [vanish, resize, spoil])
def test_a_file_that_changes_after_the_scan_is_named(fault, tmp_path):
    folder = image_folder(tmp_path / "data")
    images = data.load(folder, stream=True, validation=0).train.images
    sentence = fault(folder)
    assert images.read(np.array([0])).shape == (1, 4, 5, 3)
    with pytest.raises(JaxddError, match=sentence):
        images.read(np.arange(10))


@pytest.mark.parametrize(
    ("dtype", "value", "sentence"),
    [
        ("float32", np.nan, r"image 30 of data: x_train has a NaN or infinite pixel, which it had not when"),
        ("float64", 1e300, r"image 30 of data: x_train has a NaN or infinite pixel, which it had not when"),
        ("int16", 300, r"image 30 of data: x_train has a pixel outside 0..255, which it had not when"),
    ],
)
def test_a_pixel_that_goes_bad_after_the_scan_is_named(dtype, value, sentence, tmp_path):
    folder = npy_folder(tmp_path / "data", arrays(dtype))
    images = data.load(folder, stream=True, validation=0).train.images
    np.load(folder / "x_train.npy", mmap_mode="r+")[30, 1, 2, 0] = value
    assert images.read(np.arange(30)).dtype in (np.uint8, np.float32)
    with pytest.raises(JaxddError, match=sentence):
        images.read(np.array([2, 30]))


def test_a_mapped_file_that_is_cut_or_gone_is_named_instead_of_killing_the_process(tmp_path):
    folder = npy_folder(tmp_path / "data", arrays())
    images = data.load(folder, stream=True).train.images
    file = folder / "x_train.npy"
    size = file.stat().st_size
    os.truncate(file, 200)
    with pytest.raises(JaxddError, match=rf"x_train.npy has 200 bytes, but had {size} when the data were loaded"):
        images.read(np.array([1]))
    file.unlink()
    with pytest.raises(JaxddError, match=r"x_train.npy has vanished since the data were loaded"):
        images.read(np.array([1]))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("dtype", "value", "sentence"),
    [
        ("float32", np.inf, "x_train has 20 NaN or infinite pixels in 10 of 60 images, first in image 25"),
        ("int64", -2, r"x_train has int64 pixels from -2 to \d+; integers must lie in 0..255"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_bad_pixels_are_counted_over_all_blocks(dtype, value, sentence, stream, tmp_path):
    given = arrays(dtype)
    given["x_train"][25:35, 0, 0, :2] = value
    with pytest.raises(JaxddError, match=sentence):
        data.load(npy_folder(tmp_path / "data", given), stream=stream)


def test_what_cannot_be_streamed_says_what_to_do_and_that_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez_compressed("mine.npz", **arrays(), class_names=["a", "b", "c"])
    unpack = r"unpack it with `python -m zipfile -e mine.npz FOLDER` and give that folder of x_train.npy"
    with pytest.raises(JaxddError, match=unpack):
        data.load("mine.npz", stream=True)
    zipfile.main(["-e", "mine.npz", "folder"])
    streamed, whole = data.load("folder", stream=True), data.load("mine.npz")
    assert streamed.source_hash == whole.source_hash and streamed.class_names == ("a", "b", "c")
    (tmp_path / "prepared" / "1.0.0").mkdir(parents=True)
    (tmp_path / "prepared" / "1.0.0" / "dataset_info.json").write_text("{}")
    with pytest.raises(JaxddError, match="prepared TFDS data set, which cannot be streamed; make a folder of x_train"):
        data.load("prepared", stream=True)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x_train", b"no array", "x_train.npy is not a readable .npy file of a plain array"),
        ("x_train", None, "data must hold x_train, y_train, x_test and y_test"),
        ("y_test", None, "give both x_test and y_test, or neither"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_folder_of_arrays_that_is_not_whole(name, content, sentence, stream, tmp_path):
    folder = npy_folder(tmp_path / "data", arrays())
    (folder / f"{name}.npy").unlink()
    if content is not None:
        (folder / f"{name}.npy").write_bytes(content)
    with pytest.raises(JaxddError, match=sentence):
        data.load(folder, stream=stream)


def test_data_that_do_not_fit_into_memory_may_be_streamed(tmp_path, monkeypatch):
    def too_large(*arguments):
        raise MemoryError

    monkeypatch.setattr(pictures.FileSource, "read", too_large)
    with pytest.raises(JaxddError, match=r"does not fit into memory; load it with stream=True \(config.data.stream\)"):
        data.load(image_folder(tmp_path / "data"))
