"""Which real examples one step sees: pure functions of a key and the labels, cheap inside `lax.scan`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdd._numbers import by_class, of_each, whole
from jaxdd.errors import JaxddError
from jaxdd.types import Array, Indices, Key, Labels

Sampler = Callable[[Key, Labels], Indices]


def balanced_sampler(batch_size: int) -> Sampler:
    """Class-balanced batches, with replacement: `sample(key, labels)` gives int32 `(batch_size,)`.

    Every class gets `batch_size // classes` places; the remaining places go to different classes drawn at random, so
    each class has the same expected number in every batch. Costs O(batch_size + classes).

    Raises:
      JaxddError: `batch_size` is not a positive integer; (while tracing) a class without examples.
    """
    whole(batch_size, "batch_size")

    def sample(key: Key, labels: Labels) -> Indices:
        _check_filled(labels)
        class_key, member_key = jax.random.split(key)
        shuffled = jax.random.permutation(class_key, labels.num_classes)
        classes = shuffled[np.arange(batch_size) % labels.num_classes]
        counts = jnp.asarray(labels.counts, jnp.int32)[classes]
        member = jax.random.randint(member_key, (batch_size,), 0, counts)
        return labels.order[jnp.asarray(labels.starts)[classes] + member]

    return sample


def class_sampler(per_class: int) -> Sampler:
    """As many examples of every class, in the order of the classes, with replacement.

    `sample(key, labels)` gives int32 `(classes * per_class,)`: what matching methods reshape to one batch a class.

    Raises:
      JaxddError: `per_class` is not a positive integer; (while tracing) a class without examples.
    """
    whole(per_class, "real examples of each class")

    def sample(key: Key, labels: Labels) -> Indices:
        _check_filled(labels)
        counts = np.asarray(labels.counts, np.int32)[:, None]
        member = jax.random.randint(key, (labels.num_classes, per_class), 0, counts)
        return labels.order[(labels.starts[:, None] + member).ravel()]

    return sample


def uniform_sampler(batch_size: int) -> Sampler:
    """Batches uniform over all examples, with replacement: `sample(key, labels)` gives int32 `(batch_size,)`."""
    whole(batch_size, "batch_size")

    def sample(key: Key, labels: Labels) -> Indices:
        return jax.random.randint(key, (batch_size,), 0, labels.values.shape[0], jnp.int32)

    return sample


def epoch_sampler(batch_size: int) -> Callable[[Key, Labels, Array], Indices]:
    """Batches of an order of all examples that is drawn anew for each epoch: `sample(key, labels, step)`.

    A last batch that is not whole is left out, as an epoch's `len // batch_size` steps do. The key is the same at every
    step.

    Raises:
      JaxddError: `batch_size` is not a positive integer; (while tracing) more than there are examples.
    """
    whole(batch_size, "batch_size")

    def sample(key: Key, labels: Labels, step: Array) -> Indices:
        count = labels.values.shape[0]
        if count < batch_size:
            raise JaxddError(f"an epoch of {count} examples has no batch of {batch_size}")
        batches = count // batch_size
        order = jax.random.permutation(jax.random.fold_in(key, step // batches), count).astype(jnp.int32)
        return jax.lax.dynamic_slice_in_dim(order, step % batches * batch_size, batch_size)

    return sample


def balanced_choice(key: Key, labels: Labels, per_class: int | Sequence[int]) -> Indices:
    """`per_class` different examples of each class, sorted by class: int32 `(classes * per_class,)`.

    Sorts all labels once; meant for initialisation, not for every step. By one key fewer examples of a class are among
    the more.

    Args:
      per_class: one number for all classes, or one for each, which may be 0: then int32 `(sum(per_class),)`.

    Raises:
      JaxddError: `per_class` is not an integer of at least 1, has not one for each class, or is larger than a class.
    """
    counts = of_each(by_class(per_class, "images per class", least=0), labels.num_classes, "images per class")
    _check_filled(labels, counts)
    scarcest = int(np.argmin(np.subtract(labels.counts, counts)))
    if counts[scarcest] > labels.counts[scarcest]:
        raise JaxddError(
            f"images per class is {counts[scarcest]}, but class {scarcest} has only {labels.counts[scarcest]} examples"
        )
    return _chosen(key, labels, counts)


@functools.partial(jax.jit, static_argnums=2)  # one program, not one for each operation, where nothing else is compiled
def _chosen(key: Key, labels: Labels, counts: tuple[int, ...]) -> Indices:
    scores = jax.random.bits(key, labels.order.shape)
    shuffled = jnp.lexsort((scores, labels.values[labels.order]))  # within each class; classes stay in place
    first = [start + np.arange(count) for start, count in zip(labels.starts, counts, strict=True)]
    return labels.order[shuffled[np.concatenate(first)]]


def _check_filled(labels: Labels, wanted: Sequence[int] | None = None) -> None:
    """Raises JaxddError for a class without examples of which some are wanted; by default of every class."""
    for k, count in enumerate(labels.counts):
        if not count and (wanted is None or wanted[k]):
            raise JaxddError(f"class {k} has no examples")
