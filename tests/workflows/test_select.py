"""Selections from a config to their files."""

import numpy as np
import pytest
import safetensors.numpy

from jaxdd import models, training, workflows
from jaxdd.errors import JaxddError
from jaxdd.selection import Selection
from jaxdd.synthetic import DistilledDataset
from jaxdd.workflows import selectors
from jaxdd.workflows.evaluate import opened
from jaxdd.workflows.select import complete, select

NETWORK = {"model": "mlp(width=8, depth=1)", "epochs": 2, "batch_size": 64}


@pytest.fixture(scope="module")
def real(tiny):
    return workflows.Real.of_config(complete({"data": {"name": str(tiny / "tiny.npz")}})["data"])


def asked(real_name="tiny", **section):
    return {"data": {"name": real_name}, "select": section, "network": NETWORK}


def test_a_selection_is_a_file_of_rows_and_a_set_of_real_pixels(real, trained, tmp_path):
    config = {**asked(rule="herding", ipc=2), "evaluation": {"baselines": "herding,facility"}}
    outcome = select(config, tmp_path / "run", evaluate="full", real=real)
    chosen = Selection.read(outcome.path)
    assert outcome.path.name == "selection.safetensors" and len(chosen.rows) == 20 and chosen.scores is None
    a_set = DistilledDataset.read(tmp_path / "run" / "distilled.safetensors")
    places = chosen.places(real.dataset)
    assert a_set.images.dtype == np.uint8
    np.testing.assert_array_equal(a_set.images, real.dataset.train.images[places])
    np.testing.assert_array_equal(a_set.labels, np.repeat(np.arange(10), 2))
    assert a_set.header["method"] == outcome.result["method"] == "herding"
    names = [row["name"] for row in outcome.rows]
    assert names == ["distilled", "random real, hard labels", "herding", "facility location"]
    assert len(trained) == len(names)
    assert outcome.rows[0]["shown"] == "selected"
    for page in ("report.html", "README.md"):  # none says that anything was distilled
        text = (tmp_path / "run" / page).read_text()
        assert "20 real images (2 per class)" in text and "chosen by herding" in text
        assert "distilled with" not in text and "last iterate" not in text
    assert "selection.safetensors" in (tmp_path / "run" / "report.html").read_text()
    row = workflows.table(tmp_path / "run")["rows"][0]
    assert row["n"] == 1 and set(row["baselines"]) == set(names[1:])
    herding = outcome.rows[names.index("herding")]
    assert herding["num_images"] == 20 and herding["bits"] == outcome.rows[0]["bits"]
    assert (tmp_path / "run" / "report.html").exists() and (tmp_path / "run" / "results.json").exists()


@pytest.fixture(scope="module")
def watched(real):
    """A network of the section `network`, and what its training said."""
    full = complete(asked())
    network = models.build(NETWORK["model"], real.dataset.image_shape, 10)
    return network, selectors.trained(full["network"], real, seed=0, config={})


LOOKS = [("uniform", "pixels"), ("herding", "features"), ("craig", "gradients"), ("glister", "gradients")]
LOOKS += [("hardest", by) for by in selectors.SCORES] + [("ccs", "aum")]


@pytest.mark.parametrize(
    ("rule", "by"), [*LOOKS[:4], *(pytest.param(*look, marks=pytest.mark.endurance) for look in LOOKS[4:])]
)
def test_every_rule_by_every_look_gives_rows_of_every_class(rule, by, real, watched, key):
    section = complete(asked(rule=rule, by=by))["select"]
    chooser = selectors.selector(section, *watched, real.validation.examples)
    described = chooser.describe(real.train, key)
    chosen = chooser.choose(key, described, real.train.labels, 2)
    labels = real.dataset.train.labels
    np.testing.assert_array_equal(labels[chosen.rows], np.repeat(np.arange(10), 2))
    if rule == "hardest":
        assert np.isfinite(described).all()
        worst = max(described[labels == 0])
        assert described[chosen.rows[0]] == worst


def test_what_is_hard_by_one_score_is_hard_by_the_others(real, watched, key):
    of = {}
    for by in selectors.SCORES:
        section = complete(asked(rule="hardest", by=by))["select"]
        of[by] = np.asarray(selectors.selector(section, *watched, None).describe(real.train, key))
    wrong = (
        training.seen(watched[0], watched[1].network, real.train.images).logits.argmax(1) != real.dataset.train.labels
    )
    for by in ("aum", "el2n", "loss"):  # those that know labels
        assert of[by][wrong].mean() > of[by][~wrong].mean()
    for by in ("margin", "entropy", "least_confidence"):
        assert np.corrcoef(of[by], of["least_confidence"])[0, 1] > 0.7


