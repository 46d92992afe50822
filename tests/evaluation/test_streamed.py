"""Evaluation on data that stay on the host: the numbers of the same data in memory, and what is left out."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jaxdd import data, evaluation, models
from jaxdd.errors import JaxddError
from jaxdd.evaluation import arrays
from jaxdd.evaluation.baselines import coreset, full_data_reference, teach
from jaxdd.training import Protocol
from jaxdd.types import Distilled

PROTOCOL = Protocol("short", "for these tests", (0.003, 0.01), steps=10, selection_networks=1)


@pytest.fixture(scope="module")
def both():
    """Train, validation and test of small real digits, in memory and streamed."""
    source = data.load("mnist_5k")
    x, y = source.train.images[::3, ::2, ::2], source.train.labels[::3]
    found = []
    for stream in (False, True):
        dataset = data.from_arrays(x, y, validation=0.3, test=0.5, stream=stream)
        transform = data.fit_transform("standardize", dataset.train.pixels())
        splits = (dataset.train, dataset.validation, dataset.test)
        found.append([data.real_data(split, transform, 10) for split in splits])
    return found


def test_blocks_and_every_other_example_are_those_in_memory(both, monkeypatch):
    monkeypatch.setattr(arrays, "BLOCK", 100)
    for whole, streamed in zip(*both, strict=True):
        for stride in (1, 7):
            pairs = [list(arrays.blocks(arrays.every(stride, real.examples))) for real in (whole, streamed)]
            for (images, labels), (others, other_labels) in zip(*pairs, strict=True):
                np.testing.assert_allclose(others, images, atol=1e-6)
                np.testing.assert_array_equal(other_labels, labels)


@pytest.mark.endurance
@pytest.mark.parametrize("regime", ["hard", "learned"])
def test_a_comparison_on_streamed_data_is_that_in_memory_without_what_needs_all_images(both, regime):
    network = models.build("mlp(width=16, depth=1)", (14, 14, 1), 10)
    train = both[0][0]
    images = train.images[data.balanced_choice(jax.random.key(0), train.labels, 1)]
    labels = np.arange(10) if regime == "hard" else np.eye(10, dtype=np.float32)
    convention = "hard" if regime == "hard" else "probability"
    distilled = Distilled(images=images, labels=labels, label_regime=regime, label_convention=convention)

    def compared(train, validation, test):
        rows = evaluation.compare(
            network,
            distilled,
            train,
            validation.examples,
            test.examples,
            PROTOCOL,
            key=jax.random.key(1),
            num_networks=1,
        )
        return {row.name: row.score.mean if row.score else row.note for row in rows}

    streamed = compared(*both[1])
    absent = "herding" if regime == "hard" else "random real, a teacher's labels"
    note = "not measured: needs all real images in memory, and the data are streamed"
    assert streamed.pop(absent) == note
    if regime == "hard":
        whole = compared(*both[0])
        assert whole.pop(absent) != note
        assert streamed == pytest.approx(whole, abs=0.01) and set(streamed) == set(whole)
    else:
        assert set(streamed) == {"distilled", "random real, hard labels"}


def test_what_takes_all_images_at_once_refuses_them(both):
    network, (train, _, test) = models.build("mlp", (14, 14, 1), 10), both[1]
    for call in (
        lambda: coreset("herding", train, 1, like=Distilled(images=np.zeros((10, 14, 14, 1)), labels=np.arange(10))),
        lambda: teach(network, train, key=jax.random.key(0)),
        lambda: full_data_reference(network, train, test.examples, identity={}),
    ):
        with pytest.raises(JaxddError, match="need all real images in memory; load the data without streaming"):
            call()
