"""How iterates are scored on held-out data, and what is kept as the best, also where a resumed run scores otherwise."""

import dataclasses
import functools
import json
import logging
import shutil

import jax
import numpy as np
import pytest

from jaxdd import engine, methods, workflows
from jaxdd.errors import JaxddError
from jaxdd.evaluation import score
from jaxdd.synthetic import DistilledDataset
from jaxdd.types import Distilled
from jaxdd.workflows import products

BY = "one network: mlp(width=8, depth=1), protocol quick"


def curve_of(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row for row in rows if row["split"] == "validation"}


def distill(config, workdir, **options):
    return workflows.distill(config, workdir, evaluate="none", **options)


@pytest.fixture(scope="module")
def finished(config, tiny, tmp_path_factory):
    """`finished(sections)`: the outcome of a whole run of class means; no test changes its directory."""

    @functools.cache
    def of(how, kernel=False, steps=6):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("JAXDD_DATA_DIR", str(tiny))
            run = config(run={"validate": how, "steps": steps}, method={"kernel": kernel})
            return distill(run, tmp_path_factory.mktemp("finished") / "run")

    return of


@pytest.mark.endurance
def test_a_network_scores_iterates_of_a_method_without_a_kernel(finished):
    outcome = finished("network")
    curve = curve_of(outcome.path.parent)
    assert list(curve) == [2, 4, 6] and set(curve[2]) == {"step", "split", "accuracy"}
    result = outcome.result
    scores = {step: row["accuracy"] for step, row in curve.items()}
    assert result["best_validation_accuracy"] == max(scores.values()) == scores[result["best_step"]]
    assert result["best_validation_by"] == BY
    best = DistilledDataset.read(outcome.path.parent / workflows.BEST).header
    assert (best["selected_on"], best["selected_by"], best["step"]) == ("validation", BY, result["best_step"])
    assert "selected_by" not in DistilledDataset.read(outcome.path).header
    assert BY in (outcome.path.parent / "report.html").read_text()
    assert "validat" not in json.dumps(json.loads((outcome.path.parent / "run.json").read_text())["config"]["method"])


def test_the_score_of_a_set_is_that_of_the_network_with_the_same_key(config, tmp_path):
    """Whatever the step: the curve compares sets, not networks."""
    full = workflows.complete(config("dm"))
    real = workflows.Real.of_config(full["data"])
    method = real.method("dm", {name: value for name, value in full["method"].items() if name != "name"})
    options = {"model": "mlp(width=8, depth=1)", "dataset": real.dataset, "key": jax.random.key(3)}
    product = engine.shape_of_product(method, real.stored)
    curve = products.curve("network", product, None, real.validation.examples, **options)
    rows = np.concatenate([np.flatnonzero(real.train.labels.values == label)[:1] for label in range(10)])
    distilled = type(product)(real.train.images[rows], np.arange(10, dtype=np.int32))
    first = curve(distilled)
    assert first == curve(distilled) and 0.2 < first["accuracy"] < 1
    noise = type(product)(0 * distilled.images, distilled.labels)
    assert curve(noise)["accuracy"] < first["accuracy"]


@pytest.mark.endurance
def test_a_set_with_a_recipe_of_its_own_is_trained_by_it(config, tmp_path):
    result = distill(config("dd", run={"validate": "network"}), tmp_path / "run").result
    assert result["best_validation_by"] == "one network: mlp(width=8, depth=1), protocol as-distilled"


@pytest.mark.parametrize(
    ("how", "kernel", "scores"), [("auto", True, {"kernel_accuracy"}), ("auto", False, None), ("none", True, None)]
)
def test_auto_is_the_kernel_where_there_is_one_and_none_is_none(how, kernel, scores, finished):
    outcome = finished(how, kernel)
    workdir = outcome.path.parent
    curve = curve_of(workdir)
    assert (set(curve[2]) - {"step", "split"} if curve else None) == scores
    assert ("best_step" in outcome.result) == (workdir / workflows.BEST).exists() == (scores is not None)
    assert "best_validation_by" not in outcome.result


def test_auto_trains_networks_at_five_points_where_networks_are_measured_at_the_end(config, tmp_path):
    run = {"validate": "auto", "validate_every": None, "steps": 10}
    result = workflows.distill(config(run=run), tmp_path / "run").result
    curve = curve_of(tmp_path / "run")
    assert list(curve) == [2, 4, 6, 8, 10] and set(curve[2]) == {"step", "split", "accuracy"}
    assert result["best_validation_by"] == BY and (tmp_path / "run" / workflows.BEST).exists()


@pytest.fixture
def ways(config):
    """`ways(how, **fields)`: the curve of a set of ten real images."""
    real = workflows.Real.of_config(workflows.complete(config("dm"))["data"])
    product = Distilled(real.train.images[:10], np.arange(10, dtype=np.int32))

    def of(how="auto", held_out=real.validation.examples, model="mlp(width=4, depth=1)", networks=True, **fields):
        options = {"model": model, "dataset": real.dataset, "key": jax.random.key(0), "networks": networks}
        return products.curve(how, dataclasses.replace(product, **fields), None, held_out, **options), product

    return of


