"""What can be measured of a set, from shapes, counts and the protocol alone: said before a run, not after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxdd._jax import key_of
from jaxdd._numbers import of_each
from jaxdd.evaluation.arrays import check_has_classes
from jaxdd.evaluation.kernel import Predictor
from jaxdd.training import Protocol, check_trainable, protocols
from jaxdd.types import Distilled, Examples, HostArray, Network, RealData


class Baseline(NamedTuple):
    """Real images that a distilled set is compared with.

    Attributes:
      name: of its row, see `Row`.
      label_regime: "hard" or "learned".
      obstacle: why it cannot be had, or None.
    """

    name: str
    label_regime: str
    obstacle: str | None = None


class Measurable(NamedTuple):
    """What `compare` will measure beside the distilled set itself.

    Attributes:
      per_class: real images of each class in a baseline, or of each its own number.
      baselines: in the order of their rows.
    """

    per_class: int | tuple[int, ...]
    baselines: tuple[Baseline, ...]


def measurable(
    network: Network | None,
    distilled: Distilled,
    train: RealData,
    validation: Examples | None,
    protocol: str | Protocol = "default",
    *,
    predictor: Predictor | None = None,
    rules: Sequence[str] | None = None,
) -> Measurable:
    """Say what of a comparison can be had, before anything is computed. The arguments are those of `compare`.

    Args:
      distilled: a set, or its shapes.
      train: only its counts, and where its images are, play a part.
      rules: of choice, by which real images are chosen that it is compared with, see `rules_of`; by default herding
        where labels are hard and networks are trained.

    Raises:
      JaxddError: if the set itself cannot be measured: its labels are features, the network cannot be trained on it
        by the protocol, or the protocol has to select without `validation`.
    """
    check_has_classes(distilled)
    if network is not None:
        protocol = protocols.get(protocol)
        if validation is None or not len(validation.labels):
            protocol = protocol.without_validation()
        check_trainable(network, distilled, protocol)
        if predictor is not None and predictor.kernel is None:
            theta, stats = jax.eval_shape(network.init, key_of(0))
            jax.eval_shape(network.features, theta, distilled.images, stats)
    counts, streamed = train.labels.counts, isinstance(train.images, HostArray)
    per_class = _per_class(distilled, len(counts))
    wanted = of_each(per_class, len(counts), "real images")
    scarcest, few = int(np.argmin(np.subtract(counts, wanted))), None
    if counts[scarcest] < wanted[scarcest]:
        few = f"class {scarcest} has {counts[scarcest]} real images, fewer than {wanted[scarcest]}"
    baselines = []
    if distilled.label_regime == "learned" and predictor and predictor.kernel:
        uncentred = None if distilled.label_convention == "centred" else "a kernel's labels are centred, these are not"
        baselines.append(Baseline("random real, learned labels", "learned", few or uncentred))
    elif distilled.label_regime == "learned" and network is not None:
        obstacle = STREAMED if streamed and distilled.labelling.codec is None else few
        baselines.append(Baseline("random real, a teacher's labels", "learned", obstacle))
    teacher = None
    if network is not None and protocols.get(protocol).loss in ("distillation", *protocols.TAUGHT):
        teacher = f"protocol {protocols.get(protocol).name!r} learns from a teacher"
    baselines.append(Baseline("random real, hard labels", "hard", few or teacher))
    if rules is None:
        rules = ("herding",) if distilled.label_regime == "hard" and network is not None else ()
    baselines += [Baseline(rule.replace("_", " "), "hard", STREAMED if streamed else few or teacher) for rule in rules]
    return Measurable(per_class, tuple(baselines))


STREAMED = "needs all real images in memory, and the data are streamed"


def _per_class(distilled: Distilled, classes: int) -> int | tuple[int, ...]:
    """Plain images of each class that cost what a set does: as unequal as its own, where each class has some."""
    count, own = _affordable(distilled), distilled.labelling.counts
    if own is None or len(own) != classes or min(own) < 1:
        return math.ceil(count / classes)
    return tuple(-(-each * count // sum(own)) for each in own)


def _affordable(distilled: Distilled) -> int:
    """How many plain images cost what a set does: never more than it renders, where it is smaller than its images."""
    count, image = len(distilled.images), 32 * math.prod(distilled.images.shape[1:])
    return min(count, distilled.num_bits // image or 1) if distilled.num_bits else count
