"""Sets measured by several models: one matrix, kept where the run is."""

import html
import json
import shutil

import pytest

from jaxdd import evaluation, workflows
from jaxdd.errors import JaxddError
from jaxdd.workflows.architectures import with_column

SMALL, OTHER = "mlp(width=4, depth=1)", "mlp(width=5, depth=1)"
QUICK = {"protocol": "quick", "networks": 1, "learning_rate": 0.001}


@pytest.fixture(autouse=True, scope="module")
def without_curves():
    """Which take most of a report's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxdd.report.write.curves_svg", lambda history: None)
        yield


@pytest.fixture(scope="module")
def finished(config, tiny, tmp_path_factory):
    """A finished run of class means, with its report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXDD_DATA_DIR", str(tiny))
        return workflows.distill(config(), tmp_path_factory.mktemp("run") / "run", evaluate="none").path.parent


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(finished, tmp_path / "run")


def held(run):
    return json.loads((run / workflows.RESULTS).read_text())


def test_the_matrix_is_kept_beside_what_is_there_and_in_the_report(run, trained):
    before = held(run)
    outcome = workflows.architectures(run, [SMALL, OTHER], **QUICK, command="as typed")
    matrix = outcome.architectures
    assert [column["model"] for column in matrix["columns"]] == [SMALL, OTHER]
    assert [row["name"] for row in matrix["rows"]] == ["distilled", "random real, hard labels", "herding"]
    assert [cell["mean"] for cell in matrix["rows"][0]["cells"]] == pytest.approx([0.501, 0.504])
    assert matrix["rows"][2]["cells"][1]["mean"] == pytest.approx(0.256) and len(trained) == 6
    assert matrix["rows"][0]["cells"][0]["std"] is None
    assert held(run) == {**before, "architectures": json.loads(json.dumps(matrix))}
    page = html.unescape((run / "report.html").read_text()).replace("\xa0", " ")
    assert "<h2>Other architectures</h2>" in page and OTHER in page and "50.4 %" in page and "25.6 %" in page
    assert outcome.record["command"] == "as typed" and len(outcome.rows) == 6


def test_another_call_adds_a_column_and_a_newer_one_replaces_its_own(run, trained):
    workflows.architectures(run, [SMALL], **QUICK)
    matrix = workflows.architectures(run, [OTHER], **{**QUICK, "networks": 2}).architectures
    assert [(column["model"], column["networks"]) for column in matrix["columns"]] == [(SMALL, 1), (OTHER, 2)]
    matrix = workflows.architectures(run, [SMALL], **QUICK, seed=1).architectures
    assert [(column["model"], column["seed"]) for column in matrix["columns"]] == [(SMALL, 1), (OTHER, 0)]
    assert [round(cell["mean"], 3) for cell in matrix["rows"][0]["cells"]] == [0.507, 0.504]
    matrix = workflows.architectures(run, [SMALL], **{**QUICK, "learning_rate": 0.01}).architectures
    assert [column["learning_rate"] for column in matrix["columns"]] == [0.001, 0.001, 0.01]
    assert all(len(row["cells"]) == 3 for row in matrix["rows"])
    assert held(run)["architectures"]["columns"] == matrix["columns"]


def test_it_stays_with_the_set_that_was_measured(run, trained, config):
    matrix = workflows.architectures(run, [SMALL], **QUICK).architectures
    again = workflows.distill(config(), run, resume=True, evaluate="none")
    assert again.architectures == json.loads(json.dumps(matrix)) == held(run)["architectures"]
    assert "Other architectures" in (run / "report.html").read_text()
    workflows.distill(config(run={"steps": 7}), run, resume=True, evaluate="none")  # another set
    assert "architectures" not in held(run) and "Other architectures" not in (run / "report.html").read_text()


def test_a_lone_file_gets_no_results(run, trained, tmp_path, caplog):
    alone = tmp_path / "alone"
    alone.mkdir()
    file = alone / workflows.FILE
    file.write_bytes((run / workflows.FILE).read_bytes())
    for source, said in (
        (file, []),
        (alone, [f"{alone} has no results.json of a run, so the matrix is printed and not kept."]),
    ):
        caplog.clear()
        matrix = workflows.architectures(source, [SMALL], **QUICK).architectures
        assert len(matrix["columns"]) == 1 and caplog.messages == said
        assert list(alone.iterdir()) == [file]


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        ([SMALL, "lenett"], "unknown model 'lenett'; did you mean 'lenet'"),
        ([SMALL, "resnet10"], None),
        ([SMALL, ""], "models must be names of networks, 'convnet;mlp' on the command line"),
        ([], "models must be names of networks"),
        (SMALL, "models must be names of networks"),
        ([SMALL, OTHER, SMALL], f"the model {SMALL!r} is there 2 times: name it once"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is_trained(models, sentence, run, trained, monkeypatch):
    if sentence is None:
        obstacle = lambda network, *args, **options: (_ for _ in ()).throw(JaxddError("it is too deep."))  # noqa: E731
        monkeypatch.setattr(evaluation, "measurable", obstacle)
        sentence = f"{SMALL} cannot be measured: it is too deep"
    before = held(run)
    with pytest.raises(JaxddError) as caught:
        workflows.architectures(run, models, **QUICK)
    assert str(caught.value).startswith(sentence) and not trained and held(run) == before


def test_it_is_what_evaluate_measures(run):
    """With networks that are trained."""
    matrix = workflows.architectures(run, [SMALL], **QUICK, seed=4).architectures
    rows = workflows.evaluate(run, model=SMALL, **QUICK, seed=4).rows
    assert [row["cells"][0]["mean"] for row in matrix["rows"]] == [row["accuracy_mean"] for row in rows]
    assert {cell["learning_rate"] for row in matrix["rows"] for cell in row["cells"]} == {0.001}


def test_sets_without_classes_are_measured_by_probes():
    empty = {"distilled_sha256": "", "columns": [], "rows": []}
    rows = [
        {"name": "distilled", "probe_mean": 0.7, "probe_std": 0.1, "networks": 2, "protocol": "krr-st"},
        {"name": "encoder", "probe_mean": 0.9, "probe_std": None, "networks": 1, "protocol": None},
    ]
    matrix = with_column(empty, {"model": "mlp", "data": "usps"}, rows)
    assert matrix["columns"] == [
        {"model": "mlp", "data": "usps", "protocol": "krr-st", "networks": 2, "measure": "probe"}
    ]
    assert [(row["name"], row["cells"][0]["mean"]) for row in matrix["rows"]] == [("distilled", 0.7), ("encoder", 0.9)]