def test_a_fraction_is_of_every_class_and_unbalanced_of_all(real, tmp_path):
    made = select(asked(rule="easiest", by="loss", fraction=0.25), tmp_path / "a", evaluate="none", real=real)
    counts = np.bincount(real.dataset.train.labels)
    found = np.bincount(real.dataset.train.labels[Selection.read(made.path).places(real.dataset)])
    np.testing.assert_array_equal(found, np.round(0.25 * counts))
    free = {"rule": "easiest", "by": "loss", "fraction": 0.25, "balanced": False}
    made = select(asked(**free), tmp_path / "b", evaluate="none", real=real)
    chosen = Selection.read(made.path)
    assert len(chosen.rows) == found.sum()
    assert chosen.scores is not None
    assert np.sort(chosen.scores)[len(chosen.rows) - 1] == max(chosen.scores[chosen.places(real.dataset)])


def test_weights_are_those_of_labels_in_cross_entropy(real, tmp_path):
    made = select(asked(rule="craig", by="gradients", ipc=3), tmp_path / "a", evaluate="none", real=real)
    chosen, a_set = Selection.read(made.path), DistilledDataset.read(tmp_path / "a" / "distilled.safetensors")
    assert a_set.header["label_convention"] == "raw" and chosen.weighted
    np.testing.assert_allclose(a_set.labels.sum(1), chosen.weights / chosen.weights.mean(), rtol=1e-5)


def test_what_is_kept_is_what_a_run_sees_and_its_file_says_so(real, config, tmp_path, caplog):
    made = select(asked(rule="easiest", by="loss", fraction=0.5), tmp_path / "easy", evaluate="none", real=real)
    chosen = Selection.read(made.path)
    of_all = config(data={"name": "tiny"})
    run = workflows.distill(
        {**of_all, "data": {"name": "tiny", "keep": str(tmp_path / "easy")}}, tmp_path / "run", evaluate="none"
    )
    header = DistilledDataset.read(run.path).header
    assert header["data"]["kept"] == chosen.content and header["data"]["source_hash"] == real.dataset.source_hash
    kept = workflows.Real.of_config(complete({"data": {"name": "tiny", "keep": str(made.path)}})["data"])
    np.testing.assert_array_equal(kept.dataset.train.numbers, np.sort(chosen.rows))
    how = {"stream": False, "full_data": False, "transferred": False}
    assert opened(tmp_path / "run", None, **how).real.kept == chosen.content
    made.path.unlink()
    assert opened(tmp_path / "run", None, **how).real.kept is None
    assert "baselines are of all" in caplog.text


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"rule": "herdin"}, "unknown rule of choice 'herdin'.*herding"),
        ({"rule": "herding", "penalty": 1.0}, "unknown field of config.select with the rule 'herding' 'penalty'"),
        ({"rule": "hardest"}, "hardest chooses by scores: config.select.by is one of forgetting"),
        ({"rule": "herding", "by": "loss"}, "herding chooses by points, not by scores"),
        ({"by": "pixel"}, "unknown config.select.by 'pixel'.*pixels"),
        ({"rule": "graph_cut", "penalty": "big"}, "config.select.penalty must be like 1.0, got 'big'"),
        ({"rule": "glister"}, "config.select.by=gradients"),
        ({"ipc": 0}, "config.select.ipc"),
        ({"fraction": 1.5}, "config.select.fraction must be between 0 and 1"),
        ({"ipc": 1, "fraction": 0.5}, "give one of them"),
        ({}, "nothing says how many"),
        ({"ipc": 1000}, "class . has .* training examples"),
    ],
)
def test_what_cannot_be_selected_is_said_at_once(section, sentence, real, tmp_path):
    with pytest.raises(JaxddError, match=sentence):
        select(asked(**section), tmp_path / "a", real=real)
    assert not (tmp_path / "a").exists()


def test_files_of_other_commands_stay(real, tmp_path):
    (tmp_path / "results.json").write_text("mine")
    with pytest.raises(JaxddError, match=r"holds results\.json but no selection"):
        select(asked(rule="herding", ipc=1), tmp_path, real=real)
    (tmp_path / "results.json").unlink()
    once = select(asked(rule="herding", ipc=1), tmp_path, evaluate="none", real=real).path.read_bytes()
    assert select(asked(rule="herding", ipc=1), tmp_path, evaluate="none", real=real).path.read_bytes() == once
    assert set(safetensors.numpy.load(once)) == {"rows", "weights"}


def test_streamed_data_are_read_by_the_rows_that_were_chosen(real, trained, tiny, tmp_path):
    (tmp_path / "folder").mkdir()
    for name, array in np.load(tiny / "tiny.npz").items():
        np.save(tmp_path / "folder" / f"{name}.npy", array)
    streamed = asked(str(tmp_path / "folder"), rule="uniform", ipc=2)
    streamed["data"]["stream"] = True
    select(streamed, tmp_path / "a")
    select(asked(rule="uniform", ipc=2), tmp_path / "b", evaluate="none", real=real)
    ours, theirs = (DistilledDataset.read(tmp_path / run / "distilled.safetensors").images for run in "ab")
    np.testing.assert_array_equal(ours, theirs)
    assert len(trained) > 1  # it is measured, too
    with pytest.raises(JaxddError, match="load the data without streaming"):
        select({**streamed, "select": {"rule": "herding", "ipc": 2}}, tmp_path / "c")
