"""Rounds of queries to a teacher."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from jaxdd import workflows
from jaxdd.errors import JaxddError
from jaxdd.types import HostArray, Labels, RealData
from jaxdd.workflows.queries import LOG, RULES, answers, complete

STUDENT = {"model": "mlp(width=8, depth=1)", "steps": 40, "batch_size": 16, "learning_rate": 0.01}


def asked(student=None, **query):
    query = {"rounds": 2, "size": 5, **query}
    return {"seed": 3, "data": {"name": "floats"}, "query": query, "student": {**STUDENT, **(student or {})}}


@pytest.fixture(scope="module")
def real(tiny):
    return workflows.Real.of_config(complete({"data": {"name": str(tiny / "floats.npz")}})["data"])


@pytest.fixture(scope="module")
def truth(tiny):
    """Of the source, of which a tenth is held out."""
    return np.load(tiny / "floats.npz")["y_train"]


class Teacher:
    """Sure of the next class, and of a quarter for the right one; it notes about how many it was asked."""

    def __init__(self, real):
        self.images = np.asarray(real.train.images).reshape(len(real.train.images), -1)
        self.labels, self.calls = np.asarray(real.train.labels.values), []

    def __call__(self, images):
        self.calls.append(len(images))
        flat = np.asarray(images).reshape(len(images), -1)
        rows = [int(np.argmin(np.abs(self.images - each).sum(1))) for each in flat]
        return 0.25 * np.eye(10)[self.labels[rows]] + 0.75 * np.eye(10)[(self.labels[rows] + 1) % 10]


@pytest.fixture
def teacher(real):
    return Teacher(real)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_asks_about_new_rows_each_round(rule, real, truth):
    result = workflows.ask(asked({"share": 0}, rule=rule, teacher_error=0.1), real=real)
    rows = [row for each in result["rounds"] for row in each["asked"]]
    assert [row["labels"] for row in result["rounds"]] == [10, 15, 20] and result["teacher_queries"] == 0
    assert len(set(rows)) == len(rows) == 10 and set(rows) <= set(real.dataset.train.numbers.tolist())
    assert [answer for each in result["rounds"] for answer in each["answers"]] == truth[rows].tolist()
    assert all(row["wrong"] == 0 and 0 <= row["accuracy"] <= 1 for row in result["rounds"])
    assert json.loads(json.dumps(result)) == result


def test_a_teacher_is_asked_about_what_is_picked_and_wrong_answers_are_counted(real, truth, teacher):
    result = workflows.ask(asked({"share": 0}, answers="teacher"), teacher, real=real)
    assert teacher.calls == [5, 5] and result["teacher_queries"] == 10
    _, first, second = result["rounds"]
    assert first["answers"] == ((truth[first["asked"]] + 1) % 10).tolist()
    assert [first["wrong"], second["wrong"], second["all_wrong"]] == [5, 5, 10]


def test_a_teacher_with_a_share_is_asked_about_all_once_and_may_answer_softly(real, truth, teacher):
    result = workflows.ask(asked(answers="teacher_soft"), teacher, real=real)
    assert teacher.calls == [answers.BLOCK, 465 - answers.BLOCK] and result["teacher_queries"] == 465 < len(truth)
    for row in result["rounds"][1:]:
        np.testing.assert_allclose(np.sum(row["answers"], 1), 1)
        assert np.sort(row["answers"], 1)[:, -2:].tolist() == [[0.25, 0.75]] * 5


def test_a_student_of_right_labels_is_right_and_of_wrong_ones_wrong(real):
    """The accuracy is that of test data, by what was answered."""
    config = asked({"share": 0, "steps": 300}, rounds=1, size=200)
    right, wrong = (
        workflows.ask({**config, "query": {**config["query"], "noise": noise}}, real=real) for noise in (0, 0.99)
    )
    assert right["rounds"][1]["accuracy"] > 0.6 > 0.25 > wrong["rounds"][1]["accuracy"]


def test_noise_replaces_answers_by_other_classes(real, truth):
    *_, last = rows = workflows.ask(asked({"share": 0}, noise=0.999), real=real)["rounds"]
    assert last["all_wrong"] == 10 and not np.equal(last["answers"], truth[last["asked"]]).any()
    assert len({(a - b) % 10 for row in rows for a, b in zip(row["answers"], truth[row["asked"]], strict=True)}) > 3
    some = [
        workflows.ask(asked({"share": 0}, noise=0.5) | {"seed": seed}, real=real)["rounds"][-1] for seed in (0, 1, 2)
    ]
    assert 4 < sum(row["all_wrong"] for row in some) < 26


@pytest.mark.parametrize("by", ["labels", "teacher_soft"])
def test_what_was_stopped_after_any_round_goes_on_to_the_same(by, real, teacher, tmp_path):
    config = asked(rule="badge", answers=by, noise=0.2)
    whole = workflows.ask(config, teacher, real=real, workdir=tmp_path)
    log, calls = tmp_path / LOG, list(teacher.calls)
    lines = log.read_text().splitlines(keepends=True)
    assert len(lines) == 4
    for kept in (1, 2, 3):
        log.write_text("".join(lines[:kept]))
        assert workflows.ask(config, teacher, real=real, workdir=tmp_path) == whole
        assert log.read_text() == "".join(lines)
    assert teacher.calls == calls
    assert workflows.ask(config, teacher, real=real) == whole


@pytest.mark.parametrize("share", [0, 0.5])
def test_what_a_teacher_has_answered_is_not_asked_again(share, real, teacher, tmp_path, monkeypatch):
    """Wherever he is stopped: about all of the pool, or about what is picked, each is asked once."""
    monkeypatch.setattr(answers, "BLOCK", 100 if share else 3)
    stopped_at = 2

    def tired(images):
        if len(teacher.calls) == stopped_at:
            raise KeyboardInterrupt
        return teacher(images)

    config = asked({"share": share}, answers="teacher_soft")
    with pytest.raises(KeyboardInterrupt):
        workflows.ask(config, tired, real=real, workdir=tmp_path)
    stopped_at = None
    found = workflows.ask(config, tired, real=real, workdir=tmp_path)
    assert teacher.calls == ([100, 100, 100, 100, 65] if share else [3, 2, 3, 2])
    (tmp_path / LOG).unlink()
    assert workflows.ask(config, tired, real=real, workdir=tmp_path) == found
    assert len(teacher.calls) == (5 if share else 4)


def test_answers_of_another_pool_or_that_are_damaged_are_refused(real, teacher, tmp_path):
    workflows.ask(asked(), teacher, real=real, workdir=tmp_path)
    (tmp_path / LOG).unlink()
    fewer = dataclasses.replace(
        real,
        dataset=dataclasses.replace(real.dataset, train=real.dataset.train.take(np.arange(1, 465))),
        stored=RealData.of(real.train.images[1:], Labels.index(real.dataset.train.labels[1:], 10)),
    )
    with pytest.raises(JaxddError, match="holds answers about another pool"):
        workflows.ask(asked(), teacher, real=fewer, workdir=tmp_path)
    _, file = sorted((tmp_path / answers.FOLDER).iterdir())
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(JaxddError, match=r"does not match its checksum; .* without that file the teacher is asked"):
        workflows.ask(asked(), teacher, real=real, workdir=tmp_path)
    file.unlink()
    teacher.calls.clear()
    workflows.ask(asked(), teacher, real=real, workdir=tmp_path)
    assert teacher.calls == [465 - answers.BLOCK]


def test_a_pool_that_stays_on_the_host_is_refused(real):
    images = np.asarray(real.train.images)
    hosted = HostArray(images.shape, images.dtype, lambda rows: images[rows], "0" * 64)
    streamed = dataclasses.replace(real, stored=RealData.of(hosted, real.train.labels))
    with pytest.raises(JaxddError, match="queries need all real images in memory"):
        workflows.ask(asked({"share": 0}), real=streamed)


def test_a_directory_with_other_rounds_is_refused(real, teacher, tmp_path):
    workflows.ask(asked(), teacher, real=real, workdir=tmp_path)
    with pytest.raises(JaxddError, match="another config, data or teacher"):
        workflows.ask(asked(noise=0.5), teacher, real=real, workdir=tmp_path)
    folder = tmp_path / answers.FOLDER
    shutil.rmtree(folder)
    with pytest.raises(JaxddError, match="another config, data or teacher"):
        workflows.ask(asked(), lambda images: np.full((len(images), 10), 0.1), real=real, workdir=tmp_path)
    shutil.rmtree(folder)
    teacher.calls.clear()
    log = tmp_path / LOG
    header, *lines = map(json.loads, log.read_text().splitlines())
    del header["format_version"]
    for text, says in (
        ("\n".join(map(json.dumps, [header, *lines])), "written by another version of jaxdd"),
        ("no json\n", "does not hold rounds"),
        ("[]\n", "does not hold rounds"),
        ("", "does not hold rounds"),
    ):
        log.write_text(text)
        with pytest.raises(JaxddError, match=says):
            workflows.ask(asked(), teacher, real=real, workdir=tmp_path)
    assert not teacher.calls and not folder.exists()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (asked(rule="margins"), "did you mean 'margin'"),
        (asked(rule="robust"), "needs the share of wrong answers"),
        (asked(rule="robust", teacher_error=1), "from 0 to below 1"),
        (asked(answers="nobody"), "config.query.answers"),
        (asked(noise=1.0), "config.query.noise"),
        (asked(size=0), "config.query.size"),
        (asked(budget=3), "field of config.query"),
        (asked({"share": 1.5}), "config.student.share"),
        (asked({"learning_rate": 0}), "config.student.learning_rate"),
        ({"queries": {}}, "did you mean 'query'"),
        ({"data": {"stream": True}}, "config.data.stream must be False"),
    ],
)
def test_bad_configs_are_one_sentence(config, says):
    with pytest.raises(JaxddError, match=says):
        complete(config)


@pytest.mark.parametrize(
    ("teacher", "query", "says"),
    [
        (None, {}, "a teacher is asked, and there is none"),
        (lambda images: np.full((len(images), 9), 1 / 9), {}, "answers with"),
        (lambda images: np.full((len(images), 10), 1.0), {}, "of the sum 1"),
        (lambda images: 1 / 0, {"rounds": 100, "size": 10}, "of which some must be left"),
    ],
)
def test_bad_teachers_and_budgets_are_one_sentence(teacher, query, says, real):
    with pytest.raises(JaxddError, match=says):
        workflows.ask(asked(**query), teacher, real=real)
