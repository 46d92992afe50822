"""Small sets made of real images: what a method would have learned does not matter to a picture."""

import numpy as np
import pytest

from jaxdd import data
from jaxdd.synthetic import DistilledDataset
from jaxdd.types import Distilled

KERNEL = (("depth", 1), ("name", "ntk"), ("ridge", 1e-6))


@pytest.fixture(scope="session")
def mnist():
    return data.load("mnist_5k")


@pytest.fixture
def make(mnist):
    """`make(ipc, channels=1, soft=True, noise=0.0, **header)`: real digits, class after class."""

    def make(ipc=2, *, channels=1, soft=True, noise=0.0, seed=0, **header):
        transform = data.fit_transform("standardize", mnist.train.pixels()[:500].repeat(channels, axis=3))
        chosen = np.concatenate([np.flatnonzero(mnist.train.labels == k)[:ipc] for k in range(10)])
        images = mnist.train.pixels()[chosen].repeat(channels, axis=3)
        images = images + noise * np.random.default_rng(seed).normal(size=images.shape).astype(np.float32)
        labels = mnist.train.labels[chosen]
        distilled = Distilled(
            images=transform.apply(images),
            labels=np.eye(10, dtype=np.float32)[labels] - np.float32(0.1) if soft else labels,
            label_convention="centred" if soft else "hard",
            label_regime="learned" if soft else "hard",
            num_bits=32 * images.size,
            kernel=KERNEL if soft else None,
        )
        return DistilledDataset.create(distilled, transform, header)

    return make


@pytest.fixture
def provenance(mnist):
    """A full header."""
    return {
        "method": "kip",
        "config": {"data": {"name": "mnist_5k"}, "method": {"ipc": 2, "decay_steps": None}},
        "seed": 7,
        "data": {
            "name": mnist.name,
            "source_hash": mnist.source_hash,
            "class_names": list(mnist.class_names),
            "license": mnist.license,
            "num_classes": 10,
            "pixel_range": [0.0, 1.0],
            "validation": 0.1,
            "split_seed": 3,
        },
        "protocol": "quick",
        "jaxdd_version": "0.1.0",
    }
