"""What is likely to be meant otherwise than it is taken: refused, or warned of."""

from __future__ import annotations

import numpy as np
import pytest

from jaxdd import data
from jaxdd.data import transforms
from jaxdd.errors import JaxddError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (40, 8, 8, 1), np.uint8)
Y = np.arange(40) % 2
UNIT = (X / 255).astype(np.float32)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (UNIT, X.astype(np.float32)),
        (UNIT * 2 - 1, X.astype(np.float64)),
        (X.astype(np.float32), UNIT),
        (X, X // 200),
        (X // 200, X.astype(np.int64)),
    ],
    ids=["unit, bytes", "centred, bytes", "bytes, unit", "bytes, bits", "bits, bytes"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_splits_of_different_scales_are_refused(train, test, stream):
    with pytest.raises(JaxddError, match=r"training pixels lie in \[.*\] but test pixels in \[.*\]; scale both alike"):
        data.from_arrays(train, Y, test, Y, stream=stream)


@pytest.mark.parametrize(
    ("train", "test", "sentence"),
    [
        (
            (X > 9).astype(np.int64),
            None,
            "whole numbers from 0 to 1, .* nearly black: scale them to 0..255, or give floats",
        ),
        (X // 16, X // 16, "whole numbers from 0 to 15,"),
        (UNIT, UNIT * 2 - 1, r"training pixels lie in \[0, 1\] but test pixels in \[-1, 1\]: are both scaled alike"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_may_be_meant_is_a_warning(train, test, sentence, stream, caplog):
    data.from_arrays(train, Y, test, None if test is None else Y, stream=stream)
    (record,) = caplog.records
    caplog.clear()
    assert record.name == "jaxdd"
    with pytest.raises(JaxddError, match=sentence):
        raise JaxddError(record.getMessage())


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (X, X // 2),
        (UNIT, UNIT / 4),
        ((X > 9).astype(np.float32), None),
        (UNIT * 4 - 2, UNIT * 4 - 1.9),
        (np.where(np.arange(64).reshape(8, 8, 1) * Y[:, None, None, None] == 63, 100 * UNIT, UNIT), UNIT),
        (X, X * 0),
        (X * 0, None),
    ],
    ids=["darker", "darker floats", "binary floats", "standardised", "outliers", "black test", "black"],
)
def test_what_is_plausible_is_left_alone(train, test, caplog):
    data.from_arrays(train, Y, test, None if test is None else Y)
    assert not caplog.records


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_channels_first_whatever_their_number(channels):
    with pytest.raises(JaxddError, match=r"looks channels-first; .*numpy.moveaxis\(x, 1, -1\)"):
        data.from_arrays(np.zeros((40, channels, 8, 8), np.uint8), Y)
    data.from_arrays(np.moveaxis(np.zeros((40, channels, 8, 8), np.uint8), 1, -1), Y)


def test_the_two_pairs_of_keras_are_taken(tmp_path, monkeypatch):
    expected = data.from_arrays(X, Y, X[:9], Y[:9]).source_hash
    pairs = (X[..., 0], Y), (X[:9, ..., 0], Y[:9])
    assert data.from_arrays(*pairs).source_hash == expected
    (tmp_path / "kerasdata.py").write_text(
        "import numpy as np\n"
        "x, y = np.zeros((12, 6, 6), np.uint8), np.arange(12) % 2\n"
        "def pairs(): return (x, y), (x[:4], y[:4])\n"
        "def columns(): return (x, y[:, None]), (x[:4], y[:4, None])\n"
        "def three(): return (x, y), (x, y), (x, y)\n"
        "def one(): return [x, y]\n"
    )
    monkeypatch.chdir(tmp_path)
    for name in ("pairs", "columns"):
        assert len(data.load(f"kerasdata:{name}").test) == 4
    for name, sentence in (
        ("three", r"must return \(x, y\), .*, \(\(x, y\), \(x_test, y_test\)\) or a dict of arrays, got tuple of 3"),
        ("one", "got list of 2"),
    ):
        with pytest.raises(JaxddError, match=sentence):
            data.load(f"kerasdata:{name}")
    with pytest.raises(JaxddError, match="x is a pair, of images and labels; give x, y, x_test, y_test"):
        data.from_arrays(pairs[0], None)
    # Two images, and two labels, are no pairs.
    with pytest.raises(JaxddError, match="every class has a single example"):
        data.from_arrays([X[0], X[1]], [0, 1])


@pytest.mark.parametrize(("name", "near"), [("MNIST", "mnist"), ("Mnist_5K", "mnist_5k"), ("Pets", "PETS")])
def test_names_in_another_case(name, near, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDD_DATA_DIR", str(tmp_path))
    (tmp_path / "PETS.npz").write_bytes(b"")
    with pytest.raises(JaxddError, match=f"unknown data set '{name}'; did you mean '{near}'?"):
        data.load(name)


@pytest.mark.parametrize("spec", ["zca", "published+zca"])
def test_whitening_that_does_not_fit_names_its_matrix(spec, monkeypatch):
    monkeypatch.setattr(transforms, "free_memory", lambda: 2**34)
    monkeypatch.setattr(transforms, "blocks", None)  # before any image is read
    with pytest.raises(JaxddError) as error:
        data.fit_transform(spec, np.zeros((2, 224, 224, 3), np.uint8), name="cifar10")
    assert str(error.value) == (
        "zca cannot whiten images of 224x224x3: its matrix of 150528 x 150528 needs 675.3 GiB of memory while it is "
        "fitted, and 16.0 GiB are free; streaming does not help, smaller images or the transform 'standardize' do"
    )


def test_whitening_for_which_memory_ends_names_its_matrix(monkeypatch):
    def full(*arguments):
        raise MemoryError

    monkeypatch.setattr(np.linalg, "eigh", full)
    with pytest.raises(
        JaxddError, match=r"its matrix of 64 x 64 needs 0.1 MiB of memory while it is fitted; streaming"
    ):
        data.fit_transform("zca", UNIT)
