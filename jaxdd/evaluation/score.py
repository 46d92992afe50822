"""The accuracy of networks trained on a distilled set."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import _progress, _stopping
from jaxdd.errors import JaxddError
from jaxdd.evaluation.accuracy import feature_regression, predictions, share_right
from jaxdd.evaluation.arrays import check_has_classes, every, rows_of
from jaxdd.evaluation.confusion import Confusion
from jaxdd.evaluation.kernel import Predictor
from jaxdd.losses import centred_labels
from jaxdd.training import Fitted, Protocol, fit, fit_as_distilled, protocols
from jaxdd.types import Distilled, Examples, Key, Network, NetworkState

# Enough to tell learning rates apart (standard error 1 % and shared by all of them), a third of a usual split.
SELECTION_EXAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Score:
    """Test accuracies of freshly trained networks at their last step, or of their weights' average (see `Protocol`).

    Attributes:
      accuracies: fractions, one for each network.
      learning_rate: the one they were trained with, or the factor of the learned ones.
      protocol: its name.
      selected_on: "validation" if the learning rate was chosen there, "none" if it is fixed.
      selection: `(learning rate, mean validation accuracy)` of each candidate.
      kernel_accuracies: of kernel ridge regression on the features of the same networks, if it was asked for.
      fell_back: whether the protocol would have chosen, and took its `fallback`, as there were no validation data.
      confusion: which classes were taken for which, by all networks together; None of a score from a cache.
      kernel_confusion: likewise, by regression on their features, if it was asked for.
    """

    accuracies: tuple[float, ...]
    learning_rate: float
    protocol: str
    selected_on: str = "none"
    selection: tuple[tuple[float, float], ...] = ()
    kernel_accuracies: tuple[float, ...] = ()
    fell_back: bool = False
    confusion: Confusion | None = dataclasses.field(default=None, compare=False)
    kernel_confusion: Confusion | None = dataclasses.field(default=None, compare=False)

    @property
    def mean(self) -> float:
        return float(np.mean(self.accuracies))

    @property
    def std(self) -> float:
        """Sample standard deviation over networks (ddof=1); 0 for a single one."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else 0.0

    @property
    def standard_error(self) -> float:
        """Of the mean."""
        return self.std / math.sqrt(len(self.accuracies))


