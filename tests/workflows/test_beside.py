"""What a report shows beside a set: real images of its classes, and what its images were on the way."""

import dataclasses

import numpy as np
import pytest
import safetensors.numpy

from jaxdd import data, workflows
from jaxdd.synthetic import DistilledDataset
from jaxdd.types import Distilled
from jaxdd.workflows import beside


@pytest.fixture
def real(config):
    return workflows.Real.of_config(workflows.complete(config("dm"))["data"])


def test_real_images_are_a_few_of_each_class_and_always_the_same(real, monkeypatch):
    found, again = beside.real_images(real), beside.real_images(real)
    np.testing.assert_array_equal(found.labels, np.repeat(np.arange(10), 3))
    np.testing.assert_array_equal(found.images, again.images)
    pixels, labels = real.dataset.train.pixels(), real.dataset.train.labels
    for image, label in zip(found.images, found.labels, strict=True):
        rows = np.flatnonzero((pixels == image).all((1, 2, 3)))
        assert label in labels[rows]
    monkeypatch.setattr(beside, "_REAL_IN_ALL", 8)  # of very many classes
    np.testing.assert_array_equal(beside.real_images(real).labels, np.arange(8))


def test_real_images_that_are_streamed_are_read(real):
    split = real.dataset.train
    streamed = data.from_arrays(split.images, split.labels, split.images, split.labels, validation=0.0, stream=True)
    found = beside.real_images(dataclasses.replace(real, dataset=streamed))
    np.testing.assert_allclose(found.images, beside.real_images(real).images, atol=1e-6)


def test_a_run_keeps_what_its_images_were_in_pixels(config, tmp_path):
    run = config(run={"steps": 12}, data={"transform": "standardize"})
    outcome = workflows.distill(run, tmp_path, evaluate="none")
    last = DistilledDataset.read(outcome.path).images
    kept = safetensors.numpy.load_file(tmp_path / "snapshots.safetensors")
    assert set(kept) == {"0", "10", "12"} and {taken.shape for taken in kept.values()} == {(5, 14, 14, 1)}
    np.testing.assert_allclose(kept["12"], last[[0, 2, 4, 7, 9]], atol=1e-5)
    assert "7 at step 10" in (tmp_path / "report.html").read_text()


def test_growth_names_classes_where_the_places_are_known(real):
    transform = real.transform
    dataset = DistilledDataset.create(Distilled(real.train.images[:10], np.arange(10)), transform, {"data": {}})
    taken = beside.snapshot(real)
    last = taken(dataset.distilled())
    grown = beside.growth(dataset, {0: 0 * last, 10: last})
    assert grown.steps == (0, 10) and grown.names == ("0", "2", "4", "7", "9")
    other = dataclasses.replace(dataset, images=dataset.images[::-1].copy())
    assert beside.growth(other, {0: 0 * last, 10: last}).names is None
    assert beside.growth(dataset, {0: last}) is beside.growth(dataset, {}) is None


def test_parts_that_are_no_images_show_nothing(real):
    taken = beside.snapshot(real)
    for product in (np.zeros(3), {"any": 1}, np.zeros((2, 3, 3, 1))):
        assert taken(product).shape == (0, 14, 14, 1)
    dataset = DistilledDataset.create(Distilled(real.train.images[:10], np.arange(10)), real.transform, {"data": {}})
    assert beside.growth(dataset, {0: taken(np.zeros(3)), 10: taken(np.zeros(3))}) is None


def test_large_images_are_fewer():
    assert len(beside._spaced((100, 64, 64, 3))) == 5
    assert beside._spaced((100, 224, 224, 3)).tolist() == [0]
    assert beside._spaced((2, 8, 8, 1)).tolist() == [0, 1]
