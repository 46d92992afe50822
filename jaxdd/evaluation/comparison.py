"""A distilled set beside its baselines, row by row."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxdd.evaluation.baselines import herded, random_real, teach
from jaxdd.evaluation.kernel import Predictor, kernel_accuracy
from jaxdd.evaluation.protocols import Protocol
from jaxdd.evaluation.score import Score, evaluate
from jaxdd.types import Array, Batch, Distilled, HostImages, Key, Network, RealData

NOT_STREAMED = "not measured on streamed data"


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the comparison.

    Attributes:
      name: "distilled", "random real, learned labels" (of a kernel), "random real, a teacher's labels", "random real,
        hard labels", "herding" (of pixels, beside hard labels) or "full data"; with `NOT_STREAMED` in brackets of what
        needs all real images in memory and they stay on the host.
      num_images: of each set behind the row.
      num_bits: what storing such a set costs, None if that is not known. Random real images are stored as the
        distilled set is, 32 bits a pixel entry, also where their source has 8 bits.
      label_regime: "hard" or "learned".
      score: of trained networks, if any were trained.
      kernel_accuracy: fraction, for kernel methods; the mean over the sets behind the row.
    """

    name: str
    num_images: int
    num_bits: int | None
    label_regime: str
    score: Score | None = None
    kernel_accuracy: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: what tables and records show of a row; None for what was not measured.

        `accuracy_std` is None for a single network too, which has no spread.
        """
        score = self.score
        return {
            "name": self.name,
            "num_images": self.num_images,
            "bits": self.num_bits,
            "label_regime": self.label_regime,
            "kernel_accuracy": self.kernel_accuracy,
            "accuracy_mean": score.mean if score else None,
            "accuracy_std": score.std if score and len(score.accuracies) > 1 else None,
            "networks": len(score.accuracies) if score else None,
            "protocol": score.protocol if score else None,
            "learning_rate": score.learning_rate if score else None,
        }


def compare(
    network: Network | None,
    distilled: Distilled,
    train: RealData,
    validation: Batch | None,
    test: Batch,
    protocol: str | Protocol = "default",
    *,
    key: Key,
    num_networks: int = 5,
    predictor: Predictor | None = None,
    full_data: Score | None = None,
    full_bits: int | None = None,
    networks_per_batch: int | None = None,
) -> list[Row]:
    """Measure a distilled set and, the same way, random real images of the same number of bits, as many of each class.

    The baselines are in the label regime of the distilled set: where that is "learned", their labels are solved for
    under the method's kernel, or given by a network of the same kind trained on all real data; a second baseline with
    hard labels follows. Each is `num_networks` independent draws, one for each network, so its spread shows the luck of
    the draw too. Beside hard labels there is one set of herded real images as well. All sets are measured with networks
    from the same keys.

    Args:
      network: what to train; None leaves only kernel accuracies.
      train, validation, test: real data in the set's space.
      predictor: of a kernel method, see `Predictor.of`.
      full_data: a score from `full_data_reference`, to be put in the last row.
      full_bits: what storing all the training data costs, for that row.

    Raises:
      JaxddError: as `evaluate`, `kernel_accuracy` and `random_real`.
    """
    per_class = math.ceil(_affordable(distilled) / train.labels.num_classes)
    key_draw, key_evaluate, key_teacher = jax.random.split(key, 3)
    keys = jax.random.split(key_draw, num_networks)
    solver = predictor if predictor and predictor.kernel else None

    def row(name: str, sets: list[Distilled]) -> Row:
        score = kernel_mean = None
        if network is not None:
            score = evaluate(
                network,
                sets,
                validation,
                test,
                protocol,
                num_networks=num_networks,
                key=key_evaluate,
                networks_per_batch=networks_per_batch,
                predictor=predictor,
            )
            if score.kernel_accuracies:
                kernel_mean = float(np.mean(score.kernel_accuracies))
        if solver:
            kernel_mean = float(np.mean([kernel_accuracy(solver, one, test) for one in sets]))
        return Row(name, len(sets[0].images), sets[0].num_bits, sets[0].label_regime, score, kernel_mean)

    def random_row(name: str, like: Distilled, teacher: Callable[[Array], Array] | None = None) -> Row:
        sets = [random_real(k, train, per_class, like=like, predictor=predictor, teacher=teacher) for k in keys]
        return row(name, sets)

    def missing_row(name: str) -> Row:
        return Row(f"{name} ({NOT_STREAMED})", per_class * train.labels.num_classes, None, distilled.label_regime)

    streamed = isinstance(train.images, HostImages)
    rows = [row("distilled", [distilled])]
    if distilled.label_regime == "learned" and solver:
        rows.append(random_row("random real, learned labels", distilled))
    elif distilled.label_regime == "learned" and network is not None:
        name = "random real, a teacher's labels"
        if streamed:
            rows.append(missing_row(name))
        else:
            rows.append(random_row(name, distilled, teach(network, train, key=key_teacher)))
    rows.append(random_row("random real, hard labels", dataclasses.replace(distilled, label_regime="hard")))
    if distilled.label_regime == "hard" and network is not None:
        rows.append(missing_row("herding") if streamed else row("herding", [herded(train, per_class, like=distilled)]))
    if full_data is not None:
        rows.append(Row("full data", len(train.images), full_bits, "hard", full_data))
    return rows


def _affordable(distilled: Distilled) -> int:
    """How many plain images cost what a set does: never more than it renders, where it is smaller than its images."""
    count, image = len(distilled.images), 32 * distilled.images[0].size
    return min(count, distilled.num_bits // image or 1) if distilled.num_bits else count
