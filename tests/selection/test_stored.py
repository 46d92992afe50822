"""Selections as files."""

import numpy as np
import pytest

from jaxdd import data
from jaxdd.errors import JaxddError
from jaxdd.selection import Selection
from jaxdd.synthetic import DistilledDataset


@pytest.fixture(scope="module")
def dataset(mnist):
    return mnist.dataset


def of(dataset, rows, **fields):
    facts = {"name": "mnist_5k", "source_hash": dataset.source_hash}
    rows = np.asarray(rows, np.int32)
    return Selection(rows, np.ones(len(rows), np.float32), {"data": facts, "seed": 0}, **fields)


def test_a_file_is_read_as_it_was_written_and_equal_ones_are_equal_bytes(dataset, tmp_path):
    scored = {"scores": np.float32([0.5, 2, 1]), "scored": np.int32([4, 1, 7])}
    ours = of(dataset, [4, 1], **scored)
    ours.write(tmp_path / "one.safetensors")
    read = Selection.read(tmp_path / "one.safetensors")
    for name in ("rows", "weights", "scores", "scored"):
        np.testing.assert_array_equal(getattr(read, name), getattr(ours, name))
    assert read.content == ours.content != of(dataset, [1, 4]).content
    assert read.to_bytes() == ours.to_bytes()
    assert not read.weighted and repr(read) == "Selection(2 of mnist_5k)"


def test_another_bit_is_seen_and_other_files_are_named(dataset, tmp_path):
    path = tmp_path / "one.safetensors"
    content = bytearray(of(dataset, [4, 1]).to_bytes())
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(JaxddError, match="damaged"):
        Selection.read(path)
    path.write_bytes(content[:40])
    with pytest.raises(JaxddError, match="is not a selection"):
        Selection.read(path)
    transform = data.fit_transform("none", dataset.train.pixels()[:2])
    header = {"label_convention": "hard", "label_regime": "hard", "kernel": None, "iterate": "last", "num_bits": 0}
    a_set = DistilledDataset(
        np.zeros((1, 2, 2, 1), np.float32),
        np.zeros(1, np.int32),
        transform,
        {**header, "decoder": "pixels", "data": {}},
    )
    a_set.write(path)
    with pytest.raises(JaxddError, match="is not a selection"):
        Selection.read(path)
    of(dataset, [4]).write(path)
    with pytest.raises(JaxddError, match="not a whole distilled set"):
        DistilledDataset.read(path)


@pytest.mark.parametrize(
    ("rows", "weights", "sentence"),
    [
        ([], [], "its rows are"),
        ([1, 1], [1, 1], "there twice"),
        ([-1], [1], "negative"),
        ([1], [1, 1], "one finite weight"),
        ([1], [np.nan], "one finite weight"),
        ([1], [-1], "one finite weight"),
    ],
)
def test_what_is_no_selection(rows, weights, sentence):
    with pytest.raises(JaxddError, match=sentence):
        Selection(np.array(rows, np.int32), np.array(weights, np.float32), {"data": {}})


def test_rows_are_those_of_the_source_whatever_was_cut_from_it(dataset):
    numbers = dataset.train.numbers
    assert len(np.intersect1d(numbers, dataset.test.numbers)) == 0
    whole = data.load("mnist_5k", validation=0.0)
    chosen = of(dataset, numbers[[7, 3, 2000]])
    for one in (dataset, whole):
        places = chosen.places(one)
        np.testing.assert_array_equal(one.train.images[places], dataset.train.images[[7, 3, 2000]])
    held_out = of(dataset, [dataset.validation.numbers[0], numbers[3]])
    np.testing.assert_array_equal(held_out.places(dataset), [3])  # what is held out here is left out
    with pytest.raises(JaxddError, match="held out"):
        of(dataset, dataset.test.numbers[:2]).places(dataset)


def test_kept_data_are_those_examples_alone_in_the_order_of_the_data(dataset):
    numbers = dataset.train.numbers[::-5]
    kept = of(dataset, numbers).kept(dataset)
    np.testing.assert_array_equal(kept.train.numbers, np.sort(numbers))
    np.testing.assert_array_equal(kept.train.images, dataset.train.images[np.sort(places_of(dataset, numbers))])
    assert kept.test is dataset.test and kept.source_hash == dataset.source_hash
    zeros = dataset.train.numbers[dataset.train.labels == 0]
    with pytest.raises(JaxddError, match="no example of class 1"):
        of(dataset, zeros).kept(dataset)
    with pytest.raises(JaxddError, match="hashes differ"):
        Selection(np.arange(3), np.ones(3), {"data": {"name": "x", "source_hash": "0"}}).kept(dataset)


def places_of(dataset, numbers):
    return np.flatnonzero(np.isin(dataset.train.numbers, numbers))
