"""Tables and shards: what people have is the same data as its arrays, and one sentence says what is not."""

from __future__ import annotations

import gzip
import io
import json
import pathlib
import re
import tarfile
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jaxdd import data
from jaxdd.errors import JaxddError

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = ["ant", "bee", "cat"]


@pytest.fixture
def splits(mnist):
    """Real digits of three classes, `{split: (x, y)}`."""
    source = mnist.dataset
    rows = np.stack([np.flatnonzero(source.train.labels == k)[:35] for k in range(3)], axis=1).ravel()
    cut = {"train": rows[:60], "test": rows[60:90], "validation": rows[90:105]}
    return {split: (source.train.images[of, ::4, ::4], source.train.labels[of]) for split, of in cut.items()}


def expected(splits, *names):
    train, *others = names or ("train", "test")
    arrays = {f"{part}_{name}": array for name in others for part, array in zip("xy", splits[name], strict=True)}
    return data.from_arrays(*splits[train], **arrays).source_hash


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze()).save(buffer, "PNG")
    return buffer.getvalue()


FEATURES = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": NAMES}}


def table(x, y, form="struct", features=FEATURES, chunk=7):
    """A table in one of the forms that people have, in chunks, with what `datasets` writes into its schema."""
    if form == "struct":
        images = pa.array([{"bytes": png(i), "path": "1.png"} for i in x])
    elif form == "bytes":
        images = pa.array([png(i) for i in x])
    else:
        images = pa.array({"lists": x[..., 0], "deep lists": x, "vectors": x.reshape(len(x), -1)}[form].tolist())
        kind = images.type
        depth = 0
        while hasattr(kind, "value_type"):
            kind, depth = kind.value_type, depth + 1
        kind = pa.uint8()
        for _ in range(depth):
            kind = pa.list_(kind)
        images = images.cast(kind)
    made = pa.table({"id": pa.array(range(len(y))), "image": images, "label": pa.array(y.tolist())})
    if features:
        made = made.replace_schema_metadata({b"huggingface": json.dumps({"info": {"features": features}}).encode()})
    return pa.Table.from_batches(made.to_batches(max_chunksize=chunk))


def save_parquet(folder, splits, **form):
    folder.mkdir()
    for split, pair in splits.items():
        half = len(pair[1]) // 2
        for k, rows in enumerate((slice(half), slice(half, None))):
            part = table(pair[0][rows], pair[1][rows], **form)
            pq.write_table(part, folder / f"{split}-0000{k}-of-00002.parquet")
    return folder


def save_to_disk(folder, made, **info):
    """As `datasets.Dataset.save_to_disk` does, in two files whose order is not that of their names."""
    folder.mkdir(parents=True)
    half = len(made) // 2
    for name, part in (("data-b.arrow", made[:half]), ("data-a.arrow", made[half:])):
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, made.schema) as writer:
            writer.write_table(part)
    state = {"_data_files": [{"filename": "data-b.arrow"}, {"filename": "data-a.arrow"}], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES, **info}))
    return folder


def save_shards(folder, splits, label=lambda k: {"cls": str(k)}, size=25):
    folder.mkdir()
    for split, (x, y) in splits.items():
        for k in range(0, len(y), size):
            members = {}
            for i in range(k, min(k + size, len(y))):
                parts = {"png": png(x[i]), **{kind: text.encode() for kind, text in label(int(y[i])).items()}}
                members |= {f"./{i:03}.{kind}": content for kind, content in parts.items()}
            save_tar(folder / f"{split}-{k // size:06}.tar", members)
    return folder


def save_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def both(source, **options):
    """In memory, after it was seen to be the same as it is streamed."""
    whole, streamed = (data.load(source, stream=stream, **options) for stream in (False, True))
    assert whole.source_hash == streamed.source_hash and whole.class_names == streamed.class_names
    rows = np.arange(len(whole.train))[::-3]
    np.testing.assert_allclose(streamed.train.pixels()[rows], whole.train.pixels()[rows], rtol=1e-6)
    return whole


