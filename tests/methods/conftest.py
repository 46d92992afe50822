"""Files about methods that are not among `toys.QUICK` wait for the long run."""

import pathlib

import pytest
import toys

from jaxdd import methods


def pytest_collection_modifyitems(items):
    waiting = {f"test_{name}.py" for name in set(methods.available()) - toys.QUICK}
    for item in items:
        if item.path.parent == pathlib.Path(__file__).parent and item.path.name in waiting:
            if not item.get_closest_marker("endurance"):
                item.add_marker(pytest.mark.sibling)
            item.add_marker(pytest.mark.endurance)
