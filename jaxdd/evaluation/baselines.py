"""What a distilled set stands beside: random real images in the same label regime, and all the real data."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import _progress, inner
from jaxdd._files import cache_folder, digest_of_facts, expanded, write_atomically
from jaxdd._jax import key_of
from jaxdd._numbers import of_each
from jaxdd._version import __version__
from jaxdd.data import balanced_choice
from jaxdd.errors import JaxddError, unknown
from jaxdd.evaluation.arrays import check_has_classes, check_in_memory, rows_of
from jaxdd.evaluation.kernel import Predictor
from jaxdd.evaluation.score import Score, evaluate
from jaxdd.kernels import label_solve
from jaxdd.losses import centred_one_hot
from jaxdd.selection import by_class, choose, pixels
from jaxdd.synthetic import label_bits, label_codec, labels_of
from jaxdd.training import Protocol, fit, protocols
from jaxdd.types import Array, Content, Cost, Distilled, Draws, Examples, Key, Network, RealData

_RULES = {
    "herding": choose.herding,
    "facility_location": choose.facility_location,
    "k_center": choose.k_center,
    "graph_cut": choose.graph_cut,
    "k_means": choose.k_means,
    "moderate": choose.moderate,
}

# Real examples to which the labels of a baseline are fitted.
NUM_TARGETS = 5000


def random_real(
    key: Key,
    data: RealData,
    per_class: int | Sequence[int],
    *,
    like: Distilled,
    predictor: Predictor | None = None,
    teacher: Callable[[Array], Array] | None = None,
) -> Distilled:
    """Random real images of each class with labels in the regime and convention of a distilled set.

    In the "hard" regime they keep their own. In the "learned" regime they get, for a kernel method, the best labels
    they can have under its kernel (Label Solve of Nguyen et al. 2021) for a class-balanced sample of about 5,000 real
    examples, and else those of a `teacher`. They are to be trained on as the distilled set is.

    Args:
      data: the training data.
      per_class: how many, of each class its own number or of all the same.
      like: the distilled set; `in_regime(distilled, "hard")` asks for the plain baseline.
      predictor: of a kernel method.
      teacher: from images to class probabilities `(n, classes)`, see `teach`.

    Raises:
      JaxddError: if a class has fewer than `per_class` images, labels have to be learned with neither a kernel nor a
        teacher, or the set has features for labels.
    """
    check_has_classes(like)
    learned = like.label_regime == "learned"
    kernel = predictor and predictor.kernel
    if learned and teacher is None and (kernel is None or like.label_convention != "centred"):
        raise JaxddError(
            "the baseline for learned labels needs the method's kernel and centred labels, or a teacher; "
            "the one with hard labels needs neither."
        )
    key_images, key_targets = jax.random.split(key)
    chosen = balanced_choice(jax.random.split(key_images)[0], data.labels, per_class)  # those `pixels` starts from
    images, hard = rows_of(data.images, chosen), rows_of(data.labels.values, chosen)
    classes = data.labels.num_classes
    counts = of_each(per_class, classes, "images per class")
    if learned and predictor and kernel:
        targets = min(min(data.labels.counts), max(2 * max(counts), NUM_TARGETS // classes))
        target = balanced_choice(key_targets, data.labels, targets)
        goal = centred_one_hot(rows_of(data.labels.values, target), classes)
        labels = _solved(images, rows_of(data.images, target), goal, predictor.ridge, kernel=kernel)
    elif learned and teacher is not None and like.label_convention != "hard":
        labels = teacher(images) - (1 / classes if like.label_convention == "centred" else 0)
    else:
        labels = _in_convention(hard, like, classes)
    return _treated_as(like, images, labels, counts)


@functools.partial(jax.jit, static_argnames="kernel")
def _solved(images: Array, targets: Array, goal: Array, ridge: float, *, kernel: Callable[..., Array]) -> Array:
    return label_solve(kernel, images, targets, goal, ridge=ridge)


def rules_of(names: str | None) -> tuple[str, ...] | None:
    """The rules of choice in a list with commas, as in "random,herding,facility"; random real images are always there.

    Raises:
      JaxddError: for one that is unknown, or that looks at more than pixels.
    """
    if names is None:
        return None
    known = {**{name: name for name in _RULES}, "facility": "facility_location"}
    found = [name.strip() for name in names.split(",") if name.strip()]
    for name in found:
        if name not in ("random", *known):
            raise unknown("baseline", name, ("random", *_RULES))
    return tuple(dict.fromkeys(known[name] for name in found if name != "random"))


def coreset(
    rule: str, data: RealData, per_class: int | Sequence[int], *, like: Distilled, key: Key | None = None
) -> Distilled:
    """Real images of each class with their labels, chosen by a rule of `selection.choose` of transformed pixels.

    Args:
      rule: one that looks at nothing else: "herding", "facility_location", "k_center", "graph_cut", "k_means" or
        "moderate".
      data: the training data.
      per_class: how many, of each class its own number or of all the same.
      like: a distilled set with hard labels; what is measured beside it is to be trained on as it is.
      key: for a rule that draws.

    Raises:
      JaxddError: if a class has fewer than `per_class` images, they stay on the host, or the set has features for
        labels.
    """
    check_has_classes(like)
    check_in_memory(data.images, "images that are chosen by a rule")
    counts = of_each(per_class, data.labels.num_classes, "images per class")
    chosen = by_class(_RULES[rule])(key_of(0) if key is None else key, pixels(data), data.labels, counts).rows
    labels = _in_convention(rows_of(data.labels.values, chosen), like, data.labels.num_classes)
    return _treated_as(like, rows_of(data.images, chosen), labels, counts)


def _in_convention(hard: Array, like: Distilled, classes: int) -> Array:
    """Hard labels as those of a set are given."""
    if like.label_convention == "hard":
        return hard
    return jax.nn.one_hot(hard, classes) - (1 / classes if like.label_convention == "centred" else 0)


def _treated_as(like: Distilled, images: Array, labels: Array, counts: tuple[int, ...]) -> Distilled:
    """Real images, so many of each class, as a set that is trained on as the distilled one is."""
    classes = len(counts)
    vectors = jax.ShapeDtypeStruct((len(images), classes), np.float32)
    of_labels = label_bits(like.label_regime, vectors)
    if like.labelling.codec is not None:  # the same teacher's
        beside = label_bits("hard", vectors) if like.label_convention == "hard" else 0
        of_labels = beside + label_codec(like.labelling.codec).num_bits(like.labelling.stored, classes)
    schedule = like.schedule
    return Distilled(
        Content(images),
        dataclasses.replace(like.labelling, values=labels),
        dataclasses.replace(
            like.training,
            schedule=None if schedule is None else _balanced_schedule(schedule, counts),
            kernel=None,
        ),
        Cost.of({"images": 32 * images.size, "labels": of_labels}),
    )


def _balanced_schedule(schedule: Array, counts: tuple[int, ...]) -> Array:
    """A schedule as it is if every step of it sees the same share of every class of a set of these, else all images at
    every step.

    The schedule of a set with images of some classes only would show one with images of all some of its classes.
    """
    steps, size = schedule.shape
    rows, num_images = np.asarray(schedule), sum(counts)
    if rows.max() < num_images:
        of_rows = np.repeat(np.arange(len(counts)), counts)
        seen = np.stack([np.bincount(of_rows[step], minlength=len(counts)) for step in rows])
        if np.all(seen * num_images == size * np.asarray(counts)[None]):
            return schedule
    return inner.ordered_plan(1, num_images, num_images, epochs=steps)


def in_regime(distilled: Distilled, regime: str) -> Distilled:
    """A set as its baseline in a label regime is to be like it: a hard one has no labels of views."""
    labelling = dataclasses.replace(distilled.labelling, regime=regime)
    if regime == "hard":
        labelling = dataclasses.replace(labelling, codec=None, stored={})
    return dataclasses.replace(distilled, labelling=labelling)


def own_teacher(like: Distilled) -> Callable[[Array], Array] | None:
    """Of a set whose labels are those of views: from images to the labels that its codec gives them."""
    codec = like.labelling.codec
    if codec is None or not label_codec(codec).per_view:
        return None
    return jax.jit(lambda images: labels_of(like.labelling, images, Draws(jnp.arange(len(images)))))


def teach(
    network: Network, train: RealData, *, key: Key, protocol: str | Protocol = "teacher"
) -> Callable[[Array], Array]:
    """A network trained on real data, as a function from images to class probabilities.

    Its labels are what random real images are given beside a set whose labels were learned (Qin et al. 2024, "A Label
    is Worth a Thousand Images in Dataset Distillation").

    Raises:
      JaxddError: if the images stay on the host.
    """
    check_in_memory(train.images, "a teacher's labels")
    protocol = protocols.get(protocol)
    with _progress.phase("its teacher"):
        trained = fit(
            network,
            train.images[None],
            train.labels.values[None],
            protocol,
            np.array(protocol.learning_rates[:1]),
            key[None],
            label_convention="hard",
        )
    theta, stats, _ = jax.tree.map(lambda leaf: leaf[0], trained)
    return jax.jit(lambda images: jax.nn.softmax(network.apply(theta, images, stats)[0]))


def full_data_reference(
    network: Network,
    train: RealData,
    test: Examples,
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

    Raises:
      JaxddError: if the images stay on the host.
    """
    check_in_memory(train.images, "networks trained on all real data")
    protocol = protocols.get(protocol)

    def compute() -> Score:
        whole = Distilled(train.images, train.labels.values)
        return evaluate(
            network,
            whole,
            None,
            test,
            protocol,
            num_networks=num_networks,
            key=key_of(seed),
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
    name = digest_of_facts(facts)[:32]
    if cache_dir is None:
        cache_dir = cache_folder() / "references"
    path = expanded(cache_dir) / f"{name}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        stored = json.loads(path.read_text())["score"]
        return Score(**{**stored, "accuracies": tuple(stored["accuracies"]), "selection": (), "kernel_accuracies": ()})
    with _progress.phase("training on all real data, once"):
        score = compute()
    with contextlib.suppress(JaxddError):
        bare = dataclasses.replace(score, confusion=None, kernel_confusion=None)
        write_atomically(path, json.dumps({"score": dataclasses.asdict(bare), "of": facts}, indent=2) + "\n")
    return score