@pytest.mark.parametrize("form", ["struct", "bytes", "lists", "deep lists", "vectors"])
def test_parquet_is_what_its_arrays_are(form, splits, tmp_path):
    two = {name: splits[name] for name in ("train", "test")}
    folder = save_parquet(tmp_path / "birds", two, form=form)
    dataset = both(folder)
    assert dataset.source_hash == expected(splits) and dataset.name == "birds" and dataset.class_names == tuple(NAMES)
    single = folder / "train-00000-of-00002.parquet"
    found = data.load(single)
    assert found.source_hash == data.from_arrays(*(part[:30] for part in splits["train"])).source_hash
    assert found.name == single.stem


def test_a_folder_that_datasets_saved_is_what_its_arrays_are(splits, tmp_path):
    saved = save_to_disk(tmp_path / "one", table(*splits["train"]), license="cc0-1.0")
    dataset = both(saved)
    assert dataset.source_hash == data.from_arrays(*splits["train"]).source_hash
    assert (dataset.license, dataset.class_names) == ("cc0-1.0", tuple(NAMES))
    for split in ("train", "test", "validation"):
        save_to_disk(tmp_path / "three" / split, table(*splits[split]))
    (tmp_path / "three" / "dataset_dict.json").write_text('{"splits": ["train", "test", "validation"]}')
    dataset = both(tmp_path / "three")
    assert dataset.source_hash == expected(splits, "train", "test", "validation")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [60, 15, 30]


def test_splits_that_nobody_knows_are_left_out_unread(splits, tmp_path, caplog):
    for split in ("train", "test"):
        save_to_disk(tmp_path / "many" / split, table(*splits[split]))
    (tmp_path / "many" / "dataset_dict.json").write_text('{"splits": ["train", "extra", "test"]}')
    assert data.load(tmp_path / "many").source_hash == expected(splits)
    assert "left out extra, as only the splits train, validation and test are read" in caplog.messages[0]


@pytest.mark.parametrize("label", [lambda k: {"cls": f"{k}\n"}, lambda k: {"json": json.dumps({"label": k, "id": 1})}])
def test_shards_are_what_their_arrays_are(label, splits, tmp_path):
    two = {name: splits[name] for name in ("train", "test")}
    folder = save_shards(tmp_path / "shards", two, label)
    assert both(folder).source_hash == expected(splits)
    single = data.load(folder / "test-000000.tar")
    assert single.source_hash == data.from_arrays(*(part[:25] for part in splits["test"])).source_hash


def test_labels_that_are_words_are_classes_in_their_order(splits, tmp_path, caplog):
    words = ["zebra", "ape", "moth"]
    x, y = splits["train"]
    ranks = np.array([2, 0, 1])[y]
    folder = save_shards(tmp_path / "shards", {"train": (x, y)}, lambda k: {"cls": words[k], "txt": "a caption"})
    dataset = data.load(folder)
    assert dataset.source_hash == data.from_arrays(x, ranks).source_hash
    assert dataset.class_names == ("ape", "moth", "zebra")
    assert "left out members by their endings (60 txt)" in caplog.messages[0]
    made = table(x, y, features=None).drop_columns("label").append_column("label", [[words[k] for k in y]])
    pq.write_table(made, tmp_path / "a.parquet")
    assert data.load(tmp_path / "a.parquet").source_hash == dataset.source_hash


# Of arrays by their names.

KEYS = [
    ("X", "y"),
    ("images", "labels"),
    ("train_images", "train_labels"),
    ("X_train", "Y_train"),
    ("data", "target"),
]


