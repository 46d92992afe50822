"""Prepared TFDS sets, both formats, without TensorFlow; built here by hand with TFDS's own metadata writers."""

from __future__ import annotations

import io
import json
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from jaxdd import data
from jaxdd.data import tfds as prepared
from jaxdd.errors import JaxddError


@pytest.fixture(autouse=True)
def tfds_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDD_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    return tmp_path / "tfds"


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze()).save(buffer, "PNG")
    return buffer.getvalue()


def serialized(image, label):
    """A `tf.train.Example` as TFDS writes it."""
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()
    example.features.feature["image"].bytes_list.value.append(png(image))
    example.features.feature["label"].int64_list.value.append(int(label))
    example.features.feature["id"].bytes_list.value.append(b"an id")
    return example.SerializeToString()


def write_tfrecord(path, records):
    """Frames without valid checksums: nobody but TensorFlow looks at them."""
    path.write_bytes(b"".join(struct.pack("<QI", len(r), 0) + r + struct.pack("<I", 0) for r in records))


def write_array_record(path, records):
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


def prepare(root, splits, *, file_format, name="tiny", version="1.0.0", names=("ant", "bee", "cat"), **info):
    """A prepared folder: `splits` maps a name to `(images, labels)`; two shards each."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import dataset_info, naming
    from tensorflow_datasets.core import splits as splits_lib

    folder = root / name / version
    folder.mkdir(parents=True)
    write = {"tfrecord": write_tfrecord, "array_record": write_array_record}[file_format]
    shape = next(iter(splits.values()))[0][0].shape
    infos = []
    for split, (images, labels) in splits.items():
        records = [serialized(*pair) for pair in zip(images, labels, strict=True)]
        shards = [records[: len(records) // 2], records[len(records) // 2 :]]
        template = naming.ShardedFileTemplate(
            data_dir=folder, dataset_name=name.split("/")[0], split=split, filetype_suffix=file_format
        )
        for i, shard in enumerate(shards):
            write(folder / template.sharded_filepath(shard_index=i, num_shards=2).name, shard)
        infos.append(
            splits_lib.SplitInfo(
                name=split, shard_lengths=[len(s) for s in shards], num_bytes=1, filename_template=template
            )
        )
    identity = dataset_info.DatasetIdentity(
        name=name.split("/")[0],
        version=tfds.core.Version(version),
        data_dir=str(folder),
        module_name="tiny",
    )
    arguments = {
        "features": tfds.features.FeaturesDict(
            {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=shape),
                "label": tfds.features.ClassLabel(names=names),
            }
        ),
        "supervised_keys": ("image", "label"),
        "split_dict": splits_lib.SplitDict(infos),
        **info,
    }
    written = dataset_info.DatasetInfo(builder=identity, **arguments)
    written.set_file_format(file_format)
    written.write_to_directory(folder)
    return folder


def examples(n=12, shape=(4, 5, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8), (np.arange(n) % 3).astype(np.int32)


FORMATS = pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])


@FORMATS
@pytest.mark.parametrize("shape", [(4, 5, 3), (6, 4, 1)])
def test_both_formats_are_read_byte_equal_without_tensorflow(file_format, shape, tfds_dir):
    train, test = examples(shape=shape), examples(6, shape=shape, seed=1)
    folder = prepare(tfds_dir, {"train": train, "test": test}, file_format=file_format, license="CC0")
    expected = data.from_arrays(*train, *test)
    for source in ("tiny", "tiny:1.0.0", folder, str(folder), folder.parent):
        dataset = data.load(source)
        assert dataset.source_hash == expected.source_hash
        assert dataset.class_names == ("ant", "bee", "cat") and dataset.license == "CC0"
        assert dataset.name == (source if source in ("tiny", "tiny:1.0.0") else "tiny")
    assert "tensorflow" not in sys.modules


@FORMATS
def test_without_a_test_split_validation_takes_its_place_or_it_is_cut(file_format, tfds_dir):
    train, other = examples(), examples(6, seed=1)
    prepare(tfds_dir, {"train": train, "validation": other}, file_format=file_format, name="with_validation")
    prepare(tfds_dir, {"train": train}, file_format=file_format, name="bare")
    test = examples(6, seed=2)
    prepare(tfds_dir, {"train": train, "validation": other, "test": test}, file_format=file_format, name="three")
    assert data.load("with_validation").source_hash == data.from_arrays(*train, *other).source_hash
    given = dict(zip(("x_validation", "y_validation"), other, strict=True))
    assert data.load("three").source_hash == data.from_arrays(*train, *test, **given).source_hash
    assert data.load("bare").source_hash == data.from_arrays(*train).source_hash


def test_the_newest_version_and_a_config_are_found(tfds_dir):
    old, new = examples(), examples(seed=1)
    prepare(tfds_dir, {"train": old}, file_format="tfrecord", version="1.9.0")
    prepare(tfds_dir, {"train": new}, file_format="tfrecord", version="1.10.0")
    prepare(tfds_dir, {"train": old}, file_format="tfrecord", name="tiny/small")
    (tfds_dir / "downloads" / "extracted").mkdir(parents=True)
    assert data.load("tiny").source_hash == data.from_arrays(*new).source_hash
    assert data.load("tiny:1.9.0").source_hash == data.from_arrays(*old).source_hash
    assert data.load("tiny/small").source_hash == data.from_arrays(*old).source_hash
    assert set(data.available()) == {"mnist_5k", "tiny", "tiny/small"}
    with pytest.raises(JaxddError, match="unknown data set 'tiny:3"):
        data.load("tiny:3.0.0")


@FORMATS
def test_supervised_keys_are_not_needed(file_format, tfds_dir):
    train = examples()
    prepare(tfds_dir, {"train": train}, file_format=file_format, supervised_keys=None)
    assert data.load("tiny").source_hash == data.from_arrays(*train).source_hash


def test_a_folder_that_does_not_name_its_format_is_tfrecord(tfds_dir):
    """As TFDS wrote them before version 4.2."""
    train = examples()
    folder = prepare(tfds_dir, {"train": train}, file_format="tfrecord")
    description = json.loads((folder / "dataset_info.json").read_text())
    assert description.pop("fileFormat") == "tfrecord"
    (folder / "dataset_info.json").write_text(json.dumps(description))
    assert data.load("tiny").source_hash == data.from_arrays(*train).source_hash


def shard(folder):
    return sorted(folder.glob("tiny-train*"))[0]


BREAKAGES = [
    ("tfrecord", lambda f: shard(f).write_bytes(shard(f).read_bytes()[:-30]), "truncated or not a TFRecord file"),
    ("tfrecord", lambda f: shard(f).write_bytes(b"\xff" * 40), "truncated or not a TFRecord file"),
    ("tfrecord", lambda f: shard(f).write_bytes(b""), "holds 6 examples instead of 12"),
    ("tfrecord", lambda f: shard(f).unlink(), "cannot be read as a prepared TFDS data set"),
    (
        "tfrecord",
        lambda f: shard(f).write_bytes(shard(f).read_bytes().replace(b"IDAT", b"IDAX")),
        "cannot be read as a prepared TFDS data set",
    ),
    ("array_record", lambda f: shard(f).unlink(), "cannot be read as a prepared TFDS data set"),
    ("tfrecord", lambda f: (f / "features.json").write_text("{"), "cannot be read as a prepared TFDS data set"),
    ("tfrecord", lambda f: (f / "dataset_info.json").write_text("[]"), "cannot be read as a prepared TFDS data set"),
]


@pytest.mark.parametrize(("file_format", "breakage", "sentence"), BREAKAGES)
def test_damaged_sets_get_one_clear_sentence(file_format, breakage, sentence, tfds_dir):
    folder = prepare(tfds_dir, {"train": examples()}, file_format=file_format)
    breakage(folder)
    with pytest.raises(JaxddError, match=sentence) as error:
        data.load("tiny")
    assert "\n" not in str(error.value)


def test_sets_of_another_kind_get_one_clear_sentence(tfds_dir):
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(4, 5, 3)), "text": tfds.features.Text()})
    prepare(tfds_dir, {"train": examples()}, file_format="tfrecord", name="a", features=features, supervised_keys=None)
    with pytest.raises(JaxddError, match="is not an image classification set: its features are image, text"):
        data.load("a")
    prepare(tfds_dir, {"test": examples()}, file_format="tfrecord", name="b")
    with pytest.raises(JaxddError, match="has no split 'train', only test"):
        data.load("b")
    images = [np.zeros((h, 5, 3), np.uint8) for h in (4, 6)]
    features = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(shape=(None, None, 3)), "label": tfds.features.ClassLabel(num_classes=2)}
    )
    prepare(tfds_dir, {"train": (images, [0, 1])}, file_format="tfrecord", name="c", features=features)
    with pytest.raises(JaxddError, match=r"differ in shape .* jaxdd does not resize"):
        data.load("c")


def test_preparing_is_asked_of_tfds_only_where_tensorflow_is(tfds_dir, monkeypatch):
    """With TensorFlow installed, an unprepared set of the catalogue is prepared as ArrayRecord and then read."""
    import tensorflow_datasets as tfds

    asked = []

    class Builder:
        def __init__(self, name, data_dir, file_format):
            asked.append((name, data_dir, file_format))

        def download_and_prepare(self):
            self.data_dir = str(prepare(tfds_dir, {"train": examples()}, file_format="array_record", name="cifar10"))

    monkeypatch.setattr(tfds, "builder", Builder)
    monkeypatch.setattr(prepared, "can_prepare", lambda: True)
    assert data.load("cifar10").source_hash == data.from_arrays(*examples()).source_hash
    assert asked == [("cifar10", tfds_dir, "array_record")]
    assert data.load("cifar10").name == "cifar10" and len(asked) == 1
    monkeypatch.setattr(Builder, "download_and_prepare", lambda self: 1 / 0)
    with pytest.raises(JaxddError, match="TFDS could not prepare 'mnist': division by zero"):
        data.load("mnist")
