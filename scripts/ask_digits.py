#!/usr/bin/env python3
"""Queries to a teacher on scikit-learn's digits, through `workflows.ask`; prints one JSON object.

    python scripts/ask_digits.py wrong --seed 0   # a teacher who is wrong at times answers: Robust Active Distillation
    python scripts/ask_digits.py biased --seed 0  # labels are asked for, a biased teacher is distilled: ActiveKD

`wrong`: the teacher is logistic regression on 60 examples by chance; 1,000 others are the pool, of which the student
has the labels of one of each class. One round of 100 questions, answered by the class that the teacher thinks most
likely, or with --soft by its probabilities. The share of wrong answers that "robust" expects is measured by five-fold
cross-validation on the teacher's 60 examples.

`biased`: the teacher takes an example for the class whose mean is nearest in a random projection to ten dimensions, of
1,200 examples that are the pool; its probabilities are those of Gaussians around the means, their logits divided by
--softened. One label of each class, then five rounds of ten; the answers are right.

The other 597 digits are the test. With --held_out they are not looked at: 200 of the training digits take their place.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np

from jaxdd import data, workflows
from jaxdd.errors import JaxddError
from jaxdd.workflows import Real
from jaxdd.workflows.queries import RULES

TRAIN, TAUGHT, POOL, DIMENSIONS = 1200, 60, 1000, 10
WRONG = ("random", "margin", "robust")


def split(seed: int, held_out: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Digits `(n, 8, 8, 1)` of 0 to 1 and their labels: to train and to test on."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise JaxddError("the digits are scikit-learn's: pip install 'jaxdd[selection]'.") from error
    images, labels = map(np.asarray, load_digits(return_X_y=True))
    images = (images / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    order = np.random.default_rng(seed).permutation(len(labels))
    train, test = order[:TRAIN], order[TRAIN:]
    if held_out:
        train, test = train[:-200], train[-200:]
    return images[train], labels[train], images[test], labels[test]


def as_real(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> Real:
    """As networks see them; the pool is x."""
    dataset = data.from_arrays(x, y, x_test, y_test, name="digits", validation=0.0)
    transform = data.fit_transform("standardize", dataset.train.images)
    stored, test = (data.real_data(part, transform, 10) for part in (dataset.train, dataset.test))
    return Real(dataset, transform, stored, None, None, test)


def wrong(seed: int, held_out: bool, options: dict[str, Any], *, soft: bool = False) -> dict[str, Any]:
    """Rules beside each other where the teacher answers."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold, cross_val_score

    x, y, *test = split(seed, held_out)
    pool = slice(TAUGHT, TAUGHT + POOL)
    real = as_real(x[pool], y[pool], *test)
    seen = np.asarray(real.transform.apply(x[:TAUGHT])).reshape(TAUGHT, -1)
    learner = LogisticRegression(max_iter=5000)
    folds = KFold(5, shuffle=True, random_state=seed)
    error = 1 - float(cross_val_score(learner, seen, y[:TAUGHT], cv=folds).mean())
    learner.fit(seen, y[:TAUGHT])

    def teacher(images):
        found = np.zeros((len(images), 10))
        found[:, learner.classes_] = learner.predict_proba(np.asarray(images).reshape(len(images), -1))
        return found

    images, labels = np.asarray(real.train.images), np.asarray(real.train.labels.values)
    found: dict[str, Any] = {
        "expected_error": error,
        "teacher_error": float((teacher(images).argmax(1) != labels).mean()),
    }
    for rule in WRONG:
        answers = "teacher_soft" if soft else "teacher"
        query = {"rule": rule, "rounds": 1, "size": 100, "answers": answers, "teacher_error": error}
        result = workflows.ask({"seed": seed, "query": query, "student": {"share": 0, **options}}, teacher, real=real)
        start, end = result["rounds"]
        found |= {"start": start["accuracy"], rule: end["accuracy"], f"{rule}_wrong": end["wrong"] / 100}
    return found


def biased(seed: int, held_out: bool, options: dict[str, Any], *, softened: float = 4.0) -> dict[str, Any]:
    """Rules beside each other where a biased teacher is distilled, if he has a share."""
    real = as_real(*split(seed, held_out))
    images, labels = np.asarray(real.train.images), np.asarray(real.train.labels.values)
    projection = np.random.default_rng(seed).normal(size=(64, DIMENSIONS))

    def projected(images):
        return np.asarray(images).reshape(len(images), -1) @ projection

    means = np.stack([projected(images[labels == c]).mean(0) for c in range(10)])
    spread = np.mean(np.square(projected(images) - means[labels]))

    def teacher(images):
        logits = -np.square(projected(images)[:, None] - means).sum(2) / (2 * spread * softened)
        found = np.exp(logits - logits.max(1, keepdims=True))
        return found / found.sum(1, keepdims=True)

    found: dict[str, Any] = {"teacher_error": float((teacher(images).argmax(1) != labels).mean())}
    for rule in RULES:
        if rule == "robust":  # its teacher answers
            continue
        result = workflows.ask({"seed": seed, "query": {"rule": rule}, "student": options}, teacher, real=real)
        course = [row["accuracy"] for row in result["rounds"]]
        found |= {rule: course[-1], f"{rule}_late": float(np.mean(course[3:])), f"{rule}_course": course}
    found["start"] = found["random_course"][0]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", choices=("wrong", "biased"))
    parser.add_argument("--share", type=float, default=0.5, help="of the biased teacher in the loss; 0 for none")
    parser.add_argument("--softened", type=float, default=4.0, help="divides the biased teacher's logits")
    parser.add_argument("--soft", action="store_true", help="the teacher that is wrong answers with probabilities")
    parser.add_argument("--steps", type=int, help="of training in a round")
    parser.add_argument("--held_out", action="store_true", help="measure on held-out training digits")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not arguments.softened > 0:
        raise JaxddError(f"--softened must be above 0, got {arguments.softened}.")
    options = {} if arguments.steps is None else {"steps": arguments.steps}
    began = time.perf_counter()
    if arguments.teacher == "wrong":
        found = wrong(arguments.seed, arguments.held_out, options, soft=arguments.soft)
    else:
        options["share"] = arguments.share
        found = biased(arguments.seed, arguments.held_out, options, softened=arguments.softened)
    print(json.dumps({**found, "seconds": time.perf_counter() - began}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