@pytest.mark.parametrize(("x", "y"), KEYS)
@pytest.mark.parametrize("folder", [False, True])
def test_arrays_by_the_names_that_people_give_them(x, y, folder, splits, tmp_path):
    arrays = {x: splits["train"][0], y: splits["train"][1][:, None]}
    path = tmp_path / "a.npz"
    if folder:
        path = tmp_path / "a"
        path.mkdir()
        for name, array in arrays.items():
            np.save(path / f"{name}.npy", array)
        assert data.load(path, stream=True).source_hash == data.from_arrays(*splits["train"]).source_hash
    else:
        np.savez(path, **arrays)
    assert data.load(path).source_hash == data.from_arrays(*splits["train"]).source_hash


def save_medmnist(path, splits):
    """As MedMNIST's files are: its names, and labels `(n, 1)`."""
    named = {"train": "train", "validation": "val", "test": "test"}
    arrays = {f"{named[split]}_images": x for split, (x, _) in splits.items()}
    np.savez(path, **arrays, **{f"{named[split]}_labels": np.uint8(y)[:, None] for split, (_, y) in splits.items()})


def test_a_validation_split_of_the_sources_own_stands_in_place_of_the_cut(splits, tmp_path):
    save_medmnist(tmp_path / "a.npz", splits)
    found = [data.load(tmp_path / "a.npz", validation=fraction, seed=seed) for fraction, seed in ((0.1, 0), (0.5, 1))]
    without = data.load(tmp_path / "a.npz", validation=0.0)
    for dataset in (*found, without):
        assert dataset.source_hash == expected(splits, "train", "test", "validation")
        np.testing.assert_array_equal(dataset.train.images, splits["train"][0])
        np.testing.assert_array_equal(dataset.test.labels, splits["test"][1])
    assert [dataset.own_validation for dataset in (*found, without)] == [True, True, False]
    for dataset in found:
        np.testing.assert_array_equal(dataset.validation.images, splits["validation"][0])
        np.testing.assert_array_equal(dataset.validation.labels, splits["validation"][1])
    assert len(without.validation) == 0 and without.validation.images.shape == (0, 7, 7, 1)


@pytest.mark.parametrize("kind", ["npz", "parquet", "shards"])
def test_without_a_test_split_the_validation_split_is_tested_on(kind, splits, tmp_path, caplog):
    two = {name: splits[name] for name in ("train", "validation")}
    save = {"npz": save_medmnist, "parquet": save_parquet, "shards": save_shards}[kind]
    path = tmp_path / ("a.npz" if kind == "npz" else "a")
    save(path, two)
    dataset = data.load(path)
    assert dataset.source_hash == data.from_arrays(*splits["train"], *splits["validation"]).source_hash
    assert len(dataset.test) == 15 and len(dataset.validation) == 6
    assert [message for message in caplog.messages if "so its validation split is tested on" in message]


def test_splits_of_folders_with_all_three(splits, tmp_path):
    for split, (x, y) in splits.items():
        for k, (image, label) in enumerate(zip(x, y, strict=True)):
            file = tmp_path / "a" / split / NAMES[label] / f"{k:03}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(image))
    dataset = both(tmp_path / "a")
    order = {split: np.argsort(y, kind="stable") for split, (_, y) in splits.items()}
    np.testing.assert_array_equal(dataset.validation.images, splits["validation"][0][order["validation"]])
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [60, 15, 30]


def test_archives_beside_class_folders_are_left_alone(splits, tmp_path):
    """As downloads leave them; a folder of pictures is one."""
    x, y = splits["train"]
    for k, (image, label) in enumerate(zip(x, y, strict=True)):
        file = tmp_path / "pets" / NAMES[label] / f"{k:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(image))
    expected_hash = both(tmp_path / "pets").source_hash
    (tmp_path / "pets" / "pets.tar").write_bytes(b"")
    assert both(tmp_path / "pets").source_hash == expected_hash


# What is wrong, and the sentence for it.


def spoil_table(change):
    def write(path, splits):
        x, y = splits["train"]
        path = path / "a.parquet"
        pq.write_table(change(x, y), path)
        return path

    return write


