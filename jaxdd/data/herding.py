"""Herding (Welling 2009, "Herding Dynamical Weights to Learn"): real examples whose mean is that of their class."""

from __future__ import annotations

import numpy as np
from jax.typing import ArrayLike

from jaxdd.errors import JaxddError
from jaxdd.types import Labels


def herding(features: ArrayLike, labels: Labels, per_class: int) -> np.ndarray:
    """Greedily the examples that bring the mean of those chosen closest to the mean of their class.

    In each class the k-th is `argmin_x |mu - (x + sum of those before) / k|`, among those not chosen yet (Rebuffi et
    al. 2017, algorithm 4). Nothing is random.

    Args:
      features: `(n, ..)` in whose space means are compared, the images themselves for one.
      labels: of these examples.
      per_class: how many of each class.

    Returns:
      Positions of the examples, class after class in the order of choice, int32 `(classes * per_class,)`.

    Raises:
      JaxddError: if `per_class` is not at least 1, or a class has fewer examples.
    """
    if per_class < 1 or per_class > min(labels.counts):
        raise JaxddError(
            f"herding chooses between 1 and {min(labels.counts)} examples of each class here, not {per_class}."
        )
    features = np.asarray(features, np.float32).reshape(len(labels.values), -1)
    order, chosen = np.asarray(labels.order), []
    for start, count in zip(labels.starts, labels.counts, strict=True):
        members = order[start : start + count]
        of_class = features[members]
        mean, norms = of_class.mean(0), (of_class**2).sum(1)
        total, free = np.zeros_like(mean), np.ones(count, bool)
        for k in range(1, per_class + 1):
            # |k mu - total - x|² without what is the same for all x
            scores = norms - 2 * of_class @ (k * mean - total)
            best = int(np.argmin(np.where(free, scores, np.inf)))
            chosen.append(members[best])
            free[best], total = False, total + of_class[best]
    return np.array(chosen, np.int32)
