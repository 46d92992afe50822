"""Which classes are taken for which."""

import json

import numpy as np
import pytest

from jaxdd.evaluation import Confusion, confusion


def counted(labels, predicted, classes):
    """Image by image."""
    matrix = np.zeros((classes, classes), int)
    for row in predicted:
        for true, found in zip(labels, row, strict=True):
            matrix[true, found] += 1
    return matrix


@pytest.fixture
def several(rng):
    """Three networks that are right now and then, of four classes of which one has no test images."""
    labels = rng.choice([0, 1, 3], 50)
    predicted = np.where(rng.uniform(size=(3, 50)) < 0.6, labels, rng.integers(0, 4, (3, 50)))
    return labels, predicted


def test_counts_are_those_of_every_image_and_network(several):
    labels, predicted = several
    found = Confusion.of(labels, predicted, 4)
    matrix = counted(labels, predicted, 4)
    np.testing.assert_array_equal(found.matrix, matrix)
    np.testing.assert_array_equal(found.test_images, np.bincount(labels, minlength=4))
    right = np.diag(matrix)[[0, 1, 3]] / matrix.sum(1)[[0, 1, 3]]
    np.testing.assert_allclose(found.accuracy, [*right[:2], np.nan, right[2]])
    # Images weigh alike: classes by their numbers give the accuracy of all.
    seen = found.test_images > 0
    overall = np.average(found.accuracy[seen], weights=found.test_images[seen])
    assert overall == pytest.approx((predicted == labels).mean())


def test_as_json(several):
    found = Confusion.of(*several, 4)
    said = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert said == {"accuracy": [*found.accuracy[:2], None, found.accuracy[3]], "confusion": found.matrix.tolist()}


def test_of_very_many_classes_the_commonest_confusions_are_told(rng, monkeypatch):
    monkeypatch.setattr(confusion, "MATRIX_CLASSES", 5)
    labels = np.repeat(np.arange(6), 20)
    predicted = np.where(rng.uniform(size=(2, 120)) < 0.5, labels, (labels + rng.integers(1, 3, (2, 120))) % 6)
    said = Confusion.of(labels, predicted, 6).as_dict()
    matrix = counted(labels, predicted, 6)
    assert "confusion" not in said and len(said["accuracy"]) == 6 and len(said["confused"]) == 5
    for true, taken, share in said["confused"]:  # of 20 images by each of two networks
        assert true != taken and matrix[true, taken] / 40 == share
    np.fill_diagonal(matrix, 0)
    assert [40 * share for *_, share in said["confused"]] == sorted(matrix.ravel().tolist(), reverse=True)[:5]


def test_a_class_that_nobody_named_is_counted():
    """Hard labels of a set and of its test data may both lack the last class, which a network has all the same."""
    found = Confusion.of([0, 1], [[0, 4]], 2)
    assert found.matrix.shape == (5, 5) and found.matrix[1, 4] == 1
