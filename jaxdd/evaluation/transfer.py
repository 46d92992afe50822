"""What a set without labels is worth: networks that were pretrained on it, in the tasks that they are then put to."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd import _progress, _stopping
from jaxdd._jax import key_of
from jaxdd.errors import JaxddError
from jaxdd.evaluation.accuracy import accuracy
from jaxdd.evaluation.arrays import check_in_memory
from jaxdd.training import Fitted, Protocol, check_trainable, fit, protocols, seen
from jaxdd.types import Array, Distilled, Examples, HostArray, Key, Network, NetworkState, PyTree, RealData

RIDGES = tuple(10.0**k for k in range(1, -8, -1))
"""Of a linear probe, relative to the mean variance of the features."""
_HELD_OUT = 10  # every tenth training example chooses the ridge


class Pretrained(NamedTuple):
    """Networks before they are put to a task.

    Attributes:
      name: of their row: "distilled", "random real", "random initialisation" or "encoder".
      network: what they are.
      states: theirs, stacked along a first axis.
      num_images, num_bits: of the set that each was pretrained on, if there is one.
      protocol: its name, likewise.
    """

    name: str
    network: Network
    states: NetworkState
    num_images: int | None = None
    num_bits: int | None = None
    protocol: str | None = None


@dataclasses.dataclass(frozen=True)
class TransferRow:
    """One line of a comparison of pretrained networks.

    Attributes:
      name: see `Pretrained`.
      data: the name of the data set on which they are measured.
      num_images, num_bits: of a set behind the row; None where there is none.
      probe: test accuracies of linear probes of their frozen features, fractions, one for each network.
      fine_tuned: of the networks after they were trained on, likewise; () if they were not.
      protocol: of pretraining.
      fine_tuning: the protocol of that training, None if there was none.
    """

    name: str
    data: str
    num_images: int | None
    num_bits: int | None
    probe: tuple[float, ...]
    fine_tuned: tuple[float, ...] = ()
    protocol: str | None = None
    fine_tuning: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: what tables and records show of a row; spreads (ddof=1) are None for a single network."""
        return {
            "name": self.name,
            "data": self.data,
            "num_images": self.num_images,
            "bits": self.num_bits,
            "probe_mean": float(np.mean(self.probe)),
            "probe_std": _spread(self.probe),
            "fine_tuned_mean": float(np.mean(self.fine_tuned)) if self.fine_tuned else None,
            "fine_tuned_std": _spread(self.fine_tuned),
            "networks": len(self.probe),
            "protocol": self.protocol,
            "fine_tuning": self.fine_tuning,
        }


def _spread(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def pretrain(
    network: Network,
    distilled: Distilled,
    images: Array | HostArray,
    targets: Array | HostArray,
    protocol: str | Protocol = "krr-st",
    *,
    key: Key,
    num_networks: int = 5,
    encoder: tuple[Network, NetworkState] | None = None,
) -> list[Pretrained]:
    """Networks that are pretrained on a distilled set by regression, and what they stand beside.

    These are networks pretrained the same way on as many random real images with the encoder's features of them, a draw
    for each network; the same networks as they were initialised; and the encoder itself, a single one. The i-th network
    of each starts from the same key.

    Args:
      network: with as many outputs as the set has features.
      distilled: with labels that are features.
      images: `(n, h, w, c)`, the real ones, in the set's space.
      targets: `(n, d)` or longer: row i is the encoder's features of image i.
      protocol: of pretraining, with a single learning rate, or a `fallback`.
      encoder: network and numbers; None leaves its row out.

    Raises:
      JaxddError: for a set with other labels, a network with other outputs, fewer real images than distilled ones, or
        as `Protocol.without_validation`.
    """
    protocol = check_pretraining(network, distilled, protocol)
    count = len(distilled.images)
    if count > len(images):
        raise JaxddError(f"{count} random real images were asked for, but there are {len(images)}.")
    key_draw, key_train = jax.random.split(key)
    keys = jax.random.split(key_train, num_networks)
    draws = [_drawn(each, len(images), count) for each in jax.random.split(key_draw, num_networks)]
    random = [(jnp.asarray(images[rows]), jnp.asarray(targets[rows])) for rows in draws]

    def trained(sets: list[tuple[Array, Array]]) -> NetworkState:
        images, labels = (jnp.stack(leaves) for leaves in zip(*sets, strict=True))
        members = np.arange(num_networks) % len(sets)
        rates = np.full(num_networks, protocol.learning_rates[0], np.float32)
        found = []
        for rows in _side_by_side(num_networks):
            with _progress.phase(f"network {rows[0] + 1} of {num_networks}"):
                how = {"label_convention": "features", "sets": members[rows]}
                found.append(fit(network, images, labels, protocol, rates[rows], keys[rows], **how))
        return _joined([NetworkState(each.theta, each.stats) for each in found])

    bits = 32 * (distilled.images.size + distilled.labels.size)
    facts = {"num_images": count, "protocol": protocol.name}
    with _progress.phase("pretraining on distilled"):
        ours = trained([(jnp.asarray(distilled.images), jnp.asarray(distilled.labels))])
    with _progress.phase("pretraining on random real"):
        theirs = trained(random)
    rows = [
        Pretrained("distilled", network, ours, num_bits=distilled.num_bits or bits, **facts),
        Pretrained("random real", network, theirs, num_bits=bits, **facts),
        Pretrained("random initialisation", network, NetworkState(*jax.lax.map(network.init, keys))),
    ]
    if encoder is not None:
        of_encoder, state = encoder
        rows.append(Pretrained("encoder", of_encoder, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], state)))
    return rows


