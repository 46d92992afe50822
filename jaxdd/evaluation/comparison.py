"""A distilled set beside its baselines, row by row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from jaxdd.evaluation.baselines import random_real
from jaxdd.evaluation.kernel import kernel_accuracy
from jaxdd.evaluation.protocols import Protocol
from jaxdd.evaluation.score import Score, evaluate
from jaxdd.types import Array, Batch, Distilled, Key, Network, RealData


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the comparison.

    Attributes:
      name: "distilled", "random real, learned labels", "random real, hard labels" or "full data".
      num_images, num_bits: of each set behind the row.
      score: of trained networks, if any were trained.
      kernel_accuracy: fraction, for kernel methods; the mean over the sets behind the row.
    """

    name: str
    num_images: int
    num_bits: int
    score: Score | None = None
    kernel_accuracy: float | None = None


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
    kernel: Callable[..., Array] | None = None,
    ridge: float = 1e-6,
    full_data: Score | None = None,
    networks_per_batch: int | None = None,
) -> list[Row]:
    """Measure a distilled set and, the same way, as many random real images of each class.

    The baselines are in the label regime of the distilled set; where that is "learned", a second one with hard labels
    follows. Each is `num_networks` independent draws, one for each network, so its spread shows the luck of the draw
    too. All sets are measured with networks from the same keys.

    Args:
      network: what to train; None leaves only kernel accuracies.
      train, validation, test: real data in the set's space.
      kernel, ridge: those of a kernel method, or None.
      full_data: a score from `full_data_reference`, to be put in the last row.

    Raises:
      JaxddError: as `evaluate` and `random_real`.
    """
    per_class = max(1, len(distilled.images) // train.labels.num_classes)
    keys = jax.random.split(jax.random.fold_in(key, 1), num_networks)

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
                key=key,
                networks_per_batch=networks_per_batch,
            )
        if kernel is not None:
            kernel_mean = float(np.mean([kernel_accuracy(kernel, one, test, ridge=ridge) for one in sets]))
        return Row(name, len(sets[0].images), sets[0].num_bits, score, kernel_mean)

    def random_row(name: str, like: Distilled) -> Row:
        return row(name, [random_real(k, train, per_class, like=like, kernel=kernel, ridge=ridge) for k in keys])

    rows = [row("distilled", [distilled])]
    if distilled.label_regime == "learned" and kernel is not None:
        rows.append(random_row("random real, learned labels", distilled))
    rows.append(random_row("random real, hard labels", dataclasses.replace(distilled, label_regime="hard")))
    if full_data is not None:
        rows.append(Row("full data", len(train.images), 8 * train.images.size, full_data))
    return rows
