"""Rounds of questions to a teacher: pick, ask, train, measure."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxdd
from jaxdd._files import digest, disk_errors, expanded, write_atomically
from jaxdd._jax import key_of
from jaxdd._numbers import jsonable, positive, whole
from jaxdd.errors import JaxddError, unknown
from jaxdd.selection import by_class, choose, queries
from jaxdd.training import TWO_HEADED, Heads, Protocol, fit_two_headed, seen_by, two_headed
from jaxdd.types import Array, Key, Network, NetworkState
from jaxdd.workflows.config import DATA, EVALUATION, check_sections, filled, told
from jaxdd.workflows.data import Real

Teacher = Callable[[Array], Any]
LOG = "queries.jsonl"
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
    "student": {
        "model": "mlp(width=128, depth=1)",
        "share": TWO_HEADED.teacher_share,
        "temperature": TWO_HEADED.temperature,
        "steps": TWO_HEADED.steps,
        "batch_size": TWO_HEADED.batch_size,
        "learning_rate": TWO_HEADED.learning_rates[0],
        "weight_decay": TWO_HEADED.weight_decay,
    },
}


class _Pool(NamedTuple):
    """What is known of the pool when a question is due."""

    seen: Heads
    labelled: np.ndarray
    """Rows that have labels, filled up with the first to the most that there will be: one program for all rounds."""
    free: np.ndarray
    """bool `(n,)`, rows that may be asked."""
    wrong: float
    """How many answers about those are expected to be wrong."""


RULES: dict[str, Callable[[_Pool, int, Key], Array]] = {
    "random": lambda pool, k, key: queries.random(len(pool.free), k, key, mask=pool.free),
    "entropy": lambda pool, k, key: queries.entropy(pool.seen.probabilities, k, mask=pool.free),
    "margin": lambda pool, k, key: queries.margin(pool.seen.probabilities, k, mask=pool.free),
    "badge": lambda pool, k, key: queries.badge(*pool.seen, k, key, mask=pool.free),
    "k_center": lambda pool, k, key: queries.k_center(
        pool.seen.features, pool.seen.features[pool.labelled], k, mask=pool.free
    ),
    "pcoreset": lambda pool, k, key: queries.pcoreset(
        pool.seen.probabilities, pool.seen.probabilities[pool.labelled], k, mask=pool.free
    ),
    "robust": lambda pool, k, key: queries.robust(
        _unsure(pool.seen.probabilities), k, key, wrong=pool.wrong, mask=pool.free
    ),
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
    if not _within(query["noise"]):
        raise JaxddError(f"config.query.noise must be a probability from 0 to below 1, got {query['noise']!r}.")
    if query["rule"] == "robust" and not _within(query["teacher_error"]):
        raise JaxddError(
            "the rule 'robust' needs the share of wrong answers that is expected, config.query.teacher_error, from 0 "
            f"to below 1, got {query['teacher_error']!r}."
        )
    if student["share"] != 1 and not _within(student["share"]):
        raise JaxddError(f"config.student.share must be between 0 and 1, got {student['share']!r}.")
    for name in ("steps", "batch_size"):
        whole(student[name], f"config.student.{name}")
    for name in ("learning_rate", "temperature"):
        positive(student[name], f"config.student.{name}")
    if student["weight_decay"] != 0:
        positive(student["weight_decay"], "config.student.weight_decay")
    if full["data"]["stream"]:
        raise JaxddError("queries look at the whole pool, in memory: config.data.stream must be False.")
    _protocol(student)
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
    written after each round, and what is there already is not asked again: the same call goes on where it ended.

    Args:
      config: see `complete`.
      teacher: `teacher(images (b, h, w, c)) -> (b, classes)`, probabilities of images as networks see them. It is asked
        about what is picked if it answers, and about all of the pool if it has a share of the loss.
      workdir: where the lines go; None for nowhere.
      real: what the section `data` of the config says, where it is loaded already. The pool are its training examples.

    Returns:
      JSON-able: the `config`; `teacher_queries`, about how many examples the teacher was asked; `rounds`, of each its
      number (0 is the start), how many `labels` there are, which rows of the pool were `asked`, the `answers` (classes,
      or probabilities), how many of these are `wrong`, how many of all so far (`all_wrong`), and the `accuracy` on test
      data.

    Raises:
      JaxddError: for anything wrong in the config or the data, for a teacher that is missing or whose answers are none,
        or a directory with rounds of something else.
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
    images, truth = jnp.asarray(pool.images), np.asarray(pool.labels.values)
    most = query["start"] * num_classes + query["rounds"] * query["size"]
    if most >= len(truth):
        raise JaxddError(
            f"{most} labels are asked for in all, and the pool has {len(truth)} examples, of which some must be left."
        )
    network = two_headed(student["model"], real.dataset.image_shape, num_classes)
    everything = np.full((len(truth), num_classes), 1 / num_classes, np.float32)
    if taught and teacher is not None:
        everything = _answered(teacher, images, num_classes)
    header = {
        "config": {**full, "data": told(full["data"])},
        "data": real.dataset.source_hash,
        "teacher": digest([everything]) if taught else None,
        "jaxdd_version": jaxdd.__version__,
    }
    log = _Log(workdir, header)
    course = _Course(full, network, images, truth, everything, teacher, most)
    key_start = jax.random.fold_in(course.root, _START)
    start = by_class(choose.uniform)(key_start, np.arange(len(truth)), pool.labels, query["start"])
    course.take([int(row) for row in start.rows], np.eye(num_classes)[truth[start.rows]])
    state = None
    for number in range(query["rounds"] + 1):
        if number < len(log.rounds):  # done before
            course.take(log.rounds[number]["asked"], _from_json(log.rounds[number]["answers"], num_classes))
            continue
        asked, given = [], np.zeros((0, num_classes), np.float32)
        if number:
            state = course.train(number - 1) if state is None else state  # after a stop the same again
            asked, given = course.question(state, number)
            course.take(asked, given)
        state = course.train(number)
        seen = seen_by(network, state, real.test.images, student["share"])
        right = np.asarray(seen.probabilities).argmax(1) == np.asarray(real.test.labels.values)
        wrong = int((given.argmax(1) != truth[asked]).sum()) if asked else 0
        log.add(
            {
                "round": number,
                "labels": len(course.labelled),
                "asked": asked,
                "answers": given.tolist() if answers == "teacher_soft" else given.argmax(1).tolist(),
                "wrong": wrong,
                "all_wrong": wrong + (log.rounds[-1]["all_wrong"] if number else 0),
                "accuracy": float(right.mean()),
            }
        )
    to_teacher = len(truth) if taught else 0 if answers == "labels" else query["rounds"] * query["size"]
    return {"config": full, "teacher_queries": to_teacher, "rounds": log.rounds}


@dataclasses.dataclass
class _Course:
    """A pool, and what has labels so far."""

    full: Mapping[str, Any]
    network: Network
    images: Array
    truth: np.ndarray
    everything: np.ndarray
    """What the teacher says of all, where he has a share of the loss."""
    teacher: Teacher | None
    most: int
    """How many labels there will be."""

    def __post_init__(self):
        self.root = key_of(self.full["seed"])
        self.protocol = _protocol(self.full["student"])
        self.labelled: list[int] = []
        self.labels = np.zeros_like(self.everything)

    def take(self, rows: list[int], answers: np.ndarray) -> None:
        self.labels[rows] = answers
        self.labelled += rows

    def train(self, number: int) -> NetworkState:
        """The student of a round, on what has labels now."""
        key, rows = self._key(number, 0), np.asarray(self.labelled)
        pool = (self.images, self.labels, self.everything)
        return fit_two_headed(self.network, *pool, rows, key, most=self.most, protocol=self.protocol)

    def question(self, state: NetworkState, number: int) -> tuple[list[int], np.ndarray]:
        """Rows that are asked in a round, by what a student makes of the pool, and the answers `(k, classes)`."""
        key_pick, key_answer = jax.random.split(self._key(number, 1))
        query = self.full["query"]
        free = np.ones(len(self.truth), bool)
        free[self.labelled] = False
        padded = np.concatenate([self.labelled, np.full(self.most - len(self.labelled), self.labelled[0])])
        seen = seen_by(self.network, state, self.images, self.protocol.teacher_share)
        known = _Pool(seen, padded, free, (query["teacher_error"] or 0.0) * int(free.sum()))
        rows = np.asarray(RULES[query["rule"]](known, query["size"], key_pick))
        return rows.tolist(), _noisy(self._answers(rows), query["noise"], key_answer)

    def _answers(self, rows: np.ndarray) -> np.ndarray:
        classes, by = np.eye(self.labels.shape[1], dtype=np.float32), self.full["query"]["answers"]
        if by == "labels" or self.teacher is None:
            return classes[self.truth[rows]]
        known = self.protocol.teacher_share > 0
        found = self.everything[rows] if known else _answered(self.teacher, self.images[rows], len(classes))
        return found if by == "teacher_soft" else classes[found.argmax(1)]

    def _key(self, number: int, stream: int) -> Key:
        return jax.random.fold_in(jax.random.fold_in(self.root, number), stream)


def _noisy(answers: np.ndarray, noise: float, key: Key) -> np.ndarray:
    """Answers `(k, classes)`, each replaced with this probability by another class than its likeliest."""
    key_flip, key_other = jax.random.split(key)
    k, classes = answers.shape
    other = answers.argmax(1) + np.asarray(jax.random.randint(key_other, (k,), 1, classes))
    flipped = np.asarray(jax.random.uniform(key_flip, (k,))) < noise
    return np.where(flipped[:, None], np.eye(classes, dtype=np.float32)[other % classes], answers)


_START = 0x73746172  # "star": another stream than those of the rounds


class _Log:
    """Rounds that are done, a line each in a file if there is one; the first line says of what."""

    def __init__(self, workdir: str | os.PathLike | None, header: Mapping[str, Any]):
        self._path = None if workdir is None else expanded(workdir) / LOG
        self._header = header
        self.rounds: list[dict[str, Any]] = []
        if self._path is None or not self._path.exists():
            return
        with disk_errors(self._path):
            lines = self._path.read_text().splitlines()
        try:
            found, *self.rounds = map(json.loads, lines)
        except ValueError as error:
            raise JaxddError(f"{self._path} does not hold rounds of queries: take another directory.") from error
        if found != json.loads(json.dumps(header)):
            raise JaxddError(f"{self._path} holds rounds of another config, data or teacher: take another directory.")

    def add(self, row: dict[str, Any]) -> None:
        self.rounds.append(row)
        if self._path is not None:
            write_atomically(self._path, "".join(json.dumps(each) + "\n" for each in (self._header, *self.rounds)))


def _protocol(student: Mapping[str, Any]) -> Protocol:
    return dataclasses.replace(
        TWO_HEADED,
        name="student",
        learning_rates=(student["learning_rate"],),
        warmup=student["steps"] // 10,
        teacher_share=student["share"],
        **{name: student[name] for name in ("steps", "batch_size", "weight_decay", "temperature")},
    )


def _answered(teacher: Teacher, images: Array, num_classes: int) -> np.ndarray:
    """A teacher's probabilities, if they are such."""
    found = np.asarray(teacher(images), np.float32)
    if found.shape != (len(images), num_classes):
        raise JaxddError(
            f"a teacher asked about {len(images)} images of {num_classes} classes answers with "
            f"({len(images)}, {num_classes}) probabilities, this one with {found.shape}."
        )
    if not (np.isfinite(found).all() and (found >= 0).all() and (abs(found.sum(1) - 1) < 1e-3).all()):
        raise JaxddError("a teacher answers with probabilities, at least 0 and of the sum 1; this one does not.")
    return found


def _from_json(answers: list[Any], num_classes: int) -> np.ndarray:
    """Answers of a line: classes or probabilities."""
    found = np.asarray(answers, np.float32)
    return found if found.ndim == 2 else np.eye(num_classes, dtype=np.float32)[found.astype(int)]


def _unsure(probabilities: Array) -> np.ndarray:
    """One minus what the most likely class is ahead of the second, 0 to 1."""
    two = np.sort(np.asarray(probabilities), axis=1)[:, -2:]
    return 1 - (two[:, 1] - two[:, 0])


def _within(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