def check_pretraining(network: Network, distilled: Distilled, protocol: str | Protocol) -> Protocol:
    """Check, by shapes alone, that a network can be pretrained on a set; the protocol with the rate that it will have.

    Args:
      distilled: a set, or its shapes.

    Raises:
      JaxddError: as `pretrain`.
    """
    protocol = protocols.get(protocol).without_validation()
    if distilled.label_convention != "features":
        raise JaxddError(
            f"networks are pretrained on labels that are features, and this set's are {distilled.label_convention}: "
            "`evaluate` measures it."
        )
    check_trainable(network, distilled, protocol)
    theta, stats = jax.eval_shape(network.init, key_of(0))
    outputs, _ = jax.eval_shape(network.apply, theta, distilled.images, stats)
    if outputs.shape[-1] != distilled.labels.shape[-1]:
        raise JaxddError(
            f"the network has {outputs.shape[-1]} outputs and the set {distilled.labels.shape[-1]} features: they must "
            "be as many."
        )
    return protocol


def _drawn(key: Key, count: int, size: int) -> np.ndarray:
    return np.asarray(jax.random.choice(key, count, (size,), replace=False))


def _side_by_side(count: int) -> list[np.ndarray]:
    """Networks one after the other on CPUs, all at once on accelerators."""
    return np.array_split(np.arange(count), count if jax.default_backend() == "cpu" else 1)


def _joined(states: Sequence[NetworkState]) -> NetworkState:
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *states)


def transfer(
    pretrained: Sequence[Pretrained],
    train: RealData,
    test: Examples,
    *,
    name: str,
    key: Key,
    fine_tuning: str | Protocol | None = None,
) -> list[TransferRow]:
    """Measure pretrained networks on a data set: by linear probes and, if asked for, by fine-tuning.

    A probe is ridge regression, in closed form, from features in evaluation mode, standardised, to centred one-hot
    labels of all training examples. Its ridge is the one of `RIDGES` that is best on every tenth training example when
    it is fitted to the others; then it is fitted to all. Fine-tuning trains the whole network and a new linear head,
    which starts from zero, by cross-entropy.

    Args:
      train, test: in the space that the networks were pretrained in, of their image shape.
      name: of the data.
      fine_tuning: a protocol with a single rate; it needs all training images in memory.

    Raises:
      JaxddError: for images of another shape than the networks take, fine-tuning on data that stay on the host, or as
        `Protocol.without_validation`.
    """
    labels, classes = np.asarray(train.labels.values), train.labels.num_classes
    protocol = None if fine_tuning is None else protocols.get(fine_tuning).without_validation()
    if protocol is not None:
        check_in_memory(train.images, "networks that are fine-tuned")
    rows = []
    for group in pretrained:
        _stopping.check()
        count = len(jax.tree.leaves(group.states)[0])
        states = [jax.tree.map(lambda leaf, i=i: leaf[i], group.states) for i in range(count)]
        probes, tuned = [], ()
        with _progress.phase(f"evaluating {group.name}"):
            for number, state in enumerate(states, 1):
                with _progress.phase(f"probe {number} of {count}"):
                    ours, theirs = (seen(group.network, state, each.images).features for each in (train, test))
                    probes.append(linear_probe(ours, labels, theirs, np.asarray(test.labels), classes))
            if protocol is not None:
                with _progress.phase("fine-tuning"):
                    tuned = tuple(float(a) for a in _fine_tuned(group, train, test, protocol, key))
        rows.append(
            TransferRow(
                group.name,
                name,
                group.num_images,
                group.num_bits,
                tuple(probes),
                tuned,
                group.protocol,
                None if protocol is None else protocol.name,
            )
        )
    return rows


