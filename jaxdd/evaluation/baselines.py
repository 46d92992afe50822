"""What a distilled set stands beside: random real images in the same label regime, and all the real data."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdd import __version__
from jaxdd._files import write_atomically
from jaxdd.data import balanced_choice
from jaxdd.errors import JaxddError
from jaxdd.evaluation import protocols
from jaxdd.evaluation.arrays import centred
from jaxdd.evaluation.protocols import Protocol
from jaxdd.evaluation.score import Score, evaluate
from jaxdd.kernels import label_solve
from jaxdd.synthetic import pixels, render
from jaxdd.types import Array, Batch, Distilled, Key, Network, RealData

# Real examples to which the labels of a baseline are fitted.
NUM_TARGETS = 5000


def random_real(
    key: Key,
    data: RealData,
    per_class: int,
    *,
    like: Distilled,
    kernel: Callable[..., Array] | None = None,
    ridge: float = 1e-6,
) -> Distilled:
    """Random real images of each class with labels in the regime and convention of a distilled set.

    In the "hard" regime they keep their own. In the "learned" regime they get the best labels they can have under
    `kernel` (Label Solve of Nguyen et al. 2021) for a class-balanced sample of about 5,000 real examples.

    Args:
      data: the training data.
      like: the distilled set; `dataclasses.replace(like, label_regime="hard")` asks for the plain baseline.
      kernel, ridge: those of a kernel method.

    Raises:
      JaxddError: if a class has fewer than `per_class` images, or labels have to be learned without a kernel.
    """
    learned = like.label_regime == "learned"
    if learned and (kernel is None or like.label_convention != "centred"):
        raise JaxddError(
            "the baseline for learned labels needs the method's kernel and centred labels; "
            "the one with hard labels needs neither."
        )
    synthetic = pixels(per_class, learn_labels=learned)
    key_images, key_targets = jax.random.split(key)
    params = synthetic.init(key_images, data)
    if learned and kernel is not None:
        classes = data.labels.num_classes
        targets = min(min(data.labels.counts), max(2 * per_class, NUM_TARGETS // classes))
        chosen = balanced_choice(key_targets, data.labels, targets)
        goal = centred(data.labels.values[chosen], "hard", classes)
        params["labels"] = label_solve(kernel, params["images"], data.images[chosen], goal, ridge=ridge)
    drawn = render(synthetic, params)
    labels = drawn.labels
    if like.label_convention == "hard":
        labels = jnp.argmax(labels, axis=1).astype(jnp.int32)
    elif like.label_convention == "probability":
        labels = labels + 1 / labels.shape[1]
    return dataclasses.replace(drawn, labels=labels, label_convention=like.label_convention)


def full_data_reference(
    network: Network,
    train: RealData,
    test: Batch,
    protocol: str | Protocol = "full-data",
    *,
    identity: Mapping[str, Any],
    num_networks: int = 5,
    seed: int = 0,
    cache: bool = True,
    cache_dir: str | os.PathLike | None = None,
    networks_per_batch: int | None = None,
) -> Score:
    """Networks trained on all the real data, with their own labels; computed once and cached on disk.

    Args:
      protocol: one with a single learning rate.
      identity: JSON-able facts that, with the protocol, the sizes, `num_networks`, the seed and jaxdd's version,
        determine the result: the hash of the source data, its split and transform, the model's name and options.
      cache: False computes it anew and leaves no file; for a model by dotted path, whose code may change under its
        name.
      cache_dir: `$JAXDD_CACHE_DIR/references` or `~/.cache/jaxdd/references` by default. A file in it that cannot be
        read is computed again; a directory that cannot be written is left alone.
    """
    protocol = protocols.get(protocol)

    def compute() -> Score:
        whole = Distilled(images=train.images, labels=train.labels.values)
        return evaluate(
            network,
            whole,
            None,
            test,
            protocol,
            num_networks=num_networks,
            key=jax.random.key(seed),
            networks_per_batch=networks_per_batch,
        )

    if not cache:
        return compute()
    facts = {
        "jaxdd_version": __version__,
        "identity": dict(identity),
        "protocol": dataclasses.asdict(protocol),
        "sizes": [len(train.images), len(test.images)],
        "num_networks": num_networks,
        "seed": seed,
    }
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    if cache_dir is None:
        cache_dir = pathlib.Path(os.environ.get("JAXDD_CACHE_DIR") or "~/.cache/jaxdd").expanduser() / "references"
    path = pathlib.Path(cache_dir) / f"{name}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        stored = json.loads(path.read_text())["score"]
        return Score(**{**stored, "accuracies": tuple(stored["accuracies"]), "selection": ()})
    score = compute()
    with contextlib.suppress(JaxddError):
        write_atomically(path, json.dumps({"score": dataclasses.asdict(score), "of": facts}, indent=2) + "\n")
    return score
