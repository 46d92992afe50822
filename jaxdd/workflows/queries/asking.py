"""Rounds of questions to a teacher: pick, ask, train, measure."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import _numbers
from jaxdd._files import digest
from jaxdd._jax import key_of
from jaxdd._numbers import jsonable, whole
from jaxdd.errors import JaxddError, unknown
from jaxdd.evaluation.arrays import check_in_memory
from jaxdd.selection import by_class, choose
from jaxdd.training import TWO_HEADED, Student, fit_two_headed, seen_by, two_headed
from jaxdd.types import Array, Key, Network, NetworkState
from jaxdd.workflows.config import DATA, EVALUATION, check_sections, filled, told
from jaxdd.workflows.data import Real
from jaxdd.workflows.queries.answers import Answers, Teacher, from_json, noisy, places_of
from jaxdd.workflows.queries.rounds import Rounds
from jaxdd.workflows.queries.rules import RULES, Pool

ANSWERS = ("labels", "teacher", "teacher_soft")
_DEFAULTS: dict[str, dict[str, Any]] = {
    "data": DATA,
    "query": {
        "rule": "random",
        "start": 1,
        "rounds": 5,
        "size": 10,
        "answers": "labels",
        "noise": 0.0,
        "teacher_error": None,
    },
    "student": {"model": "mlp(width=128, depth=1)", **TWO_HEADED._asdict()},
}


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of rounds of queries with its defaults filled in.

        complete({"query": {"rule": "pcoreset"}})["query"]["rounds"]  # 5

    Args:
      config: sections `seed`, `data`, `query`, `student`, each of which may be absent. `query` says by which `rule` is
        picked (a key of `RULES`), how many of each class have true labels at the `start`, how many `rounds` of what
        `size` follow, who `answers`: "labels" for somebody who knows, "teacher" for the class that the teacher thinks
        most likely, "teacher_soft" for its probabilities; the `noise`, which is the probability that an answer is
        replaced by another class, all alike; and the `teacher_error` that "robust" expects, 0 to below 1. `student` is
        the two-headed network, and how it is trained: `share` is the teacher's of its loss, who is then asked about
        every example; 0 for a student that learns from answers alone.

    Raises:
      JaxddError: for what is unknown or cannot be.
    """
    config = jsonable(config)
    check_sections(config, _DEFAULTS)
    full = filled(config, {**_DEFAULTS, "evaluation": EVALUATION})
    del full["evaluation"]
    query, student = full["query"], full["student"]
    if query["rule"] not in RULES:
        raise unknown("rule of queries", query["rule"], RULES)
    if query["answers"] not in ANSWERS:
        raise unknown("config.query.answers", query["answers"], ANSWERS)
    for name, least in (("start", 1), ("rounds", 0), ("size", 1)):
        whole(query[name], f"config.query.{name}", least=least)
    _numbers.share(query["noise"], "config.query.noise", under=True)
    if query["rule"] == "robust":
        error = "the rule 'robust' needs the share of wrong answers that is expected, config.query.teacher_error, which"
        _numbers.share(query["teacher_error"], error, under=True)
    _student(student).check("config.student.")
    if full["data"]["stream"]:
        raise JaxddError("queries look at the whole pool, in memory: config.data.stream must be False.")
    return full


