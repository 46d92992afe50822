"""Paths as people write them."""

import pathlib
import tempfile

import numpy as np
import pytest

from jaxdd import data, report, workflows
from jaxdd._files import cache_folder, expanded, folder_of, write_atomically
from jaxdd.errors import JaxddError
from jaxdd.synthetic import DistilledDataset
from jaxdd.types import Content, Distilled, Labelling


def test_home_is_expanded_wherever_a_path_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    made = DistilledDataset.create(
        Distilled(Content(np.zeros((2, 4, 4, 1), np.float32)), Labelling(np.arange(2))), data.Identity(), {}
    )
    made.write("~/set.safetensors")
    assert workflows.distilled_file("~/set.safetensors") == tmp_path / "set.safetensors"
    assert len(DistilledDataset.read("~/set.safetensors").images) == 2
    report.to_npz(made, "~/set.npz")
    report.to_png_folder(made, "~/pictures")
    write_atomically("~/note.txt", "x")
    np.savez(tmp_path / "mine.npz", x_train=np.zeros((4, 4, 4), np.uint8), y_train=[0, 1, 0, 1])
    with pytest.raises(JaxddError, match="every class has a single example"):  # it was found and read
        data.load("~/mine.npz")
    assert {path.name for path in tmp_path.iterdir()} == {
        "set.safetensors",
        "set.npz",
        "pictures",
        "note.txt",
        "mine.npz",
    }


def test_who_has_no_home_has_a_temporary_folder(monkeypatch):
    def nowhere(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pathlib.Path, "expanduser", lambda path: nowhere(path) if str(path)[0] == "~" else path)
    monkeypatch.delenv("JAXDD_CACHE_DIR", raising=False)
    assert pathlib.Path(tempfile.gettempdir()) in cache_folder().parents
    assert pathlib.Path(tempfile.gettempdir()) in folder_of("JAXDD_NOWHERE", "~/.cache/jaxdd/data").parents
    with pytest.raises(JaxddError, match="~/x: this system knows no such home folder"):
        expanded("~/x")
