#!/usr/bin/env python3
"""Train students on a few rows of a data set, taught by a network that was trained on all; prints one JSON object.

    python scripts/knowledge_in_pruning.py --data=fashion_mnist --kept=0.05 --seed=0

"Distilling the Knowledge in Data Pruning" (Ben-Baruch et al. 2025): a student learns from labels, with weight 1 - a,
and from the teacher's logits, with weight a. It is the same kind of network, and all of them begin alike and see the
same random rows, as many of each class. Accuracy is of the last iterate on test data.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxdd
from jaxdd import data, inner, models, training
from jaxdd.cli import compiled
from jaxdd.data import balanced_choice, epoch_sampler, epoch_steps
from jaxdd.errors import JaxddError
from jaxdd.evaluation.accuracy import accuracy
from jaxdd.training import Protocol

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion_mnist")
    parser.add_argument("--model", default="convnet(width=32)")
    parser.add_argument("--kept", type=float, default=0.05, help="share of the rows")
    parser.add_argument("--teacher_epochs", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--rate", type=float, default=0.02, help="of gradient descent with momentum, falls to zero")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    compiled.keep()  # for other seeds
    dataset = data.load(options.data, validation=0.0)
    transform = data.fit_transform("standardize", dataset.train.pixels())
    real, test = (data.real_data(split, transform, dataset.num_classes) for split in (dataset.train, dataset.test))
    network = models.build(options.model, dataset.image_shape, dataset.num_classes)
    began, batch = time.perf_counter(), 128
    steps = options.teacher_epochs * epoch_steps(len(real.images), batch, complete=True)
    recipe = training.supervised(
        network,
        training.descending(options.rate, steps),
        batch_size=batch,
        sampler=epoch_sampler(batch, complete=True),
    )
    teacher = jaxdd.run(recipe, real, steps=steps, seed=options.seed, progress=False).product
    key_rows, key_student = jax.random.split(jax.random.key(options.seed + 1000))
    rows = balanced_choice(key_rows, real.labels, round(options.kept * len(real.images)) // dataset.num_classes)
    images, labels = real.images[rows], real.labels.values[rows]
    logits = jax.jit(
        lambda images: inner.map_blocks(lambda few: network.apply(teacher.theta, few, teacher.stats)[0], images, 4)
    )(images)

    def score(trained) -> float:
        return float(accuracy(network, trained, test.examples)[0])

    found = {"teacher_accuracy": score(jax.tree.map(lambda leaf: leaf[None], teacher))}
    for share in SHARES:
        protocol = Protocol(
            "student", "", (options.rate,), epochs=options.epochs, batch_size=64, optimizer="sgd", momentum=0.9,
            weight_decay=5e-4, loss="taught", temperature=options.temperature, teacher_share=share,
        )  # fmt: skip
        student = training.fit(
            network,
            images[None],
            labels[None],
            protocol,
            np.array([options.rate]),
            key_student[None],
            teacher_logits=jnp.asarray(logits)[None],
        )
        found[f"share_{round(100 * share)}"] = score(student)
    of_student = protocol.num_steps(len(rows))
    result = {"num_images": len(rows), "steps": of_student, **found, "seconds": time.perf_counter() - began}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except JaxddError as error:
        sys.exit(f"knowledge_in_pruning: {error}")