def ask(
    config: Mapping[str, Any],
    teacher: Teacher | None = None,
    *,
    workdir: str | os.PathLike | None = None,
    real: Real | None = None,
) -> dict[str, Any]:
    """Rounds of queries: train a student on what has labels, measure it, pick what to ask, and again.

        result = ask({"query": {"rule": "pcoreset"}, "seed": 0}, teacher)
        result["rounds"][-1]["accuracy"]

    A pure function of the config, the data and the teacher. With a directory, a line of `queries.jsonl` there is
    written after each round, and what a teacher answers lies in the folder `answers` there as soon as he has: the same
    call goes on where it ended, and asks nothing again. So another teacher needs another directory.

    Args:
      config: see `complete`.
      teacher: `teacher(images (b, h, w, c)) -> (b, classes)`, probabilities of images as networks see them, at most
        some hundreds at once. It is asked about what is picked if it answers, and about all of the pool if it has a
        share of the loss, about each example once.
      workdir: where lines and answers go; None for nowhere.
      real: what the section `data` of the config says, where it is loaded already. The pool are its training examples.

    Returns:
      JSON-able: the `config`; `teacher_queries`, about how many examples the teacher was asked; `rounds`, of each its
      number (0 is the start), how many `labels` there are, which rows were `asked`, the `answers` (classes, or
      probabilities), how many of these are `wrong`, how many of all so far (`all_wrong`), and the `accuracy` on test
      data. Rows are numbers in the training split of the source, before anything was cut from it, as those of
      `selection.Selection`.

    Raises:
      JaxddError: for anything wrong in the config or the data, for a teacher that is missing or whose answers are none,
        or a directory with rounds of something else, or of an older version.
    """
    full = complete(config)
    query, student = full["query"], full["student"]
    taught, answers = student["share"] > 0, query["answers"]
    if teacher is None and (taught or answers != "labels"):
        raise JaxddError(
            "a teacher is asked, and there is none: give one, or config.student.share=0 and answers by 'labels'."
        )
    real = Real.of_config(full["data"]) if real is None else real
    pool, num_classes = real.train, real.dataset.num_classes
    check_in_memory(pool.images, "queries")
    images, truth = jnp.asarray(pool.images), np.asarray(pool.labels.values)
    most = query["start"] * num_classes + query["rounds"] * query["size"]
    if most >= len(truth):
        raise JaxddError(
            f"{most} labels are asked for in all, and the pool has {len(truth)} examples, of which some must be left."
        )
    key_start = jax.random.fold_in(key_of(full["seed"]), _START)
    start = by_class(choose.uniform)(key_start, np.arange(len(truth)), pool.labels, query["start"])
    network = two_headed(student["model"], real.dataset.image_shape, num_classes)
    numbers, everything = real.dataset.train.numbers, np.full((len(truth), num_classes), 1 / num_classes, np.float32)
    seen_so = digest([images, numbers])
    about = {"config": {**full, "data": told(full["data"])}, "data": real.dataset.source_hash, "pool": seen_so}
    rounds = Rounds(workdir, about, numbers)
    answered = Answers(teacher, images, numbers, num_classes, workdir, pool=seen_so) if teacher is not None else None
    if taught and answered is not None:
        everything = answered.about(np.arange(len(truth)))
        rounds.depend_on({"teacher": digest([everything])})
    course = _Course(full, network, images, truth, everything, answered, most)
    course.take(np.asarray(start.rows), np.eye(num_classes)[truth[start.rows]])
    state = None
    for number in range(query["rounds"] + 1):
        if number < len(rounds.done):
            held = rounds.done[number]
            course.take(places_of(held["asked"], numbers), from_json(held["answers"], num_classes))
            continue
        asked, given = np.zeros(0, int), np.zeros((0, num_classes), np.float32)
        if number:
            state = course.train(number - 1) if state is None else state  # after a stop the same again
            asked, given = course.question(state, number)
            course.take(asked, given)
        state = course.train(number)
        seen = seen_by(network, state, real.test.images, student["share"])
        right = np.asarray(seen.probabilities).argmax(1) == np.asarray(real.test.labels.values)
        wrong = int((given.argmax(1) != truth[asked]).sum())
        rounds.add(
            {
                "round": number,
                "labels": len(course.labelled),
                "asked": numbers[asked].tolist(),
                "answers": given.tolist() if answers == "teacher_soft" else given.argmax(1).tolist(),
                "wrong": wrong,
                "all_wrong": wrong + (rounds.done[-1]["all_wrong"] if number else 0),
                "accuracy": float(right.mean()),
            }
        )
    to_teacher = len(truth) if taught else 0 if answers == "labels" else query["rounds"] * query["size"]
    return {"config": full, "teacher_queries": to_teacher, "rounds": rounds.done}


@dataclasses.dataclass
class _Course:
    """A pool, and what has labels so far."""

    full: Mapping[str, Any]
    network: Network
    images: Array
    truth: np.ndarray
    everything: np.ndarray
    """What the teacher says of all, where he has a share of the loss."""
    teacher: Answers | None
    most: int
    """How many labels there will be."""

    def __post_init__(self):
        self.root = key_of(self.full["seed"])
        self.student = _student(self.full["student"])
        self.labelled: list[int] = []
        self.labels = np.zeros_like(self.everything)

    def take(self, rows: np.ndarray, answers: np.ndarray) -> None:
        self.labels[rows] = answers
        self.labelled += rows.tolist()

    def train(self, number: int) -> NetworkState:
        """The student of a round, on what has labels now."""
        key, rows = self._key(number, 0), np.asarray(self.labelled)
        pool = (self.images, self.labels, self.everything)
        return fit_two_headed(self.network, *pool, rows, key, most=self.most, student=self.student)

    def question(self, state: NetworkState, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows that are asked in a round, by what a student makes of the pool, and the answers `(k, classes)`."""
        key_pick, key_answer = jax.random.split(self._key(number, 1))
        query = self.full["query"]
        free = np.ones(len(self.truth), bool)
        free[self.labelled] = False
        padded = np.concatenate([self.labelled, np.full(self.most - len(self.labelled), self.labelled[0])])
        seen = seen_by(self.network, state, self.images, self.student.share)
        known = Pool(seen, padded, free, (query["teacher_error"] or 0.0) * int(free.sum()))
        rows = np.asarray(RULES[query["rule"]](known, query["size"], key_pick))
        return rows, noisy(self._answers(rows), query["noise"], key_answer)

    def _answers(self, rows: np.ndarray) -> np.ndarray:
        classes, by = np.eye(self.labels.shape[1], dtype=np.float32), self.full["query"]["answers"]
        if by == "labels" or self.teacher is None:
            return classes[self.truth[rows]]
        found = self.teacher.about(rows)
        return found if by == "teacher_soft" else classes[found.argmax(1)]

    def _key(self, number: int, stream: int) -> Key:
        return jax.random.fold_in(jax.random.fold_in(self.root, number), stream)


_START = 0x73746172  # "star": another stream than those of the rounds


def _student(section: Mapping[str, Any]) -> Student:
    return Student(**{name: section[name] for name in Student._fields})
