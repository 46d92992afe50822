"""Herding: the greedy choice, by its definition."""

import jax
import numpy as np
import pytest

from jaxdd import data
from jaxdd.data import herding
from jaxdd.errors import JaxddError
from jaxdd.types import Labels


def test_each_choice_is_the_best_one_left(rng):
    labels = Labels.index(rng.permutation(np.repeat([0, 1, 2], [9, 7, 5])))
    features = rng.normal(size=(21, 2, 3)).astype(np.float32)
    chosen = herding(features, labels, 4).reshape(3, 4)
    for c in range(3):
        members = np.flatnonzero(np.asarray(labels.values) == c)
        mean = features[members].mean(0)
        for k in range(4):
            left = [i for i in members if i not in chosen[c, :k]]
            distances = [np.linalg.norm(mean - features[[*chosen[c, :k], i]].mean(0)) for i in left]
            assert chosen[c, k] == left[int(np.argmin(distances))]


def test_the_means_of_herded_digits_are_nearer_than_those_of_random_ones():
    dataset = data.load("mnist_5k")
    real = data.real_data(dataset.train, data.fit_transform("standardize", dataset.train.pixels()), 10)
    images, values = np.asarray(real.images), np.asarray(real.labels.values)
    chosen = herding(images, real.labels, 10)
    assert len(set(chosen.tolist())) == 100

    def error(chosen):
        picked = images[chosen].reshape(10, 10, *images.shape[1:])
        return np.mean([np.linalg.norm(images[values == c].mean(0) - picked[c].mean(0)) for c in range(10)])

    random = np.asarray(data.balanced_choice(jax.random.key(0), real.labels, 10))
    assert error(chosen) < 0.6 * error(random)


@pytest.mark.parametrize("per_class", [0, 6])
def test_more_than_a_class_has_or_none_is_one_sentence(per_class, rng):
    labels = Labels.index(np.repeat([0, 1], [5, 8]))
    with pytest.raises(JaxddError, match="between 1 and 5 examples"):
        herding(rng.normal(size=(13, 2)), labels, per_class)
