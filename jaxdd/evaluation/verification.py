"""Does a distilled file still give what was recorded for it?"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdd import models
from jaxdd._jax import key_of
from jaxdd.data import Dataset, Split, real_data
from jaxdd.errors import JaxddError
from jaxdd.evaluation.kernel import Predictor, kernel_accuracy
from jaxdd.evaluation.score import Score, evaluate
from jaxdd.synthetic import DistilledDataset
from jaxdd.training import Protocol
from jaxdd.types import Examples

TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Verification:
    """What a distilled file gives when it is evaluated again.

    Attributes:
      score: of networks, unless no model was asked for.
      kernel_accuracy: if the file names a kernel.
      disagreements: a sentence for each figure that is not as recorded, and for data of another source.
      compared: the names of the figures that were compared.
    """

    score: Score | None
    kernel_accuracy: float | None
    disagreements: tuple[str, ...]
    compared: tuple[str, ...]

    @property
    def agrees(self) -> bool | None:
        """Whether everything recorded was found again; None if there was nothing to compare and nothing was wrong."""
        return not self.disagreements if self.compared or self.disagreements else None


def check_fits(stored: DistilledDataset, dataset: Dataset) -> None:
    """Check that a distilled set can be evaluated on a data set: equal image shapes and classes.

    Label vectors say themselves how many classes there are; for hard labels the header does, and where it does not,
    they need only be labels of the data set.

    Raises:
      JaxddError: if they do not fit.
    """
    if stored.header["label_convention"] == "features":
        raise JaxddError("this set's labels are features, which know no classes: no accuracy can be measured of it.")
    if stored.labels.ndim == 2:
        classes = stored.labels.shape[1]
    else:
        known = stored.header["data"].get("num_classes")
        classes = known or max(int(stored.labels.max()) + 1, dataset.num_classes)
    if stored.images.shape[1:] != dataset.image_shape or classes != dataset.num_classes:
        raise JaxddError(
            f"the distilled set has {classes} classes of images {stored.images.shape[1:]}, "
            f"{dataset.name} has {dataset.num_classes} of {dataset.image_shape}: give the data it was distilled from."
        )


def verify(
    source: str | os.PathLike | DistilledDataset,
    dataset: Dataset,
    *,
    model: str | None = "convnet",
    model_options: Mapping[str, Any] | None = None,
    protocol: str | Protocol | None = None,
    num_networks: int = 5,
    seed: int = 0,
    recorded: Mapping[str, Any] | None = None,
    networks_per_batch: int | None = None,
) -> Verification:
    """Read a distilled file, checking its integrity, and evaluate it again on the test data of its source.

    Args:
      source: a file, or one already read.
      dataset: the real data; its validation split should be the one that was held out.
      model, model_options: for `models.build`; None evaluates the kernel alone.
      protocol: the file's own by default.
      recorded: earlier figures to compare with, as fractions, as `Row.as_dict` gives them: "accuracy_mean" (with
        "accuracy_std" and "networks", if known) agrees within two standard errors of the difference,
        "kernel_accuracy" within 1e-3; what is None is not compared.

    Raises:
      JaxddError: if the file is not whole, does not fit `dataset` (see `check_fits`), or as `kernel_accuracy`.
    """
    stored = source if isinstance(source, DistilledDataset) else DistilledDataset.read(source)
    check_fits(stored, dataset)
    header, distilled = stored.header, stored.distilled()

    def batch(split: Split) -> Examples:
        return real_data(split, stored.transform, dataset.num_classes).examples

    test = batch(dataset.test)
    score = kernel_found = None
    predictor = Predictor.of(header.get("kernel"), dataset.image_shape, dataset.num_classes)
    if model is not None:
        network = models.build(model, dataset.image_shape, dataset.num_classes, **(model_options or {}))
        score = evaluate(
            network,
            distilled,
            batch(dataset.validation) if len(dataset.validation) else None,
            test,
            protocol or header.get("protocol") or "default",
            num_networks=num_networks,
            key=key_of(seed),
            networks_per_batch=networks_per_batch,
            predictor=predictor,
        )
        if score.kernel_accuracies:
            kernel_found = float(np.mean(score.kernel_accuracies))
    if predictor and predictor.kernel:
        kernel_found = kernel_accuracy(predictor, distilled, test)

    recorded = {name: value for name, value in (recorded or {}).items() if value is not None}
    disagreements, compared = [], []

    def check(name: str, found: float, tolerance: float) -> None:
        compared.append(name)
        if not abs(found - recorded[name]) <= tolerance:
            disagreements.append(f"{name} is {found:.4f}, recorded {recorded[name]:.4f} (tolerance {tolerance:.4f})")

    if header["data"].get("source_hash", dataset.source_hash) != dataset.source_hash:
        disagreements.append(f"{dataset.name} is not the data this set was distilled from: their hashes differ")
    if score is not None and "accuracy_mean" in recorded:
        other = recorded.get("accuracy_std", score.std) / math.sqrt(recorded.get("networks", num_networks))
        check("accuracy_mean", score.mean, max(2 * math.hypot(score.standard_error, other), TOLERANCE))
    if kernel_found is not None and "kernel_accuracy" in recorded:
        check("kernel_accuracy", kernel_found, TOLERANCE)
    return Verification(score, kernel_found, tuple(disagreements), tuple(compared))
