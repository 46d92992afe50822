"""A distilled set beside its baselines, row by row."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import _progress, _stopping
from jaxdd._numbers import of_each
from jaxdd.errors import JaxddError
from jaxdd.evaluation.accuracy import share_right
from jaxdd.evaluation.arrays import check_in_memory
from jaxdd.evaluation.baselines import coreset, in_regime, own_teacher, random_real, teach
from jaxdd.evaluation.confusion import Confusion
from jaxdd.evaluation.kernel import Predictor, kernel_predictions
from jaxdd.evaluation.measurable import measurable
from jaxdd.evaluation.score import Score, evaluate
from jaxdd.selection import diversity, pixels
from jaxdd.training import Protocol
from jaxdd.types import Distilled, Examples, Key, Network, RealData

_REAL = 5000  # real images that diversity is measured beside


class Diversity(NamedTuple):
    """How many different images there are in a set, and how well they stand for the real ones; by pixels as networks
    see them. See `selection.diversity`."""

    vendi: float
    """Effective number of different images."""
    coverage: float
    """Share of the real images that have one of the set among their five nearest."""
    representativeness: float
    """Share of the real images' variance that their nearest image of the set explains; below 0 for images that are
    farther from all than their mean is."""

    @classmethod
    def of(cls, sets: Sequence[Distilled], train: RealData) -> Diversity:
        """The mean over some sets, beside (5,000 evenly spaced examples of) real data in memory."""
        real = pixels(train)[:: -(-len(train.images) // _REAL)]
        of_each = []
        for one in sets:
            flat = jnp.reshape(one.images, (len(one.images), -1))
            of_each.append(
                (diversity.vendi(flat), diversity.coverage(real, flat), diversity.representativeness(real, flat))
            )
        return cls(*(float(value) for value in np.mean(of_each, axis=0)))


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the comparison.

    Attributes:
      name: "distilled", "random real, learned labels" (of a kernel), "random real, a teacher's labels", "random real,
        hard labels", "herding" (of pixels, beside hard labels) or "full data".
      num_images: of each set behind the row.
      num_bits: what storing such a set costs, None if that is not known. Random real images are stored as the
        distilled set is, 32 bits a pixel entry, also where their source has 8 bits.
      label_regime: "hard" or "learned".
      score: of trained networks, if any were trained.
      kernel_accuracy: fraction, for kernel methods; the mean over the sets behind the row.
      obstacle: why nothing was measured, if it could not be.
      kernel_confusion: which classes kernel regression took for which, over the sets behind the row; that of networks
        is their score's.
      diversity: of its pixels, the mean over the sets behind the row, if that was asked for.
    """

    name: str
    num_images: int
    num_bits: int | None
    label_regime: str
    score: Score | None = None
    kernel_accuracy: float | None = None
    obstacle: str | None = None
    kernel_confusion: Confusion | None = dataclasses.field(default=None, compare=False)
    diversity: Diversity | None = None

    @property
    def note(self) -> str | None:
        """What a reader must know of the row beside its figures."""
        if self.obstacle is not None:
            return f"not measured: {self.obstacle}"
        if self.score is not None and self.score.fell_back:
            return "rate fixed, no validation data"
        return None

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
            "note": self.note,
            **(self.diversity._asdict() if self.diversity else {}),
        }


def compare(
    network: Network | None,
    distilled: Distilled,
    train: RealData,
    validation: Examples | None,
    test: Examples,
    protocol: str | Protocol = "default",
    *,
    key: Key,
    num_networks: int = 5,
    predictor: Predictor | None = None,
    full_data: Score | None = None,
    full_bits: int | None = None,
    networks_per_batch: int | None = None,
    rules: Sequence[str] | None = None,
    diverse: bool = False,
) -> list[Row]:
    """Measure a distilled set and, the same way, random real images of the same number of bits, as many of each class,
    or where a method was given unequal numbers as many as these.

    The baselines are in the label regime of the distilled set: where that is "learned", their labels are solved for
    under the method's kernel, or given by a network of the same kind trained on all real data; a second baseline
    with hard labels follows. Each is `num_networks` independent draws, one for each network, so its spread shows
    the luck of the draw too. Beside hard labels there is one set of herded real images as well, or those of other
    `rules`. All sets are measured with networks from the same keys. A baseline that cannot be had (see
    `measurable`) is a row that says why.

    Args:
      network: what to train; None leaves only kernel accuracies.
      train, validation, test: real data in the set's space.
      predictor: of a kernel method, see `Predictor.of`.
      full_data: a score from `full_data_reference`, to be put in the last row.
      full_bits: what storing all the training data costs, for that row.
      rules: of choice, by which more baselines are chosen, see `measurable`.
      diverse: also say how diverse each set is, see `Diversity`.

    Raises:
      JaxddError: as `measurable`, and as `evaluate` and `kernel_accuracy` of the distilled set.
    """
    if diverse:
        check_in_memory(train.images, "the diversity of sets")
    possible = measurable(network, distilled, train, validation, protocol, predictor=predictor, rules=rules)
    key_draw, key_evaluate, key_teacher = jax.random.split(key, 3)
    keys = jax.random.split(key_draw, num_networks)
    solver = predictor if predictor and predictor.kernel else None

    def row(name: str, sets: list[Distilled]) -> Row:
        score = kernel_mean = confusion = None
        _stopping.check()
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
                kernel_mean, confusion = float(np.mean(score.kernel_accuracies)), score.kernel_confusion
        if solver:
            predicted = np.stack([kernel_predictions(solver, one, test) for one in sets])
            kernel_mean = float(share_right(predicted, test).mean())
            confusion = Confusion.of(test.labels, predicted, train.labels.num_classes)
        facts = (len(sets[0].images), sets[0].num_bits, sets[0].label_regime)
        how_diverse = Diversity.of(sets, train) if diverse else None
        return Row(name, *facts, score, kernel_mean, kernel_confusion=confusion, diversity=how_diverse)

    def sets_of(name: str, regime: str) -> list[Distilled]:
        like, per_class = in_regime(distilled, regime), possible.per_class
        if not name.startswith("random"):
            return [coreset(name.replace(" ", "_"), train, per_class, like=like, key=key_draw)]
        teacher = None
        if network is not None and regime == "learned" and not solver:
            teacher = own_teacher(distilled) or teach(network, train, key=key_teacher)
        return [random_real(k, train, per_class, like=like, predictor=predictor, teacher=teacher) for k in keys]

    with _progress.phase("evaluating distilled"):
        rows = [row("distilled", [distilled])]
    for name, regime, obstacle in possible.baselines:
        if obstacle is None:
            try:
                with _progress.phase(f"evaluating {name}"):
                    rows.append(row(name, sets_of(name, regime)))
                continue
            except JaxddError as error:  # what no shape tells: a solve that fails
                obstacle = str(error).rstrip(".")
        images = sum(of_each(possible.per_class, train.labels.num_classes, "real images"))
        rows.append(Row(name, images, None, regime, obstacle=obstacle))
    if full_data is not None:
        rows.append(Row("full data", len(train.images), full_bits, "hard", full_data))
    return rows
