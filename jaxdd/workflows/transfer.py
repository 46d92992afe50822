"""Measure a set without classes: networks that were pretrained on it, probed and fine-tuned on one data set or another.

Everything here asks the set and its config, and never the method's name: a method that learns from an encoder has the
hyper-parameters and the stages that `training.selfsupervised` names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxdd import data, engine, evaluation, methods, models
from jaxdd.errors import JaxddError
from jaxdd.synthetic import DistilledDataset
from jaxdd.training.selfsupervised import ENCODER, TARGETS
from jaxdd.types import Distilled, Examples, Labels, RealData
from jaxdd.workflows.config import told
from jaxdd.workflows.data import Real


def check(
    product: Distilled, dataset: data.Dataset, *, model: str | None, protocol: evaluation.Protocol, full_data: bool
) -> None:
    """Refuse what could not be measured after a run.

    Args:
      product: a set with features for labels, or its shapes.
      model: that is pretrained on it.

    Raises:
      JaxddError: as `evaluation.check_pretraining`, and for `--full_data`, where the encoder stands.
    """
    if full_data:
        raise JaxddError("--full_data is for sets with classes; the last row of this one is the encoder, of all data.")
    network = models.build(model or "convnet", dataset.image_shape, product.labels.shape[-1])
    try:
        evaluation.check_pretraining(network, product, protocol)
    except JaxddError as error:
        raise JaxddError(f"{str(error).rstrip('.')}; --evaluate=none distils without measuring.") from error


def measure_transfer(
    dataset: DistilledDataset,
    real: Real,
    *,
    model: str,
    protocol: evaluation.Protocol,
    networks: int,
    key: jax.Array,
    target: str | None = None,
    fine_tuning: str | None = None,
    labels_per_class: int | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Scores of a set by name, and the rows of their table.

    The encoder and its features come from the stages of the run that left the set: from the cache, or made again.

    Args:
      real: what it was distilled from.
      model: that is pretrained on it.
      protocol: how.
      networks: how many.
      key: theirs.
      target: name of the data set to measure on, whose images are resized where they have to be; by default `real`'s.
      fine_tuning: protocol of fine-tuning; None for linear probes alone.
      labels_per_class: images of each class that probes and fine-tuning see, drawn by `key`; None for all.
    """
    if fine_tuning is not None:
        evaluation.protocols.get(fine_tuning)  # what is misspelt must not cost the pretraining
    distilled, config = dataset.distilled(), dataset.header["config"]
    name = config["method"]["name"]
    hyper = methods.fields(name, **{field: value for field, value in config["method"].items() if field != "name"})
    if "encoder" not in hyper or "projector" not in hyper:
        raise JaxddError(f"the set's labels are features, but {name!r} does not say of which encoder.")
    shape = real.dataset.image_shape
    train, test = (real.train, real.test.examples) if target is None else _other(target, real)
    if labels_per_class is not None:
        train = _few(train, labels_per_class, jax.random.fold_in(key, 2))
    known = engine.provide(
        real.method(name, hyper), real.stored, config={"data": told(config["data"])}, seed=dataset.header["seed"]
    )
    pretrained = evaluation.pretrain(
        models.build(model, shape, distilled.labels.shape[-1]),
        distilled,
        real.train.images,
        known.tables[TARGETS],
        protocol,
        key=key,
        num_networks=networks,
        encoder=(models.build(hyper["encoder"], shape, hyper["projector"]), known.assets[ENCODER]),
    )
    key_tuned = jax.random.fold_in(key, 1)
    on = target or real.dataset.name
    compared = evaluation.transfer(pretrained, train, test, name=on, key=key_tuned, fine_tuning=fine_tuning)
    rows = [{**row.as_dict(), "model": hyper["encoder"] if row.name == "encoder" else model} for row in compared]
    return _scores(rows, on, model), rows


def _few(train: RealData, per_class: int, key: jax.Array) -> RealData:
    rows = np.asarray(data.balanced_choice(key, train.labels, per_class))
    return RealData.of(train.images[rows], Labels.index(np.asarray(train.labels.values)[rows]))


def _other(target: str, real: Real) -> tuple[RealData, Examples]:
    """Another data set as the networks see theirs: of their shape, and through the transform of what was distilled."""
    dataset = data.resized(data.load(target, validation=0.0), real.dataset.image_shape)
    train, test = (
        data.real_data(split, real.transform, dataset.num_classes) for split in (dataset.train, dataset.test)
    )
    return train, test.examples


def _scores(rows: Sequence[dict[str, Any]], on: str, model: str) -> dict[str, Any]:
    """What a flat result says of the table."""
    scores: dict[str, Any] = {"measured_on": on, "model": model}
    scores |= {"protocol": rows[0]["protocol"], "networks": rows[0]["networks"]}
    for row in rows:
        prefix = "" if row["name"] == "distilled" else f"{row['name'].replace(' ', '_')}_"
        for figure in ("probe_mean", "probe_std", "fine_tuned_mean", "fine_tuned_std"):
            if row[figure] is not None:
                scores[f"{prefix}{figure}"] = row[figure]
    return scores
