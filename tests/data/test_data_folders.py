"""Layouts of folders of images, and the files in them: recognised, counted, or refused with what to rename."""

from __future__ import annotations

import logging
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from jaxdd import data
from jaxdd.data.pictures import FileSource
from jaxdd.errors import JaxddError

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (64, 4, 5, 3), np.uint8)


def put(root, *names, pictures=PICTURES):
    """Pictures under these names; a name may say how many: `a/{}.png*3`."""
    k = 0
    for name in names:
        name, _, times = name.partition("*")
        for i in range(int(times or 1)):
            file = root / name.format(i)
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pictures[k]).save(file, "JPEG" if file.suffix == ".jfif" else None)
            k += 1
    return root


def both(path, **options):
    """In memory and streamed; they agree."""
    whole, streamed = (data.load(path, stream=stream, **options) for stream in (False, True))
    assert whole.source_hash == streamed.source_hash and whole.class_names == streamed.class_names
    for name in ("train", "validation", "test"):
        ours, split = getattr(streamed, name), getattr(whole, name)
        assert np.array_equal(ours.images.read(np.arange(len(ours))), split.images)
    return whole


PLAIN = ("cat/{}.png*3", "dog/{}.png*3")
SPLIT = ("train/cat/{}.png*3", "train/dog/{}.png*3", "test/cat/0.png", "test/dog/0.png")


def renamed(names, **prefixes):
    for old, new in prefixes.items():
        names = [name.replace(old, new) for name in names]
    return names


@pytest.mark.parametrize(
    ("names", "same_as"),
    [
        (PLAIN, PLAIN),
        (renamed(PLAIN, cat="pets/cat", dog="pets/dog"), PLAIN),
        (renamed(PLAIN, cat="a/b/cat", dog="a/b/dog"), PLAIN),
        (renamed(PLAIN, cat="cat/images", dog="dog/Images"), PLAIN),
        ((*PLAIN, "__MACOSX/cat/._0.png", "__MACOSX/x.png", "cat/__MACOSX/0.png", ".hidden/0.png"), PLAIN),
        (renamed(SPLIT, train="Training", test="Testing"), SPLIT),
        (renamed(SPLIT, train="TRAIN", test="TEST"), SPLIT),
        (renamed(SPLIT, train="pets/train/data", test="pets/test"), SPLIT),
        (SPLIT[:2], PLAIN),
    ],
    ids=lambda names: names[0],
)
def test_layouts_that_are_recognised(names, same_as, tmp_path, caplog):
    odd, plain = (both(put(tmp_path / name, *files)) for name, files in (("odd", names), ("plain", same_as)))
    assert odd.source_hash == plain.source_hash and odd.class_names == ("cat", "dog") and not caplog.records


def test_a_class_may_have_the_name_of_a_split(tmp_path):
    assert both(put(tmp_path / "a", "bus/{}.png*3", "train/{}.png*3")).class_names == ("bus", "train")
    assert both(put(tmp_path / "c", "test_tube/{}.png*3", "cup/{}.png*3")).class_names == ("cup", "test_tube")
    assert both(put(tmp_path / "b", "torn/{}.png*3", "valid/{}.png*3")).class_names == ("torn", "valid")


REFUSED = [
    (
        ("train/cat.0.png", "train/dog.0.png", "test/0.png"),
        r"train has no class folders but 2 images beside each other, cat.0.png the first: move them into one folder "
        r"for each class, as in train/CLASS/cat.0.png$",
    ),
    (
        ("Training/0.png", "validation/0.png"),
        r"has a folder 'validation' beside Training; .* rename it 'test' to test on",
    ),
    (("train/0.png",), "train has no class folders but 1 image beside"),
    ((*SPLIT[:2], "test/0.png"), r"test/CLASS/0.png; or move test away, and a test split is cut from train$"),
    ((*SPLIT[:2], "VAL/cat/0.png"), "'VAL' beside train; only train and test, and validation .* rename it 'test'"),
    ((*SPLIT, "VAL/bird/0.png"), "VAL/bird is a class that .*train does not have"),
    ((*SPLIT, "extra/0.png"), "'extra' beside train; only .* into the class folders of train$"),
    ((*SPLIT, "training/cat/0.png"), "has both 'train' and 'training'; merge them into 'train'"),
    (
        (*PLAIN, "test/0.png"),
        "has a folder 'test' but none called 'train'; move the class .* or rename 'test' if it is",
    ),
    (("val/cat/0.png", "val/dog/0.png"), "has a folder 'val' but none called 'train'"),
    (
        ("train/0.png", "test1/0.png"),
        "folders test1, train, which are named like splits; rename them to 'train' and 't",
    ),
    (("training_set/a/0.png", "test_set/a/0.png"), "folders test_set, training_set, which are named like splits"),
    (("TrainImages/0.png", "val2017/0.png", "x.csv.png"), "folders TrainImages, val2017, which are named like splits"),
    (("0.png", "1.png"), r"odd has no class folders but 2 images beside each other, .* as in odd/CLASS/0.png"),
    (("cat/{}.png*3",), "has a single class folder, cat; a data set needs at least 2"),
    (("train/images/{}.png*3",), "train has no class folders but images, which are named for kinds of files"),
    (("images/{}.png*3", "labels/{}.png*3"), "no class folders but images and labels, which are named for kinds"),
    (
        (*PLAIN, "bird/young/0.png", "bird/old/0.png"),
        "bird holds no PNG .* only the folders old, young: move its files",
    ),
    (
        (*PLAIN, "bird/0.webp", "bird/1.bmp"),
        r"bird holds no PNG or JPEG file \(it holds 1 .bmp and 1 .webp files: conv",
    ),
    ((*PLAIN, "bird/0.jfif"), "which are JPEG: rename them to .jpg"),
]