def linear_probe(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    num_classes: int,
    *,
    ridges: Sequence[float] = RIDGES,
) -> float:
    """Test accuracy of ridge regression on features, a fraction, see `transfer`.

    Args:
      train, test: features `(n, d)`, `(m, d)`.
      labels, test_labels: class numbers `(n,)`, `(m,)`.
      ridges: to choose from, relative to the mean variance of the features; the first of equally good ones.

    Raises:
      JaxddError: for features that are not finite.
    """
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise JaxddError("a linear probe needs finite features: the network has diverged in pretraining.")
    held_out = (
        np.arange(len(train)) % _HELD_OUT == 0 if len(ridges) > 1 and len(train) > 1 else np.zeros(len(train), bool)
    )
    best = ridges[0]
    if held_out.any():
        fitted = _Regression(train[~held_out], labels[~held_out], num_classes)
        scores = [np.mean(fitted.predict(train[held_out], ridge) == labels[held_out]) for ridge in ridges]
        best = ridges[int(np.argmax(scores))]
    return float(np.mean(_Regression(train, labels, num_classes).predict(test, best) == test_labels))


class _Regression:
    """Ridge regression to centred one-hot labels, for any ridge once the moments are there; in float64."""

    def __init__(self, x: np.ndarray, labels: np.ndarray, num_classes: int):
        self.mean = x.mean(0, dtype=np.float64)
        deviation = np.sqrt(np.square(x - self.mean).mean(0, dtype=np.float64))
        # What does not vary says nothing; dividing by its rounding error would let it speak.
        varies = deviation > 1e-6 * (np.abs(self.mean) + deviation.max(initial=0))
        self.scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0)
        y = np.eye(num_classes)[labels]
        self.shift = y.mean(0)
        gram, cross = np.zeros((x.shape[1], x.shape[1])), np.zeros((x.shape[1], num_classes))
        for start in range(0, len(x), 10_000):
            rows = self.standardised(x[start : start + 10_000])
            gram += rows.T @ rows
            cross += rows.T @ (y[start : start + 10_000] - self.shift)
        self.values, self.vectors = np.linalg.eigh(gram / len(x))
        self.cross = self.vectors.T @ cross / len(x)

    def standardised(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean) * self.scale

    def predict(self, x: np.ndarray, ridge: float) -> np.ndarray:
        """Class numbers."""
        damped = np.maximum(self.values, 0) + ridge
        weights = self.vectors @ (self.cross / damped[:, None])
        return (self.standardised(x) @ weights + self.shift).argmax(1)


def _fine_tuned(group: Pretrained, train: RealData, test: Examples, protocol: Protocol, key: Key) -> np.ndarray:
    """Test accuracies of the networks of a group, trained on with a new head."""
    network = with_new_head(group.network, train.images.shape[1:], train.labels.num_classes)
    count = len(jax.tree.leaves(group.states)[0])
    heads = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape)), jax.eval_shape(network.init, key)[0]["head"])
    start = NetworkState({"body": group.states.theta, "head": heads}, group.states.stats)
    keys = jax.random.split(key, count)
    found = []
    for rows in _side_by_side(count):
        trained: Fitted = fit(
            network,
            train.images[None],
            train.labels.values[None],
            protocol,
            np.full(len(rows), protocol.learning_rates[0], np.float32),
            keys[rows],
            start=jax.tree.map(lambda leaf, rows=rows: leaf[rows], start),
        )
        found.append(accuracy(network, trained, test))
    return np.concatenate(found)


@functools.lru_cache(maxsize=64)
def with_new_head(network: Network, image_shape: tuple[int, int, int], num_classes: int) -> Network:
    """A network whose logits are a linear map of another one's features; it starts from zero.

    Its theta is `{"body": the other's, "head": {"kernel", "bias"}}`. Equal arguments give the same Network, so that
    compiled programs are reused.
    """

    def init(key: Key) -> tuple[PyTree, PyTree]:
        body, stats = network.init(key)
        image = jax.ShapeDtypeStruct((1, *image_shape), np.float32)
        width = jax.eval_shape(network.features, body, image, stats)[0].shape[-1]
        return {
            "body": body,
            "head": {"kernel": jnp.zeros((width, num_classes)), "bias": jnp.zeros(num_classes)},
        }, stats

    def seen(theta: PyTree, images: Array, stats: PyTree, *, mode: str, key: Key | None) -> tuple[Array, PyTree]:
        return network.features(theta["body"], images, stats, mode=mode, key=key)

    def apply(theta: PyTree, images: Array, stats: PyTree, *, mode: str, key: Key | None) -> tuple[Array, PyTree]:
        found, stats = seen(theta, images, stats, mode=mode, key=key)
        head = theta["head"]
        return found @ head["kernel"] + head["bias"][None], stats

    return Network(init, apply, seen)
