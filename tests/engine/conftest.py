"""Programs that are kept for every test of a file."""

import pytest

from jaxdd.engine import chunk


@pytest.fixture(autouse=True, scope="module")
def programs_are_kept():
    """More than the newest few, so that no test compiles again what another one had."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunk, "_COMPILED_AT_MOST", 100)
        yield
    chunk._COMPILED.clear()
