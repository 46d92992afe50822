"""The old place of `jaxdd.workflows`."""

import pathlib

import pytest

import jaxdd
from jaxdd import workflows
from jaxdd.cli import pipeline


@pytest.mark.parametrize("name", dir(pipeline))
def test_every_name_leads_to_the_new_place_and_says_so(name):
    with pytest.warns(DeprecationWarning, match=rf"jaxdd\.cli\.pipeline\.{name} is now jaxdd\.workflows\.{name}\."):
        assert getattr(pipeline, name) is getattr(workflows, name)


def test_names_that_never_were():
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        _ = pipeline.distil


def test_nothing_here_uses_the_old_place():
    package = pathlib.Path(jaxdd.__file__).parent
    files = [file for folder in (package, package.parent / "scripts") for file in folder.rglob("*.py")]
    users = [file for file in files if "pipeline" in file.read_text() and "cli.pipeline" in file.read_text()]
    assert [file.relative_to(package).as_posix() for file in users] == ["cli/pipeline.py"]
