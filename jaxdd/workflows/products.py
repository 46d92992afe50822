"""What a method's product says of how it can be scored: by its kernel, or by a network that is trained on it.

Everything here asks the product, a set or its shapes, and never the method's name.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import data, evaluation, kernels, models
from jaxdd.errors import JaxddError
from jaxdd.types import Distilled, Examples, Key, Network

_LOG = logging.getLogger("jaxdd")
_POINTS = 5


@dataclasses.dataclass(frozen=True)
class Curve:
    """Scores an iterate on held-out data, as `validate` of `engine.run`.

    Attributes:
      name: of the score, a fraction.
      score: of a set.
      measure: what the score is, in words; "" for the kernel's accuracy in closed form. Iterates are compared by one
        measure only, see `engine.run`.
      points: how many of the run are scored unless the config says; None for as many as the engine does.
    """

    name: str
    score: Callable[[Distilled], float]
    measure: str = ""
    points: int | None = None

    def __call__(self, distilled: Distilled) -> dict[str, float]:
        return {self.name: self.score(distilled)}

    def every(self, steps: int) -> int | None:
        """Steps between two points of a run of so many; None leaves it to the engine."""
        return None if self.points is None else math.ceil(steps / self.points)


def predictor(product: Distilled, dataset: data.Dataset) -> evaluation.Predictor | None:
    """How a set predicts by itself; None for one of no kernel method."""
    facts = None if product.kernel is None else dict(product.kernel)
    return evaluation.Predictor.of(facts, dataset.image_shape, dataset.num_classes)


def check_kernel(predictor: evaluation.Predictor | None, method: str) -> None:
    """Refuse to evaluate by a kernel alone what has none."""
    if predictor is None or predictor.kernel is None:
        raise JaxddError(
            f"method {method!r} has no kernel that could be evaluated without training; use quick or full."
        )


def build_model(name: str | None, dataset: data.Dataset) -> Network | None:
    """A network for a data set by its name; None for None."""
    return None if name is None else models.build(name, dataset.image_shape, dataset.num_classes)


def curve(
    how: str,
    product: Distilled,
    predictor: evaluation.Predictor | None,
    held_out: Examples | None,
    *,
    model: str,
    dataset: data.Dataset,
    key: Key,
    networks: bool = True,
) -> Curve | None:
    """How iterates are validated; None if they are not.

    Args:
      how: "auto", by the kernel of a product that predicts with one in closed form, else as "network" at five points of
        the run, or not at all where that cannot be; "network", by one network trained on the iterate, as the set is
        meant to be trained on ("as-distilled") or else by "quick" at its single rate; "none".
      product: a set of the run, or its shapes.
      held_out: training data that the run does not see, if there are any. Networks are scored on at most 2,000.
      model: of the network.
      key: of the network, the same at every step.
      networks: whether "auto" may train any.

    Raises:
      JaxddError: for "network" where nothing is held out, or where that network cannot be trained on the set.
    """
    if how == "network":
        try:
            return _by_network(product, held_out, model=model, dataset=dataset, key=key)
        except JaxddError as error:
            raise JaxddError(f"config.run.validate is 'network', but {error}") from error
    if how == "none" or held_out is None:
        return None
    name = None if product.kernel is None else dict(product.kernel)["name"]
    if predictor is not None and name in kernels.NAMES:
        return Curve("kernel_accuracy", lambda distilled: evaluation.kernel_accuracy(predictor, distilled, held_out))
    if not networks or product.label_convention == "features":
        return None
    try:
        found = _by_network(product, held_out, model=model, dataset=dataset, key=key)
    except JaxddError as error:
        _LOG.warning("no validation curve: %s", error)
        return None
    return dataclasses.replace(found, points=_POINTS)


def _by_network(product: Distilled, held_out: Examples | None, *, model: str, dataset: data.Dataset, key: Key) -> Curve:
    if held_out is None:
        raise JaxddError("no data are held out: hold some out (data.validation=0.1), or leave it at 'auto'.")
    if product.label_convention == "features":
        raise JaxddError("this method's labels know no classes: take 'none'.")
    network = models.build(model, dataset.image_shape, dataset.num_classes)
    own = product.plan is not None and product.learning_rates is not None
    protocol = evaluation.protocols.get("as-distilled" if own else "quick").without_validation()
    evaluation.check_trainable(network, product, protocol)
    some = evaluation.selection_examples(held_out)

    def score(distilled: Distilled) -> float:
        # Off the run's mesh: one program on one device then serves here and at the end.
        distilled = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), distilled)
        return evaluation.evaluate(network, distilled, None, some, protocol, num_networks=1, key=key).mean

    return Curve("accuracy", score, f"one network: {model}, protocol {protocol.name}")
