"""Pictures decoded once: the same data as without, no picture opened again, and never what is not whole."""

from __future__ import annotations

import concurrent.futures
import io
import os
import shutil
import subprocess
import sys
import tarfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jaxdd import _cache, data
from jaxdd._files import digest
from jaxdd.data import mapped, pictures
from jaxdd.errors import JaxddError
from jaxdd.types import HostArray

CUTS = {"validation": 0.2, "test": 0.3, "seed": 5}


@pytest.fixture(scope="module")
def digits(mnist):
    """Forty real digits of two classes, 7x7."""
    source = mnist.dataset.train
    rows = np.concatenate([np.flatnonzero(source.labels == digit)[:20] for digit in range(2)])
    return source.images[rows, ::4, ::4, 0], source.labels[rows]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


def encoded(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def as_folder(path, digits):
    for k, (image, label) in enumerate(zip(*digits, strict=True)):
        file = path / f"digit {label}" / f"{k:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(image))
    return path


def as_shard(path, digits):
    with tarfile.open(path.with_suffix(".tar"), "w") as archive:
        for k, (image, label) in enumerate(zip(*digits, strict=True)):
            for ending, content in (("png", encoded(image)), ("cls", str(label).encode())):
                member = tarfile.TarInfo(f"{k:02d}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path.with_suffix(".tar")


def as_table(path, digits):
    images, labels = digits
    table = pa.table({"image": [encoded(image) for image in images], "label": labels.tolist()})
    pq.write_table(table, path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


@pytest.fixture
def folder(tmp_path, digits):
    return as_folder(tmp_path / "digits", digits)


def load(path, cached=True, stream=True, **cuts):
    return data.load(path, stream=stream, cache=cached, **(CUTS | cuts))


def everything(split):
    return split.images.read(np.arange(len(split))) if isinstance(split.images, HostArray) else split.images


def assert_alike(found, expected):
    for name in ("name", "source_hash", "class_names", "license", "pixel_range"):
        assert getattr(found, name) == getattr(expected, name)
    for name in ("train", "validation", "test"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        np.testing.assert_array_equal(everything(ours), everything(theirs))
        if isinstance(ours.images, HostArray):
            assert ours.images.fingerprint == digest([everything(theirs)])
    one, other = (data.fit_transform("standardize", dataset.train.images) for dataset in (found, expected))
    np.testing.assert_array_equal(one.mean, other.mean)
    np.testing.assert_array_equal(one.std, other.std)


def no_pictures(monkeypatch):
    def opened(*arguments):
        raise AssertionError("a picture was opened")

    monkeypatch.setattr(pictures, "_opened", opened)


@pytest.mark.parametrize("made", [as_folder, as_shard, as_table])
def test_a_second_start_opens_no_picture_and_all_is_as_without(made, tmp_path, digits, monkeypatch):
    path = made(tmp_path / "digits", digits)
    expected, cut_anew = (load(path, cached=False, stream=False, seed=seed) for seed in (5, 6))
    assert not (tmp_path / "cache").exists()
    assert_alike(load(path), expected)
    no_pictures(monkeypatch)
    assert_alike(load(path, seed=6), cut_anew)
    monkeypatch.setattr(mapped.DecodedSource, "blocks", None)  # of a cut that is known nothing is read either
    assert_alike(load(path), expected)


def test_data_in_memory_come_from_the_same_file(folder, monkeypatch):
    expected = load(folder, cached=False, stream=False)
    assert_alike(load(folder), expected)
    no_pictures(monkeypatch)
    in_memory = load(folder, stream=False)
    assert isinstance(in_memory.train.images, np.ndarray)
    assert_alike(in_memory, expected)


def other_pixels(folder):
    """The size and the time of writing of a file do not change."""
    one, two = sorted(folder.glob("*/*.png"))[:2]
    times = one.stat().st_atime_ns, one.stat().st_mtime_ns
    shorter, longer = sorted([one.read_bytes(), two.read_bytes()], key=len)
    one.write_bytes(longer)
    load(folder)
    one.write_bytes(shorter + bytes(len(longer) - len(shorter)))
    os.utime(one, ns=times)


def one_more(folder):
    file = min(folder.glob("*/*.png"))
    shutil.copy(file, file.with_name("99.png"))


def one_less(folder):
    min(folder.glob("*/*.png")).unlink()


@pytest.mark.parametrize("change", [other_pixels, one_more, one_less])
def test_files_that_changed_are_decoded_again(change, folder):
    load(folder)
    change(folder)
    assert_alike(load(folder), load(folder, cached=False))


def cut(kept):
    os.truncate(kept / "pixels.raw", 1000)


def flip(kept):
    with (kept / "pixels.raw").open("r+b") as file:
        file.seek(700)
        byte = file.read(1)[0]
        file.seek(700)
        file.write(bytes([byte ^ 1]))


def lose(kept):
    (kept / "seals.npy").unlink()


def scribble(kept):
    (kept / _cache.SUMMARY).write_text("{")


@pytest.mark.parametrize("damage", [cut, flip, lose, scribble])
def test_what_is_not_as_it_was_written_is_made_again(damage, folder, cache, caplog):
    expected = load(folder, cached=False)
    load(folder)
    (kept,) = cache.glob("digits-*/")
    damage(kept)
    assert_alike(load(folder), expected)
    assert f"{kept} is not what was written, so the images are decoded again" in caplog.text
    caplog.clear()
    assert_alike(load(folder), expected)
    assert not caplog.text


def test_notes_that_are_damaged_are_made_again(folder, cache):
    expected = load(folder)
    (notes,) = cache.glob("digits-*/scan-*.json")
    notes.write_text(notes.read_text().replace(expected.source_hash, "0" * 64))
    assert_alike(load(folder), expected)


def test_damage_in_images_that_a_start_does_not_look_at_is_met_when_all_are_read(folder, cache, monkeypatch):
    expected = load(folder, seed=6, cached=False)
    load(folder)
    (kept,) = cache.glob("digits-*/")
    flip(kept)
    monkeypatch.setattr(mapped, "_LOOKED_AT", 0)
    with pytest.raises(JaxddError, match=r"pixels\.raw is not what was written; it is deleted now, and the next start"):
        load(folder, seed=6)
    assert_alike(load(folder, seed=6), expected)


def test_what_is_interrupted_leaves_nothing_and_what_is_killed_nothing_that_counts(folder, cache, monkeypatch):
    opened, count = pictures._opened, iter(range(70))  # all headers, and most of the pictures

    def interrupted(file):
        if next(count, None) is None:
            raise KeyboardInterrupt
        return opened(file)

    monkeypatch.setattr(pictures, "_opened", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(folder)
    assert not list(cache.glob("*/"))
    monkeypatch.undo()
    monkeypatch.setenv("JAXDD_CACHE_DIR", str(cache.parent))
    load(folder)
    (kept,) = cache.glob("digits-*/")
    leftover = kept.rename(kept.with_name(f"{kept.name}.0badcafe.part"))  # of a process that was killed at the end
    of_others = shutil.copytree(leftover, kept.with_name("birds-00.0badcafe.part"))
    cut(leftover)
    assert_alike(load(folder), load(folder, cached=False))
    assert list(cache.glob("*/")) == [kept] and not of_others.exists()


def test_of_two_that_begin_at_once_one_decodes_and_the_other_waits(folder, monkeypatch):
    """Threads with locks of their own are as good as processes."""
    decoded_files = []
    once = pictures.FileSource._decoded

    def counted(self, file):
        decoded_files.append(file)
        time.sleep(0.002)
        return once(self, file)

    monkeypatch.setattr(pictures.FileSource, "_decoded", counted)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        one, other = (task.result() for task in [pool.submit(load, folder), pool.submit(load, folder)])
    assert len(decoded_files) == 40
    assert_alike(one, other)


@pytest.mark.endurance
def test_processes_that_are_killed_or_begin_at_once_leave_one_that_is_whole(folder, cache):
    slow = (
        "import sys, time; from jaxdd import data; from jaxdd.data import pictures\n"
        "once = pictures.FileSource._decoded\n"
        "def slow(self, file): time.sleep(0.1); return once(self, file)\n"
        "pictures.FileSource._decoded = slow\n"
        f"print(data.load({str(folder)!r}, stream=True, cache=True).source_hash)"
    )

    def begin():
        return subprocess.Popen([sys.executable, "-c", slow], stdout=subprocess.PIPE, text=True)

    killed = begin()
    while not list(cache.glob("*.part")):
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert list(cache.glob("*.part"))
    expected = data.load(folder, stream=True).source_hash
    assert [child.communicate()[0].strip() for child in [begin(), begin()]] == [expected] * 2
    (kept,) = cache.glob("*/")
    assert _cache.is_done(kept)


def test_it_is_listed_and_deleted_as_stages_are_while_somebody_reads_it(folder, cache, digits):
    dataset = load(folder)
    (entry,) = _cache.entries()
    assert entry.name == "digits" and entry.whole and entry.num_bytes > digits[0].size
    expected = everything(dataset.train)
    assert _cache.make_room(0, bound=0) == [entry] and not _cache.entries()
    np.testing.assert_array_equal(everything(dataset.train), expected)


def test_a_file_that_is_cut_while_it_is_mapped_is_named(folder, cache):
    dataset = load(folder)
    (kept,) = cache.glob("digits-*/")
    cut(kept)
    with pytest.raises(JaxddError, match=r"pixels\.raw has 1000 bytes, but had 1960 when the data were loaded"):
        dataset.train.images.read(np.array([0]))


@pytest.mark.parametrize(
    ("variable", "free", "sentence"),
    [
        ("0.000001", 2**40, "the decoded images are 0.0 MiB, and the cache is held below 0.0 MiB: set JAXDD_CACHE_GB"),
        ("50", 1000, "the decoded images are 0.0 MiB, and 0.0 MiB are free in .*images: name another folder by JAXDD"),
    ],
)
def test_what_finds_no_room_is_refused_before_it_is_decoded(variable, free, sentence, folder, cache, monkeypatch):
    monkeypatch.setenv("JAXDD_CACHE_GB", variable)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**40, 0, free))
    monkeypatch.setattr(pictures.FileSource, "_decoded", None)
    with pytest.raises(JaxddError, match=sentence):
        load(folder)
    assert not list(cache.glob("*/"))


def test_rows_are_filled_into_an_array_in_any_order(folder, monkeypatch):
    monkeypatch.setattr(mapped, "_GATHERED", 5 * 49)  # several parts
    for cached in (False, True):
        train = load(folder, cached).train.take(np.arange(20)[::-1])
        rows = np.array([[3, 3, 0, 19], [7, 1, 2, 4], [5, 6, 8, 9]])
        found = np.zeros((3, 4, 7, 7, 1), np.uint8)
        train.images.rows_into(rows, found)
        np.testing.assert_array_equal(found, everything(train)[rows])
        np.testing.assert_array_equal(train.images.rows(rows), found)


def test_counted_channels_are_measured_ones(digits, rng):
    images = np.stack([digits[0], 255 - digits[0], rng.integers(0, 256, digits[0].shape, np.uint8)], -1)[:39]
    counted, floats = (data.Standardize.fit(each) for each in (images, images / np.float32(255)))
    np.testing.assert_allclose(counted.mean, floats.mean, rtol=1e-6)
    np.testing.assert_allclose(counted.std, floats.std, rtol=1e-6)
    constant = data.Standardize.fit(np.full((3, 5, 5, 1), 7, np.uint8))
    np.testing.assert_array_equal(constant.std, [1])
