"""What a method's product says of how it can be scored: by its kernel, or by a network that is trained on it.

Everything here asks the product, a set or its shapes, and never the method's name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from jaxdd import data, evaluation, kernels, models
from jaxdd.errors import JaxddError
from jaxdd.types import Distilled, Examples, Key, Network


@dataclasses.dataclass(frozen=True)
class Curve:
    """Scores an iterate on held-out data, as `validate` of `engine.run`.

    Attributes:
      name: of the score, a fraction.
      score: of a set.
      measure: what the score is, in words; "" for the kernel's accuracy in closed form. Iterates are compared by one
        measure only, see `engine.run`.
    """

    name: str
    score: Callable[[Distilled], float]
    measure: str = ""

    def __call__(self, distilled: Distilled) -> dict[str, float]:
        return {self.name: self.score(distilled)}


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
) -> Curve | None:
    """How iterates are validated; None if they are not.

    Args:
      how: "auto", by the kernel of a product that predicts with one in closed form, else not at all; "network", by one
        network trained on the iterate, as the set is meant to be trained on ("as-distilled") or else by "quick" at its
        single rate; "none".
      product: a set of the run, or its shapes.
      held_out: training data that the run does not see, if there are any.
      model: of the network.
      key: of the network, the same at every step.

    Raises:
      JaxddError: for "network" where nothing is held out, or where that network cannot be trained on the set.
    """
    if how == "network":
        return _by_network(product, held_out, model=model, dataset=dataset, key=key)
    name = None if product.kernel is None else dict(product.kernel)["name"]
    if how == "none" or predictor is None or held_out is None or name not in kernels.NAMES:
        return None
    return Curve("kernel_accuracy", lambda distilled: evaluation.kernel_accuracy(predictor, distilled, held_out))


def _by_network(product: Distilled, held_out: Examples | None, *, model: str, dataset: data.Dataset, key: Key) -> Curve:
    if held_out is None:
        raise JaxddError(
            "config.run.validate is 'network', but no data are held out: hold some out (data.validation=0.1), or leave "
            "it at 'auto'."
        )
    if product.label_convention == "features":
        raise JaxddError("config.run.validate is 'network', but this method's labels know no classes: take 'none'.")
    network = models.build(model, dataset.image_shape, dataset.num_classes)
    own = product.plan is not None and product.learning_rates is not None
    protocol = evaluation.protocols.get("as-distilled" if own else "quick").without_validation()
    try:
        evaluation.check_trainable(network, product, protocol)
    except JaxddError as error:
        raise JaxddError(f"config.run.validate is 'network', but {error}") from error

    def score(distilled: Distilled) -> float:
        return evaluation.evaluate(network, distilled, None, held_out, protocol, num_networks=1, key=key).mean

    return Curve("accuracy", score, f"one network: {model}, protocol {protocol.name}")