def other_size(x, y):
    made = table(x, y, features=None)
    cells = [{"bytes": png(i if k != 40 else i[:5]), "path": None} for k, i in enumerate(x)]
    return made.set_column(1, "image", [cells])


def with_column(name, values, **options):
    def change(x, y):
        made = table(x, y, **options)
        values_here = values(x, y)
        if name in made.schema.names:
            return made.set_column(made.schema.names.index(name), name, [values_here])
        return made.append_column(name, [values_here])

    return change


def ragged(x, y):
    return [i[..., 0].ravel()[: 48 if k == 9 else 49].tolist() for k, i in enumerate(x)]


def missing(x, y):
    return [None if k == 9 else {"bytes": png(i), "path": "9.png"} for k, i in enumerate(x)]


TABLES = [
    (other_size, r"a.parquet, row 40, is 5x7 \(height x width\) but .*row 0, is 7x7; all images must have one size"),
    (with_column("image", ragged, features=None), "row 9, has an image of another size than those before it"),
    (with_column("image", missing), "row 9, has no bytes of an image: embed the files that it names"),
    (with_column("image", lambda x, y: ["a.png"] * len(y), features=None), "column 'image' holds string, and images"),
    (
        with_column("image", lambda x, y: x[..., 0].reshape(len(x), -1)[:, :48].tolist(), features=None),
        "vectors of 48 numbers, which are no grey square",
    ),
    (
        with_column("label", lambda x, y: [[k, 1] for k in y]),
        "labels in column 'label' are lists; .*several labels",
    ),
    (with_column("label", lambda x, y: [k / 2 for k in y]), "labels in column 'label' are of type double, not whole"),
    (with_column("label", lambda x, y: [None, *y[1:].tolist()]), "row 0, has no label"),
    (with_column("label", lambda x, y: (y - 1).tolist()), "must be in 0..classes-1, but label"),
    (
        with_column("target", lambda x, y: y.tolist(), features=None),
        "several columns of labels, label, target, and an example has one: leave out all but one",
    ),
    (lambda x, y: table(x, y, features=None).drop_columns("label"), "no column of labels .*, only id, image: rename"),
    (lambda x, y: table(x, y, features=None).drop_columns("image"), "no column of images .*, only id, label: rename"),
]


@pytest.mark.parametrize(("change", "sentence"), TABLES, ids=[sentence[:30] for _, sentence in TABLES])
def test_bad_tables_get_one_clear_sentence(change, sentence, splits, tmp_path):
    with pytest.raises(JaxddError, match=sentence) as error:
        data.load(spoil_table(change)(tmp_path, splits))
    assert "\n" not in str(error.value)


def good_shard(splits):
    x, y = splits["train"]
    return {f"{k:03}.{kind}": part for k in range(60) for kind, part in (("png", png(x[k])), ("cls", b"%d" % y[k]))}


def changed(**members):
    return lambda folder, good: save_tar(folder / "a.tar", {**good, **members})


def raw(change):
    def write(folder, good):
        save_tar(folder / "a.tar", good)
        (folder / "a.tar").write_bytes(change((folder / "a.tar").read_bytes()))

    return write


