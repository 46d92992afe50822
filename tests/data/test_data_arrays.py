"""Arrays from outside: splits, hashes, and one clear sentence for everything that can be wrong with them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdd import data
from jaxdd._files import digest
from jaxdd.errors import JaxddError


def arrays(n=60, classes=3, shape=(4, 5, 1), dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (n, *shape)).astype(dtype)
    return (x / 255 if x.dtype.kind == "f" else x).astype(dtype), np.arange(n) % classes


def rows(split):
    return [image.tobytes() for image in split.images]


def test_a_fifth_is_for_testing_and_a_tenth_of_the_rest_for_validation_unless_it_is_told():
    dataset = data.from_arrays(*arrays(n=100, classes=2))
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [72, 8, 20]


def test_splits_partition_the_source_keep_its_order_and_are_stratified():
    x, y = arrays(n=100, classes=4)
    dataset = data.from_arrays(x, y, validation=0.2, test=0.2, seed=3)
    position = {image.tobytes(): i for i, image in enumerate(x)}
    assert len(position) == 100
    found = [[position[row] for row in rows(s)] for s in (dataset.train, dataset.validation, dataset.test)]
    assert sorted(row for part in found for row in part) == list(range(100))
    assert all(part == sorted(part) for part in found)
    for part, split in zip(found, (dataset.train, dataset.validation, dataset.test), strict=True):
        assert np.array_equal(split.labels, y[part])
    assert [np.bincount(s.labels).tolist() for s in (dataset.train, dataset.validation, dataset.test)] == [
        [16] * 4,
        [4] * 4,
        [5] * 4,
    ]


def test_the_cut_depends_on_the_seed_alone():
    x, y = arrays()
    first, again, other = (data.from_arrays(x, y, x, y, seed=seed) for seed in (1, 1, 2))
    assert rows(first.validation) == rows(again.validation) != rows(other.validation)
    assert rows(first.test) == rows(other.test) == [image.tobytes() for image in x]


@pytest.mark.parametrize("stream", [False, True])
def test_a_validation_split_that_is_given_leaves_training_whole(stream):
    x, y = arrays()
    given = {"x_validation": x[:6], "y_validation": y[:6], "stream": stream}
    dataset = data.from_arrays(x, y, x[6:12], y[6:12], validation=0.3, **given)
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [60, 6, 6]
    pieces = [(x, y), (x[6:12], y[6:12]), (x[:6], y[:6])]
    assert dataset.source_hash == digest(np.asarray(a, "u1" if a.ndim > 1 else "i4") for pair in pieces for a in pair)
    for fraction, count in ((0.3, 6), (0, 0)):
        cut = data.from_arrays(x, y, test=0.5, validation=fraction, **given)
        assert [len(part) for part in (cut.train, cut.validation, cut.test)] == [30, count, 30]
        np.testing.assert_allclose(cut.validation.pixels()[np.arange(count)], x[:count] / 255, rtol=1e-6)


def test_the_cut_is_the_same_on_every_machine():
    x = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1)
    dataset = data.from_arrays(x, np.arange(20) % 2, validation=0.2, test=0.2, seed=7)
    assert (dataset.test.images.ravel().tolist(), dataset.validation.images.ravel().tolist()) == (
        [1, 2, 11, 18],
        [8, 10, 13, 17],
    )


def test_validation_may_be_empty():
    x, y = arrays()
    dataset = data.from_arrays(x, y, x, y, validation=0)
    assert len(dataset.validation) == 0 and dataset.validation.images.shape == (0, 4, 5, 1)
    assert len(dataset.train) == 60
    with pytest.raises(JaxddError, match="the split is empty"):
        data.real_data(dataset.validation, data.Identity(), 3)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=6).filter(lambda c: max(c) > 2),
    validation=st.floats(0, 0.99),
    test=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**40),
)
def test_every_class_keeps_a_training_example(counts, validation, test, seed):
    y = np.repeat(np.arange(len(counts)), counts)
    x = np.arange(len(y), dtype=np.float32).reshape(-1, 1, 1, 1)
    try:
        dataset = data.from_arrays(x, y, validation=validation, test=test, seed=seed)
    except JaxddError as error:
        assert "no validation split can be cut" in str(error)  # testing took all but one of every class
        return
    assert set(dataset.train.labels) == set(range(len(counts)))
    assert (len(dataset.validation) > 0) == (validation > 0) and len(dataset.test) > 0
    parts = [s.images.ravel().tolist() for s in (dataset.train, dataset.validation, dataset.test)]
    assert sorted(value for part in parts for value in part) == x.ravel().tolist()


def test_pixel_space_and_pixel_range():
    x, y = arrays()
    uint8 = data.from_arrays(x, y)
    pixels = uint8.train.pixels()
    assert pixels.dtype == np.float32 and pixels.min() >= 0 and pixels.max() <= 1
    np.testing.assert_array_equal(np.rint(pixels * 255).astype(np.uint8), uint8.train.images)
    assert uint8.pixel_range == (0.0, 1.0)
    assert data.from_arrays(x / 255, y).pixel_range == (0.0, 1.0)
    wide = data.from_arrays(np.where(x == x.max(), 3.0, -2.0), y)
    assert wide.pixel_range == (-2.0, 3.0)
    assert wide.train.pixels() is wide.train.images and wide.train.images.dtype == np.float32


def test_shape_and_dtype_are_brought_to_one_form():
    x, y = arrays()
    dataset = data.from_arrays(x[..., 0], y.tolist())
    assert dataset.image_shape == (4, 5, 1) and dataset.num_classes == 3 and dataset.class_names == ("0", "1", "2")
    assert dataset.train.labels.dtype == np.int32
    assert data.from_arrays(x.astype(np.int64), y).train.images.dtype == np.uint8
    assert data.from_arrays((x / 255).astype(np.float16), y).train.images.dtype == np.float32
    assert data.from_arrays(x, y[:, None].astype(np.uint8)).source_hash == dataset.source_hash  # Keras, MedMNIST


def test_the_hash_is_of_the_source_not_of_the_cut():
    x, y = arrays()
    base = data.from_arrays(x, y, x, y).source_hash
    assert base == data.from_arrays(x[..., 0], y.astype(np.uint8), x, y, validation=0.5, seed=9).source_hash
    assert len(base) == 64
    assert base == digest([x, y.astype("int32")] * 2)
    changed = x.copy()
    changed[-1, -1, -1, 0] ^= 1
    others = [
        data.from_arrays(changed, y, x, y),
        data.from_arrays(x, y, changed, y),
        data.from_arrays(x, np.roll(y, 1), x, y),
        data.from_arrays(x, y),
        data.from_arrays(x.reshape(60, 5, 4, 1), y, x.reshape(60, 5, 4, 1), y),
        data.from_arrays(x / 255, y, x / 255, y),
    ]
    assert len({base, *(d.source_hash for d in others)}) == 7
    assert data.from_arrays(x, y, seed=1).source_hash == data.from_arrays(x, y, seed=2, test=0.5).source_hash


def test_real_data_is_transformed_and_indexed():
    x, y = arrays()
    split = data.from_arrays(x, y, x, y, validation=0).train
    transform = data.fit_transform("standardize", split.pixels())
    real = data.real_data(split, transform, 3)
    np.testing.assert_array_equal(real.images, transform.apply(split.pixels()))
    assert real.labels.counts == (20, 20, 20) and real.images.dtype == np.float32


def put(key, value):
    return lambda a: a.update({key: value(a[key] if a[key] is not None else a[key[0]]) if callable(value) else value})


def spoil(*places):
    def change(a):
        for index, value in places:
            a["x"][index] = value

    return change


def put_validation(change):
    def put(a):
        a["x_validation"], a["y_validation"] = change(a["x"], a["y"])

    return put


BAD = [
    (put("x", lambda x: x.reshape(60, -1)), r"x_train must have shape \(n, height, width, channels\).*got \(60, 20\)"),
    (put("x", lambda x: x[None]), r"x_train must have shape .* got \(1, 60, 4, 5, 1\)"),
    (put("x", lambda x: x[:50]), "x_train has 50 images but y_train has 60 labels"),
    (put("y_test", lambda y: y[:-1]), "x_test has 60 images but y_test has 59 labels"),
    (put("x_test", lambda x: x[:, :3]), r"training images have shape \(4, 5, 1\) but test images \(3, 5, 1\)"),
    (put("x_test", lambda x: (x * 255).astype(np.uint8)), "training images are float32 but test images uint8"),
    (put("x", lambda x: x[:0]), r"x_train holds no images: its shape is \(0, 4, 5, 1\)"),
    (put("x", lambda x: x[:, :0]), "x_train holds no images"),
    (put("x_test", lambda x: x[:0]), "x_test holds no images"),
    (put("y", lambda y: y[:0]), "y_train holds no labels"),
    (put("y", lambda y: y.astype(float)), r"integers, got float64; they are whole numbers, so cast them: y.astype"),
    (put("y", lambda y: y + 0.5), r"y_train must be integers, got float64$"),
    (put("y", lambda y: np.where(y == 0, np.nan, y)), r"y_train must be integers, got float64$"),
    (put("y", lambda y: [str(k) for k in y]), "y_train must be integers, got <U1"),
    (put("y", lambda y: y == 1), "y_train must be integers, got bool"),
    (put("y", lambda y: np.eye(3, dtype=int)[y]), r"y_train must be a vector .* got shape \(60, 3\); .*argmax"),
    (put("y", lambda y: y[:, None] * 1.0), r"got shape \(60, 1\); use y.ravel"),
    (put("y", lambda y: np.stack([y > 0, y > 1], 1) * 1), r"got shape \(60, 2\); .*tasks with several labels an image"),
    (put("y_validation", lambda y: y), "give both x_validation and y_validation, or neither"),
    (put("x_validation", lambda x: x), "give both x_validation and y_validation, or neither"),
    (
        put_validation(lambda x, y: (x[:, :3], y)),
        r"training images have shape \(4, 5, 1\) but validation images \(3, 5, 1\)",
    ),
    (
        put_validation(lambda x, y: (x * 255, y)),
        "training pixels lie in .* but validation pixels in .*; scale both alike",
    ),
    (put_validation(lambda x, y: (x, y + 1)), "class 3 has no training example"),
    (put_validation(lambda x, y: (x, y[1:])), "x_validation has 60 images but y_validation has 59 labels"),
    (put("y", 3), r"y_train must be a vector .* got shape \(\)$"),
    (put("y", lambda y: y - 1), r"y_train must be in 0..classes-1, but label 0 is -1"),
    (put("y", lambda y: y + 1), "class 0 has no training example.* 1 of 4 are absent"),
    (put("y", lambda y: y * 2), "class 1 has no training example.* 2 of 5 are absent"),
    (put("y", lambda y: np.where(y == 2, 2**31 - 1, y)), "class 2 has no training example"),
    (put("y", lambda y: np.where(y == 2, 2**40, y)), "has the label 1099511627776, which is out of range"),
    (put("y_test", lambda y: y + 1), "class 3 has no training example"),
    (lambda a: a.update({k: a[k] * 0 for k in ("y", "y_test")}), "all labels are 0, .* needs at least 2 classes"),
    (
        lambda a: a.update({k: a[k] * 0 for k in ("y", "y_test")} | {"class_names": ["a"]}),
        "a data set needs at least 2 classes",
    ),
    (put("class_names", ["a", "b"]), "label 2 is out of range for 2 class names"),
    (put("class_names", list("abcd")), "class 3 has no training example"),
    (spoil((7, np.nan)), "x_train has 20 NaN or infinite pixels in 1 of 60 images, first in image 7"),
    (spoil(((9, 0, 0, 0), np.inf)), "x_train has 1 NaN or infinite pixel in 1 of 60 images, first in image 9"),
    (spoil(((9, 0), -np.inf), ((5, 1, 1), np.nan)), "has 6 NaN or infinite pixels in 2 of 60 images, first in image 5"),
    (put("x", lambda x: np.where(x > 0.5, 1e300, 0.0)), "NaN or infinite"),
    (put("x", lambda x: x.astype(object)), "x_train holds Python objects, not numbers"),
    (put("y", lambda y: np.array([*y[:-1], None])), "y_train holds Python objects, not numbers"),
    (put("x", lambda x: [[1, 2], [3]]), "x_train is not an array"),
    (put("x", lambda x: x > 0.5), "x_train must be uint8 or float, got bool"),
    (put("x", lambda x: x + 1j), "x_train must be uint8 or float, got complex"),
    (put("x", lambda x: (x * 1000).astype(int)), "int64 pixels from 0 to 1000; integers must lie in 0..255"),
    (put("x", lambda x: (x * 255).astype(int) - 3), "pixels from -3 to .*; integers must lie in 0..255"),
    (put("x", np.zeros((60, 3, 8, 8))), "looks channels-first.*moveaxis"),
    (put("x_test", None), "give both x_test and y_test, or neither"),
    (put("y_test", None), "give both x_test and y_test, or neither"),
    (put("validation", 1.0), r"validation must be a fraction in \[0, 1\), got 1.0"),
    (put("validation", -0.1), r"validation must be a fraction in \[0, 1\), got -0.1"),
    (put("validation", float("nan")), "validation must be a fraction"),
    (put("validation", "0.1"), "validation must be a fraction"),
    (put("seed", -1), "seed must be an integer of at least 0, got -1"),
    (put("seed", 0.5), "seed must be an integer"),
    (lambda a: a.update(x_test=None, y_test=None, test=0), r"test must be a fraction in \(0, 1\), got 0"),
    (lambda a: a.update({k: a[k][:3] for k in ("x", "y")}), "no validation split can be cut, because every class has"),
]


@pytest.mark.parametrize(("change", "sentence"), BAD, ids=[sentence[:40] for _, sentence in BAD])
def test_bad_arrays_get_one_clear_sentence(change, sentence):
    x, y = arrays(dtype=np.float32)
    arguments = {"x": x, "y": y, "x_test": x.copy(), "y_test": y.copy(), "class_names": None, "validation": 0.1}
    arguments |= {"x_validation": None, "y_validation": None}
    data.from_arrays(**arguments)  # as it stands it is good
    change(arguments)
    with pytest.raises(JaxddError, match=sentence) as error:
        data.from_arrays(**arguments)
    assert "\n" not in str(error.value)


def test_a_data_set_is_shown_by_its_shapes():
    """As a notebook shows what its last line gives."""
    text = repr(data.load("mnist_5k"))
    assert "train=Split(images=uint8[3600, 28, 28, 1], labels=int32[3600])" in text and len(text) < 700