def test_auto_is_none_where_no_network_can_or_may_judge(ways, caplog):
    features = {"label_convention": "features", "labels": np.zeros((10, 3), np.float32)}
    for without in ({"held_out": None}, {"networks": False}, features):
        assert ways(**without)[0] is None and not caplog.messages
    assert ways(model="convnet(depth=9)")[0] is None
    assert "no validation curve: the network is too deep" in caplog.text


@pytest.mark.parametrize(("how", "every"), [("auto", {1: 1, 5: 1, 7: 2, 600: 120}), ("network", {600: None})])
def test_points_of_a_run_unless_the_config_says(how, every, ways):
    curve, _ = ways(how)
    assert {steps: curve.every(steps) for steps in every} == every


def test_a_network_judges_by_a_bounded_part_of_what_is_held_out(ways, monkeypatch):
    seen = []
    monkeypatch.setattr(score, "SELECTION_EXAMPLES", 20)
    found, product = ways("auto")

    def evaluate(network, distilled, validation, test, protocol, **options):
        seen.append((validation, len(test.labels), options["num_networks"], protocol.learning_rates))
        return score.Score((0.5,), 1e-3, "quick")

    monkeypatch.setattr(products.evaluation, "evaluate", evaluate)
    assert found(product) == {"accuracy": 0.5}
    ((validation, count, networks, rates),) = seen
    assert validation is None and 10 < count <= 20 and networks == 1 and rates == (1e-3,)


@pytest.mark.parametrize(
    ("name", "sections", "sentence"),
    [
        (
            "dm",
            {"data": {"validation": 0.0}},
            "config.run.validate is 'network', but no data are held out: hold some out",
        ),
        ("dm", {"evaluation": {"model": "convnet(depth=9)"}}, "run.validate is 'network', but the network is too deep"),
    ],
)
def test_what_cannot_be_validated_is_said_before_the_first_step(name, sections, sentence, config, tmp_path):
    with pytest.raises(JaxddError) as caught:
        distill(config(name, **sections, run={"validate": "network"}), tmp_path / "run")
    assert sentence in str(caught.value) and not (tmp_path / "run").exists()


@pytest.mark.endurance
def test_a_resumed_run_may_validate_otherwise_and_looks_for_its_best_anew(config, finished, tmp_path):
    whole, part = finished("none", True), finished("auto", True, steps=4)
    workdir, first = tmp_path / "run", part.result
    shutil.copytree(part.path.parent, workdir)
    assert first["best_validation_kernel_accuracy"] > 0 and first["best_step"] in (2, 4)
    other = {"method": {"kernel": True}, "run": {"validate": "network"}}
    second = distill(config(**other), workdir, resume=True)
    assert second.result["resumed_from"] == 4 and second.result["best_step"] == 6  # the only one with this measure
    assert second.result["best_validation_by"] == BY and "best_validation_kernel_accuracy" not in second.result
    assert second.path.read_bytes() == whole.path.read_bytes()
    header = DistilledDataset.read(workdir / workflows.BEST).header
    assert (header["step"], header["selected_by"]) == (6, BY)
    # A finished run has nothing left to score by another measure, and what is kept by the same one stays.
    again = distill(config(**other), workdir, resume=True)
    assert (
        again.result["best_step"] == 6
        and again.result["best_validation_accuracy"] == second.result["best_validation_accuracy"]
    )
    third = {**other, "evaluation": {"model": "mlp(width=4, depth=1)"}}
    assert "best_step" not in distill(config(**third), workdir, resume=True).result


def test_a_run_that_stops_keeps_its_best(config, finished, tmp_path, caplog):
    """Resumed with the same measure it ends as one that never stopped."""
    run = {"validate": "network"}
    whole = finished("network")
    method = {"kernel": False}
    distill(config(run={**run, "steps": 2}, method=method), tmp_path / "run")
    with caplog.at_level(logging.WARNING, "jaxdd"):
        resumed = distill(config(run=run, method=method), tmp_path / "run", resume=True).result
    names = ("best_step", "best_validation_accuracy", "best_validation_by")
    assert [resumed[name] for name in names] == [whole.result[name] for name in names] and not caplog.messages
    assert curve_of(tmp_path / "run") == curve_of(whole.path.parent)
    best = [(workdir / workflows.BEST).read_bytes() for workdir in (tmp_path / "run", whole.path.parent)]
    assert best[0] == best[1]


def test_methods_need_no_name_to_be_validated(finished):
    """It is the product that is asked."""
    assert methods.fields("toys:means")
    assert "best_validation_kernel_accuracy" in finished("auto", True).result