@pytest.mark.parametrize(("names", "sentence"), REFUSED, ids=[" ".join(names[-2:]) for names, _ in REFUSED])
@pytest.mark.parametrize("stream", [False, True])
def test_layouts_that_are_refused_with_what_to_do(names, sentence, stream, tmp_path, monkeypatch):
    put(tmp_path / "odd", *names)
    monkeypatch.setattr(FileSource, "of", None)  # before any file is read
    with pytest.raises(JaxddError, match=sentence) as error:
        data.load(tmp_path / "odd", stream=stream)
    assert "\n" not in str(error.value)


def test_folders_of_arrays_by_other_names(tmp_path):
    np.savez(tmp_path / "pets.npz", x=np.zeros(3))
    with pytest.raises(JaxddError, match=r"no class folders; .* \(it holds pets.npz: give the path of that file\)"):
        data.load(tmp_path)
    (tmp_path / "pets.npz").rename(tmp_path / "pictures.npy")
    with pytest.raises(JaxddError, match=r"\(it holds .npy files: a folder of arrays has x_train.npy and y_train.npy"):
        data.load(tmp_path)


def test_folders_that_lead_in_a_circle_end(tmp_path):
    (tmp_path / "round").mkdir()
    (tmp_path / "round" / "again").symlink_to(tmp_path / "round")
    with pytest.raises(JaxddError, match=r"(holds no PNG or JPEG file|single class)"):
        data.load(tmp_path / "round")


def test_pictures_that_are_left_out_are_one_warning(tmp_path, caplog):
    plain = both(put(tmp_path / "plain", *PLAIN)).source_hash
    more = (
        "cat/a{}.webp*5",
        "cat/b.bmp",
        "dog/c.TIF",
        "dog/d.gif",
        "dog/e.jfif",
        "0.png",
        "1.webp",
        "dog/more/deep/0.png",
        "dog/more/1.png",
    )
    root = put(tmp_path / "odd", *PLAIN, *more)
    (root / "cat" / "Thumbs.db").write_bytes(b"")
    (root / "labels.csv").write_text("no picture")
    assert data.load(root).source_hash == plain
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("jaxdd", logging.WARNING)
    assert record.getMessage() == (
        f"{root}: left out 1 .bmp file (cat/b.bmp), 1 .gif file (dog/d.gif), 1 .jfif file (dog/e.jfif), 1 .tif file "
        "(dog/c.TIF), 6 .webp files (1.webp, cat/a0.webp, cat/a1.webp, ...), 1 image beside the folders (0.png) and 2 "
        "images in a folder within a class (dog/more/1.png, dog/more/deep/0.png). Only PNG and JPEG files in the "
        "folder of a class itself are read: convert or move the others, rename .jfif and .jpe to .jpg."
    )