def evaluate(
    network: Network,
    distilled: Distilled | Sequence[Distilled],
    validation: Examples | None,
    test: Examples,
    protocol: str | Protocol = "default",
    *,
    num_networks: int = 5,
    key: Key,
    networks_per_batch: int | None = None,
    predictor: Predictor | None = None,
) -> Score:
    """Train fresh networks on a set and measure them on test data, both in the space the set is in.

    Where the protocol leaves a choice of learning rates, other networks are trained with each, and the best mean
    accuracy on (2,000 evenly spaced examples of) `validation` decides; without such data it is the protocol's
    `fallback`. A rate that diverges is measured like any other. The same arguments give the same numbers.

    Args:
      distilled: a set, or several of equal size, over which the networks are then spread in turn.
      validation: held-out real data, never test data.
      num_networks: networks that are measured.
      networks_per_batch: how many train side by side; one on CPUs and all on accelerators by default.
      predictor: of a kernel method; if its kernel is that of trained networks' features, regression on those of the
        networks here is measured too.

    Raises:
      JaxddError: for an unknown protocol, a protocol that has to select without `validation`, sets and test data
        that do not fit together, or a set without classes, whose labels are features.
    """
    given = protocols.get(protocol)
    held_out = validation if validation is not None and len(validation.labels) else None
    protocol = given.without_validation() if held_out is None else given
    sets = [distilled] if isinstance(distilled, Distilled) else list(distilled)
    _check(sets, validation, test, num_networks)
    if protocol.as_distilled and sets[0].theta0 is not None:
        num_networks = min(num_networks, len(sets))  # one initialisation and no chance: once for each set
    images = jnp.stack([jnp.asarray(s.images, jnp.float32) for s in sets])
    labels = jnp.stack([jnp.asarray(s.labels) for s in sets])
    num_classes = labels.shape[2] if labels.ndim == 3 else int(max(labels.max(), np.max(test.labels))) + 1

    per_batch = networks_per_batch or (1 if jax.default_backend() == "cpu" else num_networks)

    def trained(rate: float, keys: Key, chosen: np.ndarray) -> Fitted | NetworkState:
        """Networks side by side, each on one of the sets."""
        rates = np.full(len(chosen), rate)
        if protocol.as_distilled:
            return fit_as_distilled(network, sets, rates, keys, members=chosen)
        # Only the sets that are trained on: then one program serves one set, and several in turn.
        those, index = np.unique(chosen, return_inverse=True)
        how = {"label_convention": sets[0].label_convention, "labelling": sets[0].labelling, "sets": index}
        return fit(network, rows_of(images, those), rows_of(labels, those), protocol, rates, keys, **how)

    def measure(
        rate: float, keys: Key, data: Examples, predictor: Predictor | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Predicted classes `(len(keys), n)`, by networks and, if asked for, by regression on their features."""
        predicted, regressed = [], []
        for start in range(0, len(keys), per_batch):
            _stopping.check()
            # A last incomplete batch is filled up, so that every batch runs the same program.
            members = np.minimum(np.arange(start, start + per_batch), len(keys) - 1)
            chosen = members % len(sets)
            with _progress.phase(f"network {start + 1} of {len(keys)}"):
                those = trained(rate, keys[members], chosen)
                predicted.append(predictions(network, those, data))
                if predictor is not None and predictor.kernel is None:
                    fitted = centred_labels(labels[chosen], sets[0].label_convention, num_classes)
                    solver = {"ridge": predictor.ridge, "float64": predictor.float64}
                    regressed.append(feature_regression(network, those, images[chosen], fitted, data, **solver))
        by_network, by_kernel = (np.concatenate(each)[: len(keys)] if each else None for each in (predicted, regressed))
        assert by_network is not None
        return by_network, by_kernel

    key_selection, key_measured = jax.random.split(key)
    rates = protocol.learning_rates
    best, selection = rates[0], ()
    if len(rates) > 1 and held_out is not None:
        some = selection_examples(held_out)
        keys = jax.random.split(key_selection, protocol.selection_networks)
        means = []
        for rate in rates:
            with _progress.phase(f"choosing the rate, {rate:g}"):
                means.append(float(share_right(measure(rate, keys, some)[0], some).mean()))
        best, selection = rates[int(np.argmax(means))], tuple(zip(rates, means, strict=True))
    predicted, by_kernel = measure(best, jax.random.split(key_measured, num_networks), test, predictor)
    return Score(
        accuracies=tuple(share_right(predicted, test).tolist()),
        learning_rate=best,
        protocol=protocol.name,
        selected_on="validation" if selection else "none",
        selection=selection,
        kernel_accuracies=() if by_kernel is None else tuple(share_right(by_kernel, test).tolist()),
        fell_back=protocol is not given,
        confusion=Confusion.of(test.labels, predicted, num_classes),
        kernel_confusion=None if by_kernel is None else Confusion.of(test.labels, by_kernel, num_classes),
    )


def selection_examples(held_out: Examples) -> Examples:
    """Evenly spaced ones of held-out data, at most 2,000: what a choice is made on."""
    return every(math.ceil(len(held_out.labels) / SELECTION_EXAMPLES), held_out)


def _check(sets: list[Distilled], validation: Examples | None, test: Examples, num_networks: int) -> None:
    if not sets or num_networks < 1:
        raise JaxddError(f"evaluation needs at least one set and one network, got {len(sets)} and {num_networks}.")
    for one in sets:
        check_has_classes(one)
        if np.shape(one.images) != np.shape(sets[0].images) or np.shape(one.labels) != np.shape(sets[0].labels):
            raise JaxddError("sets that are evaluated together must have equal shapes.")
    for kind, data in (("validation", validation), ("test", test)):
        if data is not None and np.shape(data.images)[1:] != np.shape(sets[0].images)[1:]:
            raise JaxddError(
                f"{kind} images are {np.shape(data.images)[1:]} but the distilled images are "
                f"{np.shape(sets[0].images)[1:]}: is this the data set they were distilled from?"
            )
