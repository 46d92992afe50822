"""What matching methods minimise against what the authors' own code computes, in a cut of its results, in float64."""

import io
import json
import pathlib
import pickle
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.endurance
SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"
NAMES = ["dc", "dm", "datadam_exponent_1", "datadam_exponent_4", "cafe", "idc_mse", "idc_l1", "ncfm"]


@pytest.fixture(scope="module")
def oracles():
    sys.path.insert(0, str(SCRIPTS))
    import oracles

    # What it computes of the inputs, once for all tests.
    kept, compute = [], oracles.ours
    oracles.ours = lambda inputs: kept[0] if kept else kept.append(compute(inputs)) or kept[0]
    yield oracles
    oracles.ours = compute
    sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def stored(oracles):
    return oracles.read(oracles.CUT)


@pytest.fixture(scope="module")
def rows(oracles, stored):
    return {row["name"]: row for row in oracles.differences(stored)}


@pytest.fixture(scope="module")
def whole(oracles, stored, rows):
    """As of authors whose losses and gradients are five quarters of ours, which is a relative difference of a fifth."""
    del rows
    results = {}
    for name, (loss, gradient) in oracles.ours(None).items():
        results |= {f"{name}/loss": 1.25 * np.asarray(loss), f"{name}/gradient": 1.25 * np.asarray(gradient)}
    return {key: leaf for key, leaf in {**stored, **results}.items() if key != "entries"}


def command(oracles, monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["oracles.py", *map(str, options)])
    return oracles.main()


def saved(array):
    """A file of one array."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("name", NAMES)
def test_ours_is_what_the_authors_code_computes(name, what, rows):
    assert rows[name][what] <= 1e-10


def test_a_cut_keeps_the_same_tenth_of_every_gradient(oracles, stored, whole):
    cut = oracles.cut(whole)
    assert cut.keys() == stored.keys() == {*whole, "entries"}
    np.testing.assert_array_equal(cut["entries"], stored["entries"])
    assert len(cut["entries"]) == len(np.unique(cut["entries"])) == 6144
    for key, leaf in whole.items():
        kept = leaf.ravel()[cut["entries"]] if key.endswith("/gradient") else leaf
        np.testing.assert_array_equal(cut[key], kept)


def test_the_script_takes_a_whole_file_and_makes_and_takes_a_cut_of_it(oracles, whole, tmp_path, monkeypatch, capsys):
    np.savez(tmp_path / "whole.npz", **whole)
    out, making = tmp_path / "rows.json", ["--cut", tmp_path / "cut.npz"]
    for name, options in (("whole", []), ("whole", making), ("cut", [])):
        assert command(oracles, monkeypatch, "--file", tmp_path / f"{name}.npz", "--json", out, *options) == 0
        found = json.loads(out.read_text())
        assert [row.pop("name") for row in found] == NAMES
        assert all(row == pytest.approx({"loss": 0.2, "gradient": 0.2}, rel=1e-12) for row in found)
        assert capsys.readouterr().out.count("loss 2.0e-01  gradient 2.0e-01") == 8
    assert command(oracles, monkeypatch, "--file", tmp_path / "cut.npz", "--cut", tmp_path / "again.npz") == 2
    assert not (tmp_path / "again.npz").exists()


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (lambda arrays, file: None, "there is no such file"),
        (lambda arrays, file: file.mkdir(), "this is a directory"),
        (lambda arrays, file: file.write_bytes(b""), "is no .npz file of arrays"),
        (lambda arrays, file: file.write_bytes(pickle.dumps({})), "is no .npz file of arrays"),
        (lambda arrays, file: file.write_bytes(saved(arrays["real"])), "is no .npz file of arrays"),
        (lambda arrays, file: np.savez(file, real=np.array([{}])), "is no .npz file of arrays"),
        (lambda arrays, file: np.savez(file, real=arrays["real"]), "synthetic must be finite floats"),
        (lambda arrays, file: np.savez(file, **{**arrays, "real": arrays["real"][:9]}), "real must be finite floats"),
        (lambda arrays, file: np.savez(file, **{**arrays, "dc/loss": np.float64("nan")}), "dc/loss must be finite"),
        (lambda arrays, file: np.savez(file, **{**arrays, "entries": -arrays["entries"]}), "entries must be a list"),
        (
            lambda arrays, file: np.savez(file, **{key: leaf for key, leaf in arrays.items() if key != "entries"}),
            "dc/gradient must be finite floats",
        ),
    ],
)
def test_what_is_neither_is_one_sentence_and_writes_nothing(
    broken, sentence, oracles, stored, tmp_path, monkeypatch, capsys
):
    file, out = tmp_path / "file.npz", tmp_path / "rows.json"
    broken(stored, file)
    assert command(oracles, monkeypatch, "--file", file, "--json", out) == 2
    said = capsys.readouterr()
    assert sentence in said.err and said.err.count("\n") == 1 and not said.out
    assert not out.exists()
