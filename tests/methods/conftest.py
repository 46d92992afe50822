"""Which methods the quick suite has."""

import pathlib

import pytest

QUICK = {
    *("kip", "frepo", "rfad"),  # kernels
    *("dc", "dm"),  # gradients, layers
    *("mtt", "dd"),  # trajectories, unrolls
    *("sre2l", "rded"),  # recovered, chosen by a teacher
    "dq",
    # What is about all of them.
    *("names", "hyper", "bilevel", "matching", "continued", "resumed", "devices"),
}
"""One or two of each body; the others' updates by hand wait for the long run, whatever is made of the same blocks."""


def pytest_collection_modifyitems(items):
    here = pathlib.Path(__file__).parent
    for item in items:
        if item.path.parent == here and item.path.stem.removeprefix("test_") not in QUICK:
            item.add_marker(pytest.mark.endurance)