SHARDS = [
    (changed(**{"900.png": b""}), "a.tar: 900 has an image and neither a .cls nor a .json file"),
    (changed(**{"900.cls": b"1"}), "a.tar: 900 has a label and no png or jpg or jpeg file"),
    (changed(**{"000.jpg": b""}), "000.jpg is there twice, or beside another image of its name"),
    (changed(**{"000.cls": b"\xff"}), "000.cls is not text"),
    (changed(**{"000.cls": b"\n"}), "000.cls has '' for a label"),
    (changed(**{"000.cls": b"one"}), "has labels that are words, 'one', beside such that are numbers"),
    (changed(**{"900.png": b"", "900.json": b"[1]"}), "900.json must have one of the keys label, cls"),
    (changed(**{"900.png": b"", "900.json": b'{"label": [1, 2]}'}), "900.json has several labels"),
    (changed(**{"900.png": b"", "900.json": b'{"label": 1.5}'}), "900.json has 1.5 for a label"),
    (changed(**{"900.png": b"", "900.json": b"{"}), "900.json is not JSON"),
    (changed(**{"000.png": b"not a picture"}), r"a.tar: 000.png is not a readable PNG or JPEG file"),
    (changed(**{"000.png": png(np.zeros((3, 7), np.uint8))}), "001.png is 7x7 .* but .*000.png is 3x7; all images"),
    (raw(gzip.compress), "a.tar is compressed, and members are read where they lie: gunzip it"),
    (raw(lambda content: content[:40_000]), "a.tar is not a readable .tar file|a.tar is truncated"),
    (raw(lambda content: content[: content.rindex(b"059.cls")]), "a.tar is truncated"),
    (raw(lambda content: content + content), "holds more after its end"),
    (raw(lambda content: b"no archive" * 200), "a.tar is not a readable .tar file"),
    (lambda folder, good: save_tar(folder / "a.tar", {}), "a.tar holds no png file with a label"),
]


@pytest.mark.parametrize(("write", "sentence"), SHARDS, ids=[sentence[:30] for _, sentence in SHARDS])
def test_bad_shards_get_one_clear_sentence(write, sentence, splits, tmp_path):
    write(tmp_path, good_shard(splits))
    with pytest.raises(JaxddError, match=sentence) as error:
        data.load(tmp_path / "a.tar")
    assert "\n" not in str(error.value)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


PLACES = [
    (("train.parquet", "more.parquet"), "more.parquet does not say of which split it is, and others do"),
    (("a/train.tar", "b/train.tar"), "has files of the split train in several folders, a and b: give the path of one"),
    (("a/0.tar", "b/0.tar"), "has files of a data set in several folders, a and b"),
    (("train.parquet",), "is not readable as Parquet"),
    (("state.json",), "cannot be read as what datasets.Dataset.save_to_disk leaves"),
]


@pytest.mark.parametrize(("names", "sentence"), PLACES, ids=[" ".join(names) for names, _ in PLACES])
def test_bad_folders_of_tables_and_shards_get_one_clear_sentence(names, sentence, tmp_path):
    touch(tmp_path, *names)
    with pytest.raises(JaxddError, match=sentence) as error:
        data.load(tmp_path)
    assert "\n" not in str(error.value)


def test_saved_folders_with_an_index_and_splits_without_train(splits, tmp_path):
    saved = save_to_disk(tmp_path / "one", table(*splits["train"]))
    state = json.loads((saved / "state.json").read_text())
    (saved / "state.json").write_text(json.dumps({**state, "_indices_data_files": [{"filename": "indices.arrow"}]}))
    with pytest.raises(JaxddError, match=r"holds an index of rows beside its rows: save dataset.flatten_indices\(\)"):
        data.load(saved)
    two = {"test": splits["test"], "validation": splits["validation"]}
    with pytest.raises(JaxddError, match="has the splits test, validation, and none is called 'train'"):
        data.load(save_parquet(tmp_path / "two", two))


def test_without_pyarrow_the_extra_is_named(splits, tmp_path, monkeypatch):
    folder = save_parquet(tmp_path / "a", {"train": splits["train"]})
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(JaxddError, match=r"read by pyarrow: pip install 'jaxdd\[parquet\]'"):
        data.load(folder)


