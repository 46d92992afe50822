"""Every notebook runs from top to bottom, and is stored without outputs."""

import importlib.util
import pathlib
import subprocess

import nbformat
import pytest

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.endurance
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the kernel's own libraries
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("JAXDD_QUICK", "1")
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    assert all(cell.execution_count for cell in code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_first_cell_installs_what_is_not_there(path, tmp_path, monkeypatch):
    """From the checkout around the notebook, or from an address; nothing where it is installed already."""
    first = next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    asked = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: asked.append(command[1:]))
    exec(first, {})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.chdir(path.parent)
    exec(first, {})
    exec(first.replace('SOURCE = ""', 'SOURCE = "git+https://example.org/jaxdd"'), {})
    install = ["-m", "pip", "install", "--quiet"]
    assert asked == [[*install, f"{path.parents[1]}[demo]"], [*install, "jaxdd[demo] @ git+https://example.org/jaxdd"]]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match="SOURCE"):
        exec(first, {})
