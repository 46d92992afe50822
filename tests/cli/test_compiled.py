"""What is compiled is kept, within a bound."""

import os
import pathlib

import jax
import pytest

from jaxdd.cli import compiled


@pytest.fixture
def options():
    """JAX's own, as they were before."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_folder_that_somebody_named_stays(options, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDD_CACHE_DIR", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir
    compiled.keep()
    assert before and jax.config.jax_compilation_cache_dir == before and not list(tmp_path.iterdir())


def test_a_folder_of_ours_for_each_machine(options, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDD_CACHE_DIR", str(tmp_path))
    folders = []
    for version in (jax.__version__, "99.0"):
        jax.config.update("jax_compilation_cache_dir", None)
        monkeypatch.setattr(jax, "__version__", version)
        compiled.keep()
        folders.append(pathlib.Path(jax.config.jax_compilation_cache_dir))
    assert {folder.parent for folder in folders} == {tmp_path / "compiled"} and len(set(folders)) == 2
    assert (tmp_path / "compiled").stat().st_mode & 0o077 == 0  # programs: nobody else writes them


def test_a_place_that_cannot_be_written_stops_nothing(options, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAXDD_CACHE_DIR", str(tmp_path / "file"))
    jax.config.update("jax_compilation_cache_dir", None)
    compiled.keep()
    assert jax.config.jax_compilation_cache_dir is None


def test_what_was_used_longest_ago_goes_first(tmp_path):
    for age, name in enumerate(("new", "middle", "old")):
        path = tmp_path / "machine" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - age, 1e9 - age))
    compiled.make_room(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["middle", "new"]
    compiled.make_room(tmp_path, 0)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