@pytest.mark.parametrize("save", [np.savez, "folder"])
def test_arrays_that_are_left_out_are_one_warning(save, tmp_path, caplog):
    arrays = {"x_train": PICTURES, "y_train": np.arange(64) % 2, "x_extra": PICTURES, "y_extra": np.arange(64) % 2}
    path = tmp_path / "pets.npz"
    if save == "folder":
        path.mkdir()
        for key, array in arrays.items():
            np.save(path / f"{key}.npy", array)
    else:
        save(path, **arrays)
    assert len(data.load(path).test)
    (record,) = caplog.records
    assert "left out 2 of its arrays (x_extra, y_extra), as only x_train, y_train, x_test" in record.getMessage()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_pictures_stand_upright(orientation, suffix, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for k in range(6):
        file = tmp_path / "odd" / str(k % 2) / f"{k}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        lying = PICTURES[k] if orientation < 5 else PICTURES[k].swapaxes(0, 1)
        Image.fromarray(lying).save(file, exif=exif)
    order = [0, 2, 4, 1, 3, 5]
    files = [tmp_path / "odd" / str(k % 2) / f"{k}.{suffix}" for k in order]
    upright = np.stack([np.asarray(ImageOps.exif_transpose(Image.open(file))) for file in files])
    assert upright.shape == (6, 4, 5, 3)
    expected = data.from_arrays(upright, np.repeat([0, 1], 3))
    assert both(tmp_path / "odd").source_hash == expected.source_hash


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_exif_behind_the_pixels_counts_and_damaged_exif_does_not(tmp_path):
    root = put(tmp_path / "odd", *PLAIN)
    plain = data.load(root).source_hash
    exif = Image.Exif()
    exif[0x0112] = 3
    file = root / "cat" / "0.png"
    content = file.read_bytes()
    file.write_bytes(content[:-12] + chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff\0\x07") + content[-12:])
    assert both(root).source_hash == plain
    file.write_bytes(content[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + content[-12:])
    turned = both(root).source_hash
    Image.fromarray(PICTURES[0][::-1, ::-1]).save(file)
    assert turned == data.load(root).source_hash != plain


def png(channels, depth):
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + bytes(5 * channels * depth // 8) for _ in range(4))
    header = struct.pack(">IIBBBBB", 5, 4, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pictures_of_sixteen_bits_are_refused_by_name(channels, tmp_path):
    root = put(tmp_path / "odd", *PLAIN)
    (root / "dog" / "z.png").write_bytes(png(channels, 8))
    data.load(root)
    (root / "dog" / "z.png").write_bytes(png(channels, 16))
    for stream in (False, True):
        with pytest.raises(JaxddError, match=r"dog/z.png has more than 8 bits a channel.*convert .* or give an \.npz"):
            data.load(root, stream=stream)


def stickers(mode):
    """One colour each, and the picture in the alpha channel."""
    shape = np.zeros((8, 4, 5, 2 if mode == "LA" else 4), np.uint8)
    shape[..., -1] = PICTURES[:8, ..., 0]
    return shape


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("stream", [False, True])
def test_pictures_in_the_alpha_channel_are_refused(mode, stream, tmp_path):
    root = put(tmp_path / "odd", "a/{}.png*4", "b/{}.png*4", pictures=stickers(mode))
    with pytest.raises(JaxddError, match=r"a/0.png has a single colour and its shape in the alpha channel.*background"):
        data.load(root, stream=stream)


def test_a_few_pictures_in_the_alpha_channel_are_a_warning(tmp_path, caplog):
    put(tmp_path / "odd", *PLAIN)
    put(tmp_path / "odd", "cat/x.png", pictures=stickers("RGBA"))
    assert len(both(tmp_path / "odd").train) and "single colour" in caplog.records[0].getMessage()


def test_names_that_are_not_utf8(tmp_path, monkeypatch):
    root = put(tmp_path / "odd", *PLAIN)
    with monkeypatch.context() as patched:
        patched.setattr(FileSource, "of", None)  # before any file is read
        bad = os.fsencode(root) + b"/caf\xe9"
        os.mkdir(bad)
        with pytest.raises(
            JaxddError, match=r"name of class folder .*caf\\udce9 is not valid UTF-8.*: rename it$"
        ) as error:
            data.load(root)
        str(error.value).encode()
        os.rmdir(bad)
    # The names of files are in no file or report; only what is said of them is escaped.
    os.rename(root / "cat" / "0.png", os.fsencode(root) + b"/cat/0\xe9.png")
    assert both(root).class_names == ("cat", "dog")
    (root / "cat" / "1.png").write_bytes(b"")
    os.rename(root / "cat" / "1.png", os.fsencode(root) + b"/cat/1\xe9.png")
    with pytest.raises(JaxddError, match=r"1\\udce9.png is not a readable") as error:
        data.load(root)
    str(error.value).encode()
    whole = os.fsencode(tmp_path) + b"/caf\xe9"
    os.rename(put(tmp_path / "fine", *PLAIN), whole)
    with pytest.raises(JaxddError, match=r"the name of the data is not valid UTF-8"):
        data.load(os.fsdecode(whole))


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"class_names": ["a", "b\udc80"]}, r"pets: the name 'b\\udc80' of class 1 is not valid UTF-8.*rename it"),
        ({"license": "\ud800"}, "pets: the licence is not valid UTF-8"),
    ],
)
def test_lone_surrogates_are_refused_in_arrays_too(facts, sentence, tmp_path):
    np.savez(tmp_path / "pets.npz", x=PICTURES, y=np.arange(64) % 2, **facts)
    with pytest.raises(JaxddError, match=sentence) as error:
        data.load(tmp_path / "pets.npz")
    str(error.value).encode()
