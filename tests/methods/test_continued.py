"""Every method that has an `init` goes on with a set."""

import jax
import numpy as np
import pytest
import toys

from jaxdd import engine, methods
from jaxdd.data import Standardize
from jaxdd.engine.stages import foretold
from jaxdd.synthetic import DistilledDataset, continued
from jaxdd.types import bound

HERE = Standardize(np.zeros(1, np.float32), np.ones(1, np.float32))
THERE = Standardize(np.full(1, 0.5, np.float32), np.full(1, 0.25, np.float32))  # nothing is clipped on the way
SMALL = {"model": "mlp(width=4, depth=1)", "ipc": 2, "networks": 1, "steps": 2, "window": 2, "spread": 0, "factor": 2}
NAMES = [name for name in methods.available() if "init" in methods.fields(name)]


def untouched(name, real, **options):
    """What a run leaves that has done nothing, as a function of its key."""
    known = methods.fields(name)
    recipe = methods.build(name, **{field: value for field, value in SMALL.items() if field in known}, **options)
    real = foretold(recipe, real)
    method = bound(recipe, real)
    return jax.jit(lambda key: method.product(engine.first_state(method, real, key)))


def test_there_are_such():
    assert {"kip", "dm", "dc", "dsa", "idc", "ncfm", "cafe", "datadam", "mtt", "dd", "rat_bptt", "bptt"} < set(NAMES)


@pytest.mark.parametrize("name", toys.each(NAMES))
def test_a_run_without_updates_gives_its_set_back(name, digits):
    begun, key = untouched(name, digits, init="real"), jax.random.key(1)
    dataset = DistilledDataset.create(begun(jax.random.key(0)), THERE, {"data": {"num_classes": 4}})
    found, other = untouched(name, digits, init=continued(dataset, HERE))(key), begun(key)
    np.testing.assert_allclose(HERE.inverse(np.asarray(found.images)), dataset.images, atol=1e-5)
    np.testing.assert_allclose(found.labels, dataset.labels, atol=1e-6)
    assert np.abs(found.images - other.images).max() > 0.5
