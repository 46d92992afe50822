"""Herding of real digits: the means it is for."""

import jax
import numpy as np

from jaxdd import data
from jaxdd.selection import by_class, choose, pixels


def test_the_means_of_herded_digits_are_nearer_than_those_of_random_ones(key):
    dataset = data.load("mnist_5k")
    real = data.real_data(dataset.train, data.fit_transform("standardize", dataset.train.pixels()), 10)
    images, values = np.asarray(real.images), np.asarray(real.labels.values)
    chosen = np.asarray(by_class(choose.herding)(key, pixels(real), real.labels, 10).rows)
    assert len(set(chosen.tolist())) == 100

    def error(chosen):
        picked = images[chosen].reshape(10, 10, *images.shape[1:])
        return np.mean([np.linalg.norm(images[values == c].mean(0) - picked[c].mean(0)) for c in range(10)])

    random = np.asarray(data.balanced_choice(jax.random.key(0), real.labels, 10))
    assert error(chosen) < 0.6 * error(random)