@pytest.mark.parametrize("kind", ["parquet", "arrow", "tar"])
def test_damaged_files_are_read_right_or_refused(kind, splits, tmp_path, rng):
    x, y = splits["train"]
    if kind == "parquet":
        path = tmp_path / "a.parquet"
        pq.write_table(table(x, y), path)
        source = path
    elif kind == "arrow":
        source = save_to_disk(tmp_path / "a", table(x, y))
        path = source / "data-a.arrow"
    else:
        source = path = tmp_path / "a.tar"
        save_tar(path, good_shard(splits))
    good, content = data.from_arrays(x, y).source_hash, path.read_bytes()
    refused = 0
    for trial in range(60):
        damaged = bytearray(content)
        if trial % 3 == 0:
            damaged = damaged[: rng.integers(len(content))]
        else:
            at = rng.integers(len(damaged))
            damaged[at : at + 40] = rng.bytes(len(damaged[at : at + 40]))
        path.unlink()  # what is mapped stays what it was
        path.write_bytes(damaged)
        try:
            data.load(source)
        except JaxddError as error:
            refused += 1
            assert "\n" not in str(error)
    path.unlink()
    path.write_bytes(content)
    assert refused > 30 and data.load(source).source_hash == good


# The recipes of docs/data.md.


def recipe(name, **given):
    (code,) = re.findall(
        rf"<!-- recipe: {name} -->\n```python\n(.*?)```", (ROOT / "docs" / "data.md").read_text(), re.DOTALL
    )
    scope = {"np": np, "data": data, **given}
    exec(code, scope)
    return scope["dataset"]


class Pairs:
    """What a `torch.utils.data.Dataset` is: it has a length, and items; it does not end by itself."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.y)

    def __getitem__(self, k):
        return Image.fromarray(self.x[k % len(self)].squeeze()), self.y[k % len(self)]


class Part:
    """What a `datasets.Dataset` is, as far as the recipe goes."""

    def __init__(self, x, y):
        self.columns = {"image": [Image.fromarray(i.squeeze()) for i in x], "label": y.tolist()}
        self.features = {"label": type("ClassLabel", (), {"names": NAMES})}

    def __getitem__(self, column):
        return iter(self.columns[column])


def test_the_recipe_for_a_torch_dataset(splits):
    dataset = recipe("torch", torch_dataset=Pairs(*splits["train"]))
    assert dataset.source_hash == data.from_arrays(*splits["train"]).source_hash


def test_the_recipe_for_a_dataset_dict_of_hugging_face(splits):
    dataset = recipe("datasets", splits={split: Part(*pair) for split, pair in splits.items()})
    assert dataset.source_hash == expected(splits) and dataset.class_names == tuple(NAMES)


@pytest.mark.endurance
def test_the_recipe_for_real_torch(splits):
    torch = pytest.importorskip("torch")
    x, y = splits["train"]
    tensors = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    assert recipe("torch", torch_dataset=tensors).source_hash == data.from_arrays(x, y).source_hash


@pytest.mark.endurance
def test_what_real_datasets_and_webdataset_write(splits, tmp_path):
    datasets, webdataset = pytest.importorskip("datasets"), pytest.importorskip("webdataset")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    made = datasets.DatasetDict()
    for split in ("train", "test"):
        x, y = splits[split]
        columns = {"image": [Image.fromarray(i.squeeze()) for i in x], "label": y.tolist()}
        made[split] = datasets.Dataset.from_dict(columns, features=features)
        made[split].to_parquet(tmp_path / f"{split}.parquet")
        (tmp_path / "shards").mkdir(exist_ok=True)
        with webdataset.ShardWriter(str(tmp_path / "shards" / f"{split}-%04d.tar"), maxcount=40, verbose=0) as sink:
            for k, (image, label) in enumerate(zip(columns["image"], columns["label"], strict=True)):
                sink.write({"__key__": f"{k:04}", "png": image, "cls": label})
    made.save_to_disk(tmp_path / "saved")
    with tempfile.TemporaryDirectory() as folder:
        for split in made:
            (tmp_path / f"{split}.parquet").rename(pathlib.Path(folder) / f"{split}.parquet")
        found = [data.load(path).source_hash for path in (folder, tmp_path / "saved", tmp_path / "shards")]
    assert set(found) == {expected(splits)} and recipe("datasets", splits=made).source_hash == expected(splits)
