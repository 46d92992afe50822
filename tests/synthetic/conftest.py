import jax
import numpy as np
import pytest

from jaxdd.types import Labels, RealData


@pytest.fixture(scope="session")
def real():
    """30 images of 4x5 pixels and 2 channels, 10 of each of 3 classes."""
    return RealData.of(jax.random.normal(jax.random.key(1), (30, 4, 5, 2)), Labels.index(np.arange(30) % 3))


@pytest.fixture(scope="session")
def uneven():
    """Of 3 classes with 7, 5 and 12 images."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(3), (7, 5, 12)))
    return RealData.of(1 + 2 * jax.random.normal(jax.random.key(2), (24, 6, 4, 1)), Labels.index(labels))
