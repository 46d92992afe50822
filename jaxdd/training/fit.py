"""Fresh networks trained on sets that lie in memory, several at once."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxdd import inner, losses
from jaxdd._jax import key_of
from jaxdd.data import augmentation
from jaxdd.errors import JaxddError, unknown
from jaxdd.synthetic import label_codec, labels_of
from jaxdd.training import protocols
from jaxdd.training.as_distilled import check_as_distilled
from jaxdd.training.protocols import Protocol
from jaxdd.training.schedules import optimizer_of
from jaxdd.training.step import TrainingState, train_step
from jaxdd.types import (
    LABEL_CONVENTIONS,
    Array,
    Distilled,
    Draws,
    Key,
    Labelling,
    Network,
    NetworkState,
    PyTree,
    Record,
)


class Fitted(NamedTuple):
    """Trained networks, stacked along a first axis."""

    theta: PyTree
    """At the last step, or the average of the weights if the protocol says so."""
    stats: PyTree
    """Of the last step."""
    rows: PyTree = None
    """What was recorded, `(networks, rows, ..)`."""


def fit(
    network: Network,
    images: Array,
    labels: Array,
    protocol: str | Protocol,
    learning_rates: ArrayLike,
    keys: Key,
    *,
    label_convention: str | None = None,
    labelling: Labelling | None = None,
    teacher_logits: ArrayLike | None = None,
    sets: ArrayLike | None = None,
    record: Record | None = None,
    start: NetworkState | None = None,
) -> Fitted:
    """Train fresh networks side by side; the i-th starts from `keys[i]`, with peak rate `learning_rates[i]`.

    One compiled program for one (network, protocol, shapes, record), whatever the rates and keys. A run that is to show
    progress, stop and go on is a stage instead, `supervised`.

        key = key_of(0)
        weights = Record(10, lambda state: state.network.theta)
        fitted = fit(network, images[None], labels[None], "dc", [0.01], key[None], record=weights)

    Args:
      images: `(s, m, h, w, c)`, one or more sets of equal size.
      labels: `(s, m)` or `(s, m, classes)`; targets `(s, m, d)` of a network with d outputs for "features".
      protocol: a name or one of one's own; its `learning_rates` play no part.
      learning_rates: `(k,)`.
      keys: `(k,)`.
      label_convention: of the labels, see `types.Labelling`; "hard" or "probability" by default, as their shape says.
      labelling: of the sets, where it has labels of views: then networks are trained with these instead, or by a
        protocol that learns from labels and a teacher with these beside the labels, which must be class numbers: a
        set whose labels are its teacher's has no others. Class numbers beside a teacher are what all other losses but
        "distillation" learn from. A codec with one label an image plays no part: `labels` are those.
      teacher_logits: `(s, m, classes)`, what a teacher makes of each image, for such a protocol where there are no
        labels of views. They are of the images as they are, whatever the protocol's augmentation does.
      sets: int `(k,)`, the set of each network; the first for all by default.
      record: rows of a `TrainingState` to keep of each network, one at a time, the first before any step.
      start: where networks start from instead of fresh: stacked along a first axis, `k` of them.

    Raises:
      JaxddError: for an unknown protocol, one that trains as a set was distilled for (`fit_as_distilled` does) or one
        whose loss cannot use labels of this convention; for labels or logits of another shape, for a teacher that is
        missing or that the loss has no use for; for numbers of rates, keys and sets that differ, and for sets that are
        none.
    """
    protocol = protocols.get(protocol)
    if protocol.as_distilled:
        raise JaxddError(f"protocol {protocol.name!r} trains as a set was distilled for: call `fit_as_distilled`.")
    convention = label_convention or ("hard" if np.ndim(labels) == 2 else "probability")
    if convention not in LABEL_CONVENTIONS:
        raise unknown("label convention", convention, LABEL_CONVENTIONS)
    views = labelling if labelling is not None and _of_views(labelling) else None
    _check_loss(protocol, convention, of_views=views is not None)
    _check_parts(protocol, np.shape(images)[1])
    if np.shape(labels)[:2] != np.shape(images)[:2] or np.ndim(labels) != (2 if convention == "hard" else 3):
        expected = "(sets, images)" if convention == "hard" else "(sets, images, classes)"
        raise JaxddError(
            f"labels of the convention {convention!r} must be {expected} for images (sets, images, h, w, c), got "
            f"{np.shape(labels)} for {np.shape(images)}."
        )
    _check_taught(protocol, np.shape(images), teacher_logits, convention, of_views=views is not None)
    indices = np.zeros(len(keys), np.int32) if sets is None else np.asarray(sets, np.int32)
    rates = np.asarray(learning_rates, np.float32)
    if not indices.shape == rates.shape == (len(keys),):
        raise JaxddError(f"{len(keys)} keys need as many learning rates and sets, got {rates.shape}, {indices.shape}.")
    if not ((indices >= 0) & (indices < len(images))).all():
        raise JaxddError(f"networks are trained on sets 0 to {len(images) - 1}, got {indices.tolist()}.")
    if start is not None and not all(len(leaf) == len(keys) for leaf in jax.tree.leaves(start)):
        raise JaxddError(f"{len(keys)} keys need as many networks to start from, stacked along a first axis.")
    return _fit(
        images,
        labels,
        rates,
        keys,
        indices,
        views.stored if views is not None else {},
        start,
        teacher_logits,
        network=network,
        protocol=_trained_by(protocol),
        convention=convention,
        codec=views.codec if views is not None else None,
        record=record,
    )


def _trained_by(protocol: Protocol) -> Protocol:
    """What a program depends on: neither names nor how a rate is chosen, so that a fixed one compiles nothing anew."""
    return dataclasses.replace(
        protocol, name="", description="", learning_rates=(1.0,), fallback=None, selection_networks=1
    )


def check_trainable(network: Network, distilled: Distilled, protocol: Protocol) -> None:
    """Check, by shapes alone, that a network can be trained on a set by a protocol.

    Args:
      distilled: a set, or its shapes.

    Raises:
      JaxddError: if it cannot, or as the network itself says.
    """
    theta, stats = jax.eval_shape(network.init, key_of(0))
    jax.eval_shape(lambda theta, images, stats: network.apply(theta, images, stats), theta, distilled.images, stats)
    if protocol.as_distilled:
        check_as_distilled(network, distilled)
    else:
        images, of_views = (1, *np.shape(distilled.images)), _of_views(distilled.labelling)
        _check_loss(protocol, distilled.label_convention, of_views=of_views)
        _check_parts(protocol, len(distilled.images))
        _check_taught(protocol, images, None, distilled.label_convention, of_views=of_views)


def _of_views(labelling: Labelling) -> bool:
    """Whether there is one label a view, and not one an image."""
    return labelling.codec is not None and label_codec(labelling.codec).per_view


def _check_parts(protocol: Protocol, num_examples: int) -> None:
    if min(protocol.batch_size, num_examples) % protocol.sub_batches:
        raise JaxddError(
            f"protocol {protocol.name!r} takes batches in {protocol.sub_batches} parts, and this set has "
            f"{num_examples} examples, fewer than a batch."
        )


def _check_loss(protocol: Protocol, label_convention: str, *, of_views: bool) -> None:
    if protocol.loss in ("cross_entropy", *protocols.TAUGHT) and label_convention in ("centred", "features"):
        what = "centred labels" if label_convention == "centred" else "features"
        raise JaxddError(f"protocol {protocol.name!r} trains with cross-entropy, which cannot use {what}.")
    if protocol.loss == "distillation" and label_convention != "probability" and not of_views:
        raise JaxddError(
            f"protocol {protocol.name!r} trains on a teacher's probabilities, and these labels are {label_convention}."
        )


def _check_taught(
    protocol: Protocol, images: tuple[int, ...], logits: ArrayLike | None, convention: str, *, of_views: bool
) -> None:
    """Check that there is a teacher where, and only where, a protocol learns from one beside labels."""
    if protocol.loss not in protocols.TAUGHT:
        if logits is not None:
            raise JaxddError(
                f"protocol {protocol.name!r} has no use for teacher_logits: its loss is {protocol.loss!r}, and none of "
                f"{', '.join(protocols.TAUGHT)}."
            )
        return
    if (logits is not None) == of_views:
        needs = "labels of views (labels=both of a method), or teacher_logits" + (", and not both" if of_views else "")
        raise JaxddError(f"protocol {protocol.name!r} learns from a teacher beside class numbers and needs {needs}.")
    if of_views and convention != "hard":
        raise JaxddError(
            f"protocol {protocol.name!r} learns from class numbers beside a teacher's labels of views, and these "
            f"labels are {convention}, the teacher's own: give class numbers, or take the loss 'distillation'."
        )
    if logits is None:
        return
    if np.ndim(logits) != 3 or np.shape(logits)[:2] != images[:2]:
        raise JaxddError(f"teacher_logits must be (sets, images, classes) for images {images}, got {np.shape(logits)}.")
    if protocol.cutmix or protocol.mixup:
        raise JaxddError(
            f"protocol {protocol.name!r} mixes images, of which stored logits know nothing; labels of views do."
        )


@functools.partial(jax.jit, static_argnames=("network", "protocol", "convention", "codec", "record"))
def _fit(
    images,
    labels,
    learning_rates,
    keys,
    sets,
    stored,
    start=None,
    teacher_logits=None,
    *,
    network,
    protocol,
    convention,
    codec,
    record=None,
):
    num_examples = images.shape[1]
    num_steps = protocol.num_steps(num_examples)
    batch_size = min(protocol.batch_size, num_examples)
    batches = num_examples // batch_size
    by_convention = protocol.loss == "auto" and convention in ("centred", "features")
    squared = protocol.loss in ("squared_error", "mean_squared_error") or by_convention
    augment = None if protocol.augmentation == "none" else augmentation.named(protocol.augmentation)
    decay = protocol.weight_average
    mixed = protocol.cutmix or protocol.mixup
    beside = codec is not None and convention == "hard"  # the labels are class numbers, and a teacher stands beside
    of_views = Labelling(labels, convention, codec=codec, stored=stored)
    if mixed and convention == "hard":
        theta, stats = jax.eval_shape(network.init, keys[0])
        logits, _ = jax.eval_shape(network.apply, theta, images[0], stats)
        labels, convention = jax.nn.one_hot(labels, logits.shape[-1]), "probability"

    def changed(key, batch, rows):
        """A batch as networks see it."""
        images, labels, teacher = batch
        key_augment, key_mix = jax.random.split(key)
        if augment is not None:
            images = augment.apply(images, augment.draw(key_augment, len(images)))
        if protocol.cutmix:
            images, labels = augmentation.cutmix(key_mix, images, labels, probability=protocol.cutmix)
        elif protocol.mixup:
            # A teacher's labels of images are mixed as its logits are, which at a high temperature is another thing.
            logits = protocol.loss == "distillation" and codec is None
            given = _logarithms(labels) if logits else labels
            images, mixture = augmentation.mixup(key_mix, images, given, beta=protocol.mixup)
            labels = jax.nn.softmax(mixture) if logits else mixture
        asked = protocol.loss in ("distillation", *protocols.TAUGHT)
        if codec is not None and (asked or not beside):
            found = jnp.concatenate([labels_of(of_views, *part) for part in in_parts((images, Draws(rows)))])
            if protocol.loss in protocols.TAUGHT:
                logarithms = _logarithms(found)
                teacher = logarithms - logarithms.mean(-1, keepdims=True)
            else:
                labels = found
        return images, labels, teacher

    def in_parts(batch):
        """What sees each other of a batch, part after part."""
        size = batch_size // protocol.sub_batches
        starts = range(0, batch_size, size)
        return [jax.tree.map(lambda leaf, first=first: leaf[first : first + size], batch) for first in starts]

    def objective(batch, key):
        if protocol.sub_batches == 1:
            return of_part(batch, key)

        def loss(theta, stats):
            values = []
            for number, part in enumerate(in_parts(batch)):
                value, (stats, _) = of_part(part, jax.random.fold_in(key, number))(theta, stats)
                values.append(value)
            return jnp.stack(values).mean(), (stats, ())

        return loss

    def of_part(batch, key):
        images, labels, teacher = batch

        def loss(theta, stats):
            logits, stats = network.apply(theta, images, stats, mode="train", key=key)
            if squared:
                features = convention == "features"
                goal = labels if features else losses.centred_labels(labels, convention, logits.shape[-1])
                mean = protocol.loss == "mean_squared_error"
                per_example = (losses.mean_squared_error if mean else losses.squared_error)(logits, goal)
            elif protocol.loss == "distillation":
                per_example = losses.distillation(logits, _logarithms(labels), temperature=protocol.temperature)
                per_example = per_example * (protocol.temperature**2 if protocol.squared else 1)
            elif protocol.loss == "taught":
                share, temperature = protocol.teacher_share, protocol.temperature
                per_example = losses.taught(logits, labels, teacher, share=share, temperature=temperature)
            elif protocol.loss in protocols.TAUGHT:
                per_example = getattr(losses, protocol.loss)(
                    logits, labels, teacher, label_weight=protocol.label_weight
                )
            else:
                per_example = losses.cross_entropy(logits, labels)
            return per_example.mean(), (stats, ())

        return loss

    def fit_one(arguments):
        index, learning_rate, key, first = arguments
        key_init, key_order, key_apply = jax.random.split(key, 3)
        optimizer = optimizer_of(protocol, learning_rate, num_examples)
        held = (images, labels, teacher_logits)
        whole = jax.tree.map(lambda leaf: leaf[index], held) if batch_size == num_examples else None

        def step(carry, t):
            state, average, order = carry
            if whole is None:
                position = t % batches
                # A new order at the start of an epoch only: sorting a large set costs more than a step.
                order = lax.cond(
                    position == 0,
                    lambda: jax.random.permutation(jax.random.fold_in(key_order, t), num_examples),
                    lambda: order,
                )
                chosen = lax.dynamic_slice_in_dim(order, position * batch_size, batch_size)
                batch = jax.tree.map(lambda leaf: leaf[index, chosen], held)
            else:
                chosen, batch = jnp.arange(num_examples), whole
            key_step = jax.random.fold_in(key_apply, t)
            if augment is not None or mixed or codec is not None:
                key_step, key_change = jax.random.split(key_step)
                batch = changed(key_change, batch, chosen)
            state, _ = train_step(objective(batch, key_step), optimizer, state)
            theta = state.network.theta
            average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, theta) if decay else ()
            return (state, average, order), None

        first = NetworkState(*network.init(key_init)) if first is None else first
        state = TrainingState.first(first, optimizer)
        average = jax.tree.map(jnp.zeros_like, state.network.theta) if decay else ()
        (state, average, _), rows = _scan(step, (state, average, jnp.arange(num_examples)), num_steps, record)
        theta, stats = state.network
        if decay:
            theta = jax.tree.map(lambda a: a / (1 - decay**num_steps), average)
        return Fitted(theta, stats, rows)

    return inner.each_network(fit_one, (sets, learning_rates, keys, start))


def _logarithms(probabilities: Array) -> Array:
    """Logits that have these."""
    return jnp.log(jnp.maximum(probabilities, jnp.finfo(probabilities.dtype).tiny))


def _scan(step, start, num_steps: int, record: Record | None):
    """The carry after all steps, and the rows of its first part, the state."""
    if record is None:
        return lax.scan(step, start, jnp.arange(num_steps))
    whole = num_steps // record.every

    def window(carry, number):
        carry, _ = lax.scan(step, carry, number * record.every + jnp.arange(record.every))
        return carry, record.of(carry[0])

    carry, rows = lax.scan(window, start, jnp.arange(whole))
    carry, _ = lax.scan(step, carry, jnp.arange(whole * record.every, num_steps))
    rows = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), record.of(start[0]), rows)
    chosen = record.multiples(num_steps)
    return carry, rows if len(chosen) == whole + 1 else jax.tree.map(lambda leaf: leaf[np.array(chosen)], rows)
